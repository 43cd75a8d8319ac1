//! Distinct values of a column: categories as text, classes in their natural order.

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// A class: numbers in numeric order before strings in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ClassKey {
    /// The bits of a double, arranged so that they sort as the numbers do.
    Number(u64),
    /// Booleans and strings.
    Text(String),
}

impl ClassKey {
    /// The key of a number.
    pub fn number(value: f64) -> Self {
        let bits = (value + 0.0).to_bits();
        Self::Number(if bits >> 63 == 1 { !bits } else { bits | 1 << 63 })
    }

    /// The class as text: whole numbers in decimal, others in the shortest form that reads back.
    pub fn text(&self) -> String {
        match self {
            Self::Number(bits) => {
                let bits = if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits };
                f64::from_bits(bits).to_string()
            }
            Self::Text(text) => text.clone(),
        }
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
    let mut missing = 0;
    // Labels repeat: a short list in the order of appearance, searched linearly, is enough for most.
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for value in numbers {
        let Some(value) = value.filter(|v| !v.is_nan()) else {
            missing += 1;
            continue;
        };
        let bits = (value + 0.0).to_bits();
        match seen.iter().position(|(known, _)| *known == bits) {
            Some(place) => seen[place].1 += 1,
            None if seen.len() < 64 => seen.push((bits, 1)),
            None => *counts.entry(ClassKey::number(value)).or_default() += 1,
        }
    }
    for (bits, rows) in seen {
        *counts.entry(ClassKey::number(f64::from_bits(bits))).or_default() += rows;
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
    use super::*;

    #[test]
    fn numbers_sort_as_numbers_and_read_back() {
        let keys: Vec<_> = [-10.0, -0.5, -0.0, 0.5, 2.0, 10.0].map(ClassKey::number).into();
        assert!(keys.is_sorted());
        let text: Vec<_> = keys.iter().map(ClassKey::text).collect();
        assert_eq!(text, ["-10", "-0.5", "0", "0.5", "2", "10"]);
    }
}
