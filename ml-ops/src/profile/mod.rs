//! What the first pass learns about a query's columns: ranges, missing values, categories, classes.
//!
//! A profile is merged from any parts of the rows in any order. It decides the grids of the exact sums
//! and the fitted transform, so it must not depend on how rows are spread.

mod class;
pub mod hash;
mod repeats;

use std::collections::BTreeMap;

use datafusion::arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float32Type, Float64Type};
use serde::{Deserialize, Serialize};

pub use class::ClassKey;
pub use repeats::Repeats;

use crate::columns::Columns;
use crate::error::{MlError, Result};
use crate::prepare::hashes;

/// A categorical feature may have this many values, and a label this many classes.
pub const MAX_CATEGORIES: usize = 65_536;

/// What is known of some rows of a training query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Rows seen.
    pub rows: u64,
    /// One entry for each feature.
    pub features: Vec<FeatureProfile>,
    /// Range and count of a numeric label.
    pub label: Range,
    /// Rows with each class.
    pub classes: BTreeMap<ClassKey, u64>,
    /// Range of the weights.
    pub weight: Range,
    /// How often rows repeat.
    pub repeats: Repeats,
}

/// What is known of one feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FeatureProfile {
    /// A number.
    Number(Range),
    /// Categories with the rows of each, and the rows with none.
    Category(BTreeMap<String, u64>, u64),
}

/// Smallest and largest finite value, and how many values are missing (NULL or NaN).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// `+inf` while nothing was seen.
    pub low: f64,
    /// `-inf` while nothing was seen.
    pub high: f64,
    /// NULL and NaN.
    pub missing: u64,
}

impl Default for Range {
    fn default() -> Self {
        Self { low: f64::INFINITY, high: f64::NEG_INFINITY, missing: 0 }
    }
}

impl Range {
    /// Whether no value was seen.
    pub fn is_empty(&self) -> bool {
        self.low > self.high
    }

    fn merge(&mut self, other: &Range) {
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
        self.missing += other.missing;
    }

    /// The range of a column of any numeric type.
    fn of(array: &ArrayRef) -> Result<Self> {
        Ok(match array.data_type() {
            DataType::Float32 => Self::of_primitive(array.as_primitive::<Float32Type>()),
            DataType::Float64 => Self::of_primitive(array.as_primitive::<Float64Type>()),
            DataType::Null => Self { missing: array.len() as u64, ..Self::default() },
            _ => Self::of_primitive(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>()),
        })
    }

    fn of_primitive<T: ArrowPrimitiveType<Native: Into<f64> + PartialOrd>>(array: &PrimitiveArray<T>) -> Self {
        let mut range = Self { missing: array.null_count() as u64, ..Self::default() };
        if array.null_count() > 0 {
            for value in array.iter().flatten() {
                range.see(value.into());
            }
            return range;
        }
        let values = array.values();
        let Some(first) = values.iter().find(|v| v.partial_cmp(v).is_some()) else {
            range.missing += values.len() as u64;
            return range;
        };
        // Comparisons with NaN are false, so NaN changes neither bound; the loop has no branches.
        let (mut low, mut high, mut nan) = (*first, *first, 0u32);
        for &value in values {
            low = if value < low { value } else { low };
            high = if value > high { value } else { high };
            nan += u32::from(value.partial_cmp(&value).is_none());
        }
        range.low = low.into();
        range.high = high.into();
        range.missing += u64::from(nan);
        range
    }

    fn see(&mut self, value: f64) {
        if value.is_nan() {
            self.missing += 1;
        } else {
            self.low = self.low.min(value);
            self.high = self.high.max(value);
        }
    }

    fn check_finite(&self, column: &str, hint: &str) -> Result<()> {
        let infinite = [self.low, self.high].into_iter().find(|v| !self.is_empty() && v.is_infinite());
        match infinite {
            Some(value) => Err(MlError::BadValue {
                column: column.into(),
                value: if value > 0.0 { "Infinity".into() } else { "-Infinity".into() },
                hint: hint.into(),
            }),
            None => Ok(()),
        }
    }
}

impl Profile {
    /// The profile of no rows.
    pub fn empty(columns: &Columns) -> Self {
        let feature = |categorical| match categorical {
            true => FeatureProfile::Category(BTreeMap::new(), 0),
            false => FeatureProfile::Number(Range::default()),
        };
        Self { features: columns.features.iter().map(|f| feature(f.categorical)).collect(), ..Self::default() }
    }

    /// Adds the rows of a batch of the query.
    ///
    /// # Errors
    /// Infinity in a feature or the label; a weight that is missing, negative or infinite; too many
    /// categories.
    pub fn see(&mut self, columns: &Columns, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        if let Ok(hashes) = hashes(batch) {
            self.repeats.see(hashes.values());
        }
        for (feature, profile) in columns.features.iter().zip(&mut self.features) {
            let array = batch.column(feature.index);
            match profile {
                FeatureProfile::Number(range) => {
                    let seen = Range::of(array)?;
                    seen.check_finite(&feature.name, "filter such rows out, or replace the value by NULL")?;
                    range.merge(&seen);
                }
                FeatureProfile::Category(values, missing) => {
                    *missing += class::count_text(array, values)?;
                    check_count(&feature.name, values.len(), "categories")?;
                }
            }
        }
        if let Some(label) = &columns.label {
            let array = batch.column(label.index);
            if label.class {
                self.label.missing += class::count_classes(array, &mut self.classes)?;
                check_count(&label.name, self.classes.len(), "classes")?;
                if let Some(infinite) = self.classes.keys().find(|class| class.is_infinite()) {
                    let value = if infinite.text() == "inf" { "Infinity" } else { "-Infinity" };
                    let hint = "filter such rows out".into();
                    return Err(MlError::BadValue { column: label.name.clone(), value: value.into(), hint });
                }
            } else {
                let seen = Range::of(&numeric(array)?)?;
                seen.check_finite(&label.name, "filter such rows out")?;
                self.label.merge(&seen);
            }
        }
        if let Some(index) = columns.weight {
            let name = batch.schema_ref().field(index).name();
            let seen = Range::of(batch.column(index))?;
            let bad = |value: String| {
                let hint = "a weight is a finite number, 0 or above, in every row".into();
                MlError::BadValue { column: name.clone(), value, hint }
            };
            if seen.missing > 0 {
                return Err(bad(format!("{} missing values (NULL or NaN)", seen.missing)));
            }
            seen.check_finite(name, "a weight is a finite number, 0 or above, in every row")?;
            if !seen.is_empty() && seen.low < 0.0 {
                return Err(bad(seen.low.to_string()));
            }
            self.weight.merge(&seen);
        }
        Ok(())
    }

    /// Adds what other rows showed.
    ///
    /// # Errors
    /// Too many categories together.
    pub fn merge(&mut self, columns: &Columns, other: Profile) -> Result<()> {
        self.rows += other.rows;
        for ((mine, theirs), feature) in self.features.iter_mut().zip(other.features).zip(&columns.features) {
            match (mine, theirs) {
                (FeatureProfile::Number(mine), FeatureProfile::Number(theirs)) => mine.merge(&theirs),
                (FeatureProfile::Category(mine, missing), FeatureProfile::Category(theirs, more)) => {
                    *missing += more;
                    for (value, rows) in theirs {
                        *mine.entry(value).or_default() += rows;
                    }
                    check_count(&feature.name, mine.len(), "categories")?;
                }
                _ => return Err(MlError::Internal("merged profiles of two different queries".into())),
            }
        }
        self.label.merge(&other.label);
        for (class, rows) in other.classes {
            *self.classes.entry(class).or_default() += rows;
        }
        if let Some(label) = &columns.label {
            check_count(&label.name, self.classes.len(), "classes")?;
        }
        self.weight.merge(&other.weight);
        self.repeats.merge(other.repeats);
        Ok(())
    }
}

/// A boolean label of a regression counts as 0 and 1.
fn numeric(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(if array.data_type() == &DataType::Boolean { cast(array, &DataType::Float64)? } else { array.clone() })
}

fn check_count(column: &str, count: usize, what: &str) -> Result<()> {
    if count <= MAX_CATEGORIES {
        return Ok(());
    }
    Err(MlError::Data {
        reason: format!(
            "column '{column}' has more than {MAX_CATEGORIES} {what}; leave it out, or group its rare values first"
        ),
    })
}
