//! Numeric columns: finite values without gaps, copied only where something must change.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, PrimitiveArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, Float32Type, Float64Type};

use crate::error::{MlError, Result};

/// A prepared column, and which rows had a value (`None`: all of them).
pub(super) type Filled = (ArrayRef, Option<BooleanBuffer>);

/// The column as Float32 or Float64, with `impute` in place of NULL and NaN.
///
/// Types that single precision holds exactly become Float32, the others Float64; a column in which a
/// value is missing becomes Float64, because the imputed value is a double. Kernels widen exactly, so
/// a row means the same in either type.
///
/// # Errors
/// When a value is infinite.
pub(super) fn numeric(column: &str, array: &ArrayRef, impute: f64) -> Result<Filled> {
    match array.data_type() {
        DataType::Float32 => float::<Float32Type>(column, array.as_primitive(), impute),
        DataType::Float64 => float::<Float64Type>(column, array.as_primitive(), impute),
        DataType::Null => {
            let values = Float64Array::from(vec![impute; array.len()]);
            Ok((Arc::new(values), Some(BooleanBuffer::new_unset(array.len()))))
        }
        DataType::Dictionary(_, values) => numeric(column, &cast(array, values)?, impute),
        DataType::RunEndEncoded(_, values) => numeric(column, &cast(array, values.data_type())?, impute),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::UInt8
        | DataType::UInt16
        | DataType::Float16 => numeric(column, &cast(array, &DataType::Float32)?, impute),
        _ => numeric(column, &cast(array, &DataType::Float64)?, impute),
    }
}

fn float<T>(column: &str, array: &PrimitiveArray<T>, impute: f64) -> Result<Filled>
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64> + std::ops::Sub<Output = T::Native>,
{
    let finite = all_finite(array.values());
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None if finite => Ok((Arc::new(PrimitiveArray::<T>::new(array.values().clone(), None)), None)),
        nulls => fill(column, array.values(), nulls, impute),
    }
}

/// Whether no value is NaN or infinite: `x - x` is zero exactly for finite x, so one pass without
/// branches decides.
#[allow(clippy::eq_op)]
fn all_finite<N>(values: &[N]) -> bool
where
    N: Copy + Into<f64> + std::ops::Sub<Output = N>,
{
    const CHUNK: usize = 4096;
    values.chunks(CHUNK).all(|chunk| chunk.iter().fold(0, |bad, &x| bad | (x - x).into().to_bits()) == 0)
}

fn fill<N: Copy + Into<f64>>(column: &str, values: &[N], nulls: Option<&NullBuffer>, impute: f64) -> Result<Filled> {
    let mut infinite = None;
    let mut filled = Vec::with_capacity(values.len());
    let present = BooleanBuffer::collect_bool(values.len(), |row| {
        let value: f64 = values[row].into();
        let present = nulls.is_none_or(|nulls| nulls.is_valid(row)) && !value.is_nan();
        if present && value.is_infinite() {
            infinite = Some(value);
        }
        filled.push(if present { value } else { impute });
        present
    });
    match infinite {
        Some(value) => Err(infinity(column, value)),
        None => {
            let all = present.count_set_bits() == values.len();
            Ok((Arc::new(Float64Array::from(filled)), (!all).then_some(present)))
        }
    }
}

fn infinity(column: &str, value: f64) -> MlError {
    MlError::BadValue {
        column: column.into(),
        value: if value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        hint: "replace infinite values with numbers or NULL".into(),
    }
}
