//! Distinct values of a column: categories as text, classes in their natural order.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::transform::{EXACT, value_text};

/// A class: numbers in numeric order before strings in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ClassKey {
    /// The bits of the nearest double, arranged so that they sort as the numbers do, and the number's text.
    Number(u64, Box<str>),
    /// Booleans and strings.
    Text(String),
}

impl ClassKey {
    /// The key of a number with its text.
    fn number(value: f64, text: String) -> Self {
        let bits = (value + 0.0).to_bits();
        Self::Number(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }, text.into())
    }

    /// The class as text, in the form of [`value_text`].
    pub fn text(&self) -> String {
        match self {
            Self::Number(_, text) => text.to_string(),
            Self::Text(text) => text.clone(),
        }
    }

    /// Whether it is a number with a fraction.
    pub fn has_fraction(&self) -> bool {
        matches!(self, Self::Number(_, text) if text.parse::<f64>().is_ok_and(|value| value.fract() != 0.0))
    }

    /// Whether it is an infinite number.
    pub fn is_infinite(&self) -> bool {
        matches!(self, Self::Number(_, text) if matches!(&**text, "inf" | "-inf"))
    }
}

/// Counts the values of a string or boolean column; returns the rows with NULL.
pub fn count_text(array: &ArrayRef, counts: &mut BTreeMap<String, u64>) -> Result<u64> {
    // Few distinct values are the rule: a dictionary turns counting strings into counting integers.
    let dictionary = match array.data_type() {
        DataType::Boolean => {
            return count_booleans(array, |text, rows| *counts.entry(text.into()).or_default() += rows);
        }
        DataType::Dictionary(key, value) if **key == DataType::Int32 && **value == DataType::Utf8 => array.clone(),
        _ => {
            let text = cast(array, &DataType::Utf8)?;
            cast(&text, &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)))?
        }
    };
    let dictionary = dictionary.as_dictionary::<datafusion::arrow::datatypes::Int32Type>();
    let mut rows = vec![0u64; dictionary.values().len()];
    let mut missing = 0;
    for key in dictionary.keys() {
        match key {
            Some(key) => rows[key as usize] += 1,
            None => missing += 1,
        }
    }
    let values = dictionary.values().as_string::<i32>();
    for (value, rows) in rows.into_iter().enumerate().filter(|(_, rows)| *rows > 0) {
        if values.is_null(value) {
            missing += rows;
        } else {
            match counts.get_mut(values.value(value)) {
                Some(count) => *count += rows,
                None => *counts.entry(values.value(value).to_string()).or_default() += rows,
            }
        }
    }
    Ok(missing)
}

/// Counts the classes of a label column; returns the rows with NULL or NaN.
pub fn count_classes(array: &ArrayRef, counts: &mut BTreeMap<ClassKey, u64>) -> Result<u64> {
    if array.data_type() == &DataType::Boolean {
        return count_booleans(array, |text, rows| *counts.entry(ClassKey::Text(text.into())).or_default() += rows);
    }
    if !array.data_type().is_numeric() && !array.data_type().is_null() {
        let mut text = BTreeMap::new();
        let missing = count_text(array, &mut text)?;
        for (value, rows) in text {
            *counts.entry(ClassKey::Text(value)).or_default() += rows;
        }
        return Ok(missing);
    }
    let numbers = cast(array, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    // A float is its double; other numbers may share one, and are then told apart by their text.
    let floating = array.data_type().is_floating();
    let mut missing = 0;
    // Labels repeat: a short list in the order of appearance, searched linearly, is enough for most.
    // Each entry holds the bits, the first row with them, and how many rows there are.
    let mut seen: Vec<(u64, usize, u64)> = Vec::new();
    let mut add = |value: f64, row: usize, rows: u64| {
        let text = value_text(array, row).unwrap_or_default();
        *counts.entry(ClassKey::number(value, text)).or_default() += rows;
    };
    for (row, value) in numbers.iter().enumerate() {
        let Some(value) = value.filter(|v| !v.is_nan()) else {
            missing += 1;
            continue;
        };
        let bits = (value + 0.0).to_bits();
        let exact = floating || (value.fract() == 0.0 && value.abs() < EXACT);
        match seen.iter().position(|(known, ..)| *known == bits) {
            _ if !exact => add(value, row, 1),
            Some(place) => seen[place].2 += 1,
            None if seen.len() < 64 => seen.push((bits, row, 1)),
            None => add(value, row, 1),
        }
    }
    for (bits, row, rows) in seen {
        add(f64::from_bits(bits), row, rows);
    }
    Ok(missing)
}

fn count_booleans(array: &ArrayRef, mut add: impl FnMut(&'static str, u64)) -> Result<u64> {
    let values = array.as_boolean();
    let (yes, missing) = (values.true_count() as u64, values.null_count() as u64);
    let no = values.len() as u64 - missing - yes;
    for (text, rows) in [("false", no), ("true", yes)] {
        if rows > 0 {
            add(text, rows);
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{Float32Array, Float64Array, Int64Array};

    use super::*;

    fn texts(array: ArrayRef) -> Result<Vec<String>> {
        let mut counts = BTreeMap::new();
        count_classes(&array, &mut counts)?;
        Ok(counts.keys().map(ClassKey::text).collect())
    }

    #[test]
    fn numbers_sort_as_numbers_and_have_the_text_they_are_found_by() -> Result<()> {
        let doubles = Float64Array::from(vec![10.0, 1e300, -0.5, -0.0, 0.5, 2.0, -10.0, f64::NAN]);
        assert_eq!(texts(Arc::new(doubles))?, ["-10", "-0.5", "0", "0.5", "2", "10", "1e300"]);
        assert_eq!(texts(Arc::new(Float32Array::from(vec![0.3, 0.1, 3.0])))?, ["0.1", "0.3", "3"]);
        let wide = Int64Array::from(vec![9_007_199_254_740_993, 9_007_199_254_740_992, -1]);
        assert_eq!(texts(Arc::new(wide))?, ["-1", "9007199254740992", "9007199254740993"]);
        Ok(())
    }
}
