//! Values as text: the form in which classes and categories are stored and compared.
//!
//! | type | text |
//! |---|---|
//! | whole numbers | decimal digits, `-` in front of negative ones |
//! | floats | a whole number below 2^53 as above; else the shortest digits that read back as the value |
//! | decimals | digits without trailing zeros after the point |
//! | booleans | `true`, `false` |
//! | strings | as they are |
//! | other types | as Arrow prints them |
//!
//! Equal numbers of different types therefore have the same text. NULL and NaN have none.

use std::cmp::Ordering;

use datafusion::arrow::array::{Array, AsArray, PrimitiveArray, downcast_dictionary_array};
use datafusion::arrow::datatypes::*;
use datafusion::arrow::util::display::array_value_to_string;

/// What a column's values are, whatever their width or encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// Integers, floats and decimals.
    Number,
    /// true and false.
    Boolean,
    /// Strings.
    Text,
    /// A column of NULLs, which fits every kind.
    Null,
    /// Everything else.
    Other,
}

impl ValueKind {
    /// The kind of a type; dictionaries and run-end encodings count as their values.
    pub fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::RunEndEncoded(_, values) => Self::of(values.data_type()),
            DataType::Boolean => Self::Boolean,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Null => Self::Null,
            other if other.is_numeric() => Self::Number,
            _ => Self::Other,
        }
    }

    /// The kind in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Boolean => "a boolean",
            Self::Text => "text",
            Self::Null => "NULL",
            Self::Other => "neither number, boolean nor text",
        }
    }
}

/// The text of the value in one row; `None` for NULL and NaN.
pub fn value_text(array: &dyn Array, row: usize) -> Option<String> {
    if row >= array.len() || array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Boolean => Some(array.as_boolean().value(row).to_string()),
        DataType::Utf8 => Some(array.as_string::<i32>().value(row).to_string()),
        DataType::LargeUtf8 => Some(array.as_string::<i64>().value(row).to_string()),
        DataType::Utf8View => Some(array.as_string_view().value(row).to_string()),
        DataType::Int8 => Some(native::<Int8Type>(array, row).to_string()),
        DataType::Int16 => Some(native::<Int16Type>(array, row).to_string()),
        DataType::Int32 => Some(native::<Int32Type>(array, row).to_string()),
        DataType::Int64 => Some(native::<Int64Type>(array, row).to_string()),
        DataType::UInt8 => Some(native::<UInt8Type>(array, row).to_string()),
        DataType::UInt16 => Some(native::<UInt16Type>(array, row).to_string()),
        DataType::UInt32 => Some(native::<UInt32Type>(array, row).to_string()),
        DataType::UInt64 => Some(native::<UInt64Type>(array, row).to_string()),
        DataType::Float16 => {
            let value = native::<Float16Type>(array, row);
            float_text(f64::from(value), || value.to_string())
        }
        DataType::Float32 => {
            let value = native::<Float32Type>(array, row);
            float_text(f64::from(value), || format!("{value:?}"))
        }
        DataType::Float64 => {
            let value = native::<Float64Type>(array, row);
            float_text(value, || format!("{value:?}"))
        }
        DataType::Dictionary(_, _) => downcast_dictionary_array!(
            array => value_text(array.values(), array.key(row)?),
            _ => None
        ),
        DataType::Null => None,
        _ => {
            let text = array_value_to_string(array, row).ok()?;
            let decimal = ValueKind::of(array.data_type()) == ValueKind::Number && text.contains('.');
            Some(if decimal { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text })
        }
    }
}

/// The order of two values of one type, given as text: numbers by value, everything else by bytes.
pub fn value_order(data_type: &DataType, a: &str, b: &str) -> Ordering {
    let by_value = || match (a.parse::<i128>(), b.parse::<i128>()) {
        (Ok(a), Ok(b)) => Some(a.cmp(&b)),
        _ => Some(a.parse::<f64>().ok()?.total_cmp(&b.parse::<f64>().ok()?)),
    };
    let order = if ValueKind::of(data_type) == ValueKind::Number { by_value() } else { None };
    order.unwrap_or(Ordering::Equal).then_with(|| a.cmp(b))
}

fn native<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
    let array: &PrimitiveArray<T> = array.as_primitive();
    array.value(row)
}

/// Largest magnitude below which every whole number is a double, 2^53.
pub(crate) const EXACT: f64 = 9_007_199_254_740_992.0;

fn float_text(value: f64, shortest: impl Fn() -> String) -> Option<String> {
    match value {
        v if v.is_nan() => None,
        v if v.fract() == 0.0 && v.abs() < EXACT => Some((v as i64).to_string()),
        _ => Some(shortest()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use datafusion::arrow::array::*;

    #[test]
    fn equal_numbers_have_the_same_text() {
        let arrays: [ArrayRef; 6] = [
            std::sync::Arc::new(Int8Array::from(vec![-3])),
            std::sync::Arc::new(Int64Array::from(vec![-3])),
            std::sync::Arc::new(Float32Array::from(vec![-3.0])),
            std::sync::Arc::new(Float64Array::from(vec![-3.0])),
            std::sync::Arc::new(Decimal128Array::from(vec![-3000]).with_precision_and_scale(9, 3).unwrap()),
            std::sync::Arc::new(StringArray::from(vec!["-3"])),
        ];
        for array in arrays {
            assert_eq!(value_text(&array, 0).as_deref(), Some("-3"), "{}", array.data_type());
        }
    }

    #[test]
    fn floats_read_back_as_they_were() {
        for value in [0.1, 1e300, -1e-300, f64::MAX, 1.5, 123456.789, 9.1e15] {
            let text = value_text(&Float64Array::from(vec![value]), 0).unwrap();
            assert_eq!(text.parse::<f64>().unwrap(), value, "{text}");
            assert!(text.len() < 26, "{text}");
        }
        assert_eq!(value_text(&Float32Array::from(vec![0.1]), 0).unwrap(), "0.1");
        assert_eq!(value_text(&Float64Array::from(vec![-0.0]), 0).unwrap(), "0");
        assert_eq!(value_text(&Float64Array::from(vec![f64::NAN]), 0), None);
        assert_eq!(value_text(&Int64Array::from(vec![None::<i64>]), 0), None);
        assert_eq!(value_text(&Int64Array::from(vec![i64::MIN]), 0).unwrap(), "-9223372036854775808");
    }

    #[test]
    fn dictionaries_count_as_their_values() {
        let array: DictionaryArray<Int8Type> = vec![Some("b"), None, Some("a")].into_iter().collect();
        let texts: Vec<_> = (0..3).map(|row| value_text(&array, row)).collect();
        assert_eq!(texts, [Some("b".to_string()), None, Some("a".to_string())]);
        assert_eq!(value_text(&array.slice(2, 1), 0).as_deref(), Some("a"));
        assert_eq!(ValueKind::of(array.data_type()), ValueKind::Text);
    }

    #[test]
    fn numbers_are_ordered_by_value_and_strings_by_bytes() {
        let sorted = |data_type: DataType, mut texts: Vec<&'static str>| {
            texts.sort_by(|a, b| value_order(&data_type, a, b));
            texts
        };
        assert_eq!(sorted(DataType::Int64, vec!["10", "9", "-1"]), ["-1", "9", "10"]);
        assert_eq!(sorted(DataType::Float64, vec!["10", "1e300", "9.5"]), ["9.5", "10", "1e300"]);
        assert_eq!(sorted(DataType::Utf8, vec!["10", "9", "B", "a"]), ["10", "9", "B", "a"]);
        assert_eq!(sorted(DataType::Boolean, vec!["true", "false"]), ["false", "true"]);
        assert_eq!(
            sorted(DataType::Int64, vec!["9007199254740993", "9007199254740992"]),
            ["9007199254740992", "9007199254740993"]
        );
    }
}
