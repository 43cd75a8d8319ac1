//! The hash of a row's content: the same wherever the row lies, so that splits and samples are, too.
//!
//! Each column adds `low(bits) * A_c + high(bits) * B_c` modulo 2^32, with odd constants of its own; the
//! sum is scrambled at the end. It is fast because it vectorises: two multiplications for each double,
//! one for each single. (Multilinear hashing: Lemire and Kaser, *Strongly universal string hashing is
//! fast*, 2014; the finaliser is MurmurHash3's.)

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::fold::mix;

/// The hash of every row over all columns of the batch.
///
/// # Errors
/// When a column has a type that cannot be read as a number or a string.
pub fn hash_rows(batch: &RecordBatch) -> Result<UInt32Array> {
    let mut hashes = vec![0u32; batch.num_rows()];
    for (position, array) in batch.columns().iter().enumerate() {
        add_column(&mut hashes, array, Constants::of(position))?;
    }
    for hash in &mut hashes {
        *hash = scramble(*hash);
    }
    Ok(UInt32Array::from(hashes))
}

#[derive(Clone, Copy)]
struct Constants {
    low: u32,
    high: u32,
    null: u32,
}

impl Constants {
    fn of(position: usize) -> Self {
        let (a, b) = (mix(position as u32, 1), mix(position as u32, 2));
        Self { low: a as u32 | 1, high: (a >> 32) as u32 | 1, null: b as u32 }
    }

    #[inline]
    fn apply(self, bits: u64) -> u32 {
        (bits as u32).wrapping_mul(self.low).wrapping_add(((bits >> 32) as u32).wrapping_mul(self.high))
    }
}

fn add_column(hashes: &mut [u32], array: &ArrayRef, constants: Constants) -> Result<()> {
    match array.data_type() {
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>().values();
            add_each(hashes, array, constants, values, |v| v.to_bits().wrapping_mul(constants.low));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>().values();
            add_each(hashes, array, constants, values, |v| constants.apply(v.to_bits()));
        }
        DataType::Int32 => {
            let values = array.as_primitive::<Int32Type>().values();
            add_each(hashes, array, constants, values, |v| (v as u32).wrapping_mul(constants.low));
        }
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>().values();
            add_each(hashes, array, constants, values, |v| constants.apply(v as u64));
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Dictionary(_, _) => {
            let text = cast(array, &DataType::Utf8View)?;
            let text = text.as_string_view();
            for (row, hash) in hashes.iter_mut().enumerate() {
                let valid = text.is_valid(row);
                let term = if valid { constants.apply(xxh3_64(text.value(row).as_bytes())) } else { constants.null };
                *hash = hash.wrapping_add(term);
            }
        }
        // A column of nulls tells no row from another.
        DataType::Null => {}
        _ => return add_column(hashes, &cast(array, &DataType::Float64)?, constants),
    }
    Ok(())
}

/// Adds `term` of every value; the slot of a null may hold anything and adds a constant instead.
fn add_each<T: Copy>(
    hashes: &mut [u32],
    array: &ArrayRef,
    constants: Constants,
    values: &[T],
    term: impl Fn(T) -> u32,
) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => {
            for (hash, value) in hashes.iter_mut().zip(values) {
                *hash = hash.wrapping_add(term(*value));
            }
        }
        Some(nulls) => {
            for ((hash, value), valid) in hashes.iter_mut().zip(values).zip(nulls.iter()) {
                *hash = hash.wrapping_add(if valid { term(*value) } else { constants.null });
            }
        }
    }
}

#[inline]
fn scramble(mut h: u32) -> u32 {
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float64Array, StringArray, StringViewArray};

    use super::*;

    #[test]
    fn a_row_hashes_alike_wherever_it_lies() -> Result<()> {
        let x = Float64Array::from(vec![Some(1.5), None, Some(-2.0), Some(1.5)]);
        let s = StringArray::from(vec![Some("a"), Some("b"), None, Some("a")]);
        let batch = RecordBatch::try_from_iter([("x", Arc::new(x) as ArrayRef), ("s", Arc::new(s) as ArrayRef)])?;
        let all = hash_rows(&batch)?;
        assert_eq!(all.value(0), all.value(3));
        assert_ne!(all.value(0), all.value(1));
        for row in 0..4 {
            assert_eq!(hash_rows(&batch.slice(row, 1))?.value(0), all.value(row));
        }
        Ok(())
    }

    #[test]
    fn the_encoding_of_strings_does_not_matter() -> Result<()> {
        let plain: ArrayRef = Arc::new(StringArray::from(vec!["x", "a longer string than an inline view"]));
        let view: ArrayRef = Arc::new(StringViewArray::from(vec!["x", "a longer string than an inline view"]));
        let dictionary = cast(&plain, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)))?;
        let hash = |a: &ArrayRef| hash_rows(&RecordBatch::try_from_iter([("s", Arc::clone(a))])?);
        assert_eq!(hash(&plain)?, hash(&view)?);
        assert_eq!(hash(&plain)?, hash(&dictionary)?);
        Ok(())
    }
}
