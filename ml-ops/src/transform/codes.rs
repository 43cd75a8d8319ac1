//! From a value to its code: classes and categories.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use xxhash_rust::xxh3::xxh3_64;

use super::text::value_text;
use crate::error::Result;

/// The code of a value that is not known.
pub(super) const UNKNOWN: u32 = u32::MAX;

/// An open-addressing table from text to position. At most half full, so a look-up is one hash and
/// about one comparison.
#[derive(Clone, Debug)]
pub(super) struct Codes {
    values: Vec<Box<str>>,
    slots: Vec<u32>,
}

impl Codes {
    /// The table of `values`; of equal ones the first counts.
    pub fn new(values: &[String]) -> Self {
        let size = (values.len() * 2 + 1).next_power_of_two();
        let mut codes = Self { values: Vec::with_capacity(values.len()), slots: vec![UNKNOWN; size] };
        for value in values {
            let slot = codes.slot(value);
            if codes.slots[slot] == UNKNOWN {
                codes.slots[slot] = codes.values.len() as u32;
            }
            codes.values.push(value.as_str().into());
        }
        codes
    }

    /// The position of `value`, or [`UNKNOWN`].
    #[inline]
    pub fn get(&self, value: &str) -> u32 {
        self.slots[self.slot(value)]
    }

    /// Where `value` is, or would be.
    #[inline]
    fn slot(&self, value: &str) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = xxh3_64(value.as_bytes()) as usize & mask;
        while self.slots[slot] != UNKNOWN && *self.values[self.slots[slot] as usize] != *value {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// The code of every row; NULL becomes `null`.
    ///
    /// # Errors
    /// When Arrow cannot unpack the array.
    pub fn encode(&self, array: &ArrayRef, null: u32) -> Result<Vec<u32>> {
        Ok(match array.data_type() {
            DataType::Utf8 => self.all(array.as_string::<i32>().iter(), null),
            DataType::LargeUtf8 => self.all(array.as_string::<i64>().iter(), null),
            DataType::Utf8View => self.all(array.as_string_view().iter(), null),
            DataType::Boolean => self.booleans(array.as_boolean(), null),
            DataType::Dictionary(_, values) => match array.as_any_dictionary_opt() {
                // Each value is looked up once. Only where values by far outnumber rows is that more work.
                Some(dictionary) if dictionary.values().len() <= 2 * array.len() => {
                    let known = self.encode(dictionary.values(), null)?;
                    let keys = cast(dictionary.keys(), &DataType::Int64)?;
                    gather(&known, keys.as_primitive(), null)
                }
                _ => self.encode(&cast(array, values)?, null)?,
            },
            DataType::RunEndEncoded(_, values) => self.encode(&cast(array, values.data_type())?, null)?,
            _ => (0..array.len()).map(|row| value_text(array, row).map_or(null, |text| self.get(&text))).collect(),
        })
    }

    fn all<'a>(&self, values: impl Iterator<Item = Option<&'a str>>, null: u32) -> Vec<u32> {
        values.map(|value| value.map_or(null, |value| self.get(value))).collect()
    }

    fn booleans(&self, array: &BooleanArray, null: u32) -> Vec<u32> {
        let codes = [self.get("false"), self.get("true")];
        array.iter().map(|value| value.map_or(null, |value| codes[usize::from(value)])).collect()
    }
}

fn gather(known: &[u32], keys: &Int64Array, null: u32) -> Vec<u32> {
    let code = |key: i64| usize::try_from(key).ok().and_then(|key| known.get(key)).copied().unwrap_or(null);
    if keys.null_count() == 0 {
        keys.values().iter().map(|&key| code(key)).collect()
    } else {
        keys.iter().map(|key| key.map_or(null, code)).collect()
    }
}

/// Codes as an array.
pub(super) fn array(codes: Vec<u32>) -> ArrayRef {
    std::sync::Arc::new(UInt32Array::from(codes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_and_nothing_else() {
        for n in [0, 1, 2, 3, 100, 5000] {
            let values: Vec<String> = (0..n).map(|i| format!("value {}", i * 7)).collect();
            let codes = Codes::new(&values);
            for (i, value) in values.iter().enumerate() {
                assert_eq!(codes.get(value), i as u32);
            }
            assert_eq!(codes.get(""), UNKNOWN);
            assert_eq!(codes.get("value 1"), UNKNOWN);
        }
    }

    #[test]
    fn the_first_of_equal_values_counts() {
        let codes = Codes::new(&["a".into(), "a".into(), "b".into()]);
        assert_eq!((codes.get("a"), codes.get("b")), (0, 2));
    }
}
