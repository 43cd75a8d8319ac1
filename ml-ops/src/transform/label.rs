//! The label column: a number, or the index of a class.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};

use super::FittedLabel;
use super::codes::{Codes, UNKNOWN, array};
use super::numeric::numeric;
use super::text::{EXACT, ValueKind};
use crate::error::{MlError, Result};

/// Turns label columns into values or class indices.
#[derive(Clone, Debug)]
pub(super) struct LabelEncoder {
    name: String,
    kind: ValueKind,
    data_type: DataType,
    classes: Option<Classes>,
}

#[derive(Clone, Debug)]
enum Classes {
    /// Whole numbers below 2^53 with their codes, in ascending order.
    Numbers(Vec<(f64, u32)>),
    /// Anything, by its text.
    Texts(Codes),
}

impl LabelEncoder {
    pub fn new(label: &FittedLabel) -> Result<Self> {
        let data_type: DataType = label.data_type.parse().map_err(|_| MlError::Damaged {
            reason: format!("the label's type '{}' is not a type", label.data_type),
        })?;
        let kind = ValueKind::of(&data_type);
        let classes = (!label.classes.is_empty()).then(|| classes(kind, &label.classes));
        Ok(Self { name: label.name.clone(), kind, data_type, classes })
    }

    /// Values as Float64 or classes as UInt32, and which rows have one. Rows without hold zero.
    ///
    /// # Errors
    /// When the column is of another kind than at training, or holds an infinite value.
    pub fn encode(&self, label: &ArrayRef) -> Result<(ArrayRef, Option<BooleanBuffer>)> {
        self.check(label.data_type())?;
        let Some(classes) = &self.classes else {
            let (values, present) = numeric(&self.name, label, 0.0)?;
            return Ok((cast(&values, &DataType::Float64)?, present));
        };
        let mut codes = match classes {
            Classes::Texts(codes) => codes.encode(label, UNKNOWN)?,
            Classes::Numbers(known) => {
                let values = cast(label, &DataType::Float64)?;
                let values: &Float64Array = values.as_primitive::<Float64Type>();
                let code = |value: f64| {
                    let at = known.binary_search_by(|(class, _)| class.total_cmp(&(value + 0.0)));
                    at.map_or(UNKNOWN, |at| known[at].1)
                };
                values.iter().map(|value| value.map_or(UNKNOWN, code)).collect()
            }
        };
        let valid = BooleanBuffer::collect_bool(codes.len(), |row| codes[row] != UNKNOWN);
        if valid.count_set_bits() == codes.len() {
            return Ok((array(codes), None));
        }
        codes.iter_mut().filter(|code| **code == UNKNOWN).for_each(|code| *code = 0);
        Ok((array(codes), Some(valid)))
    }

    /// Whether a column of this type can be the label.
    pub fn check(&self, given: &DataType) -> Result<()> {
        let kind = ValueKind::of(given);
        let fits = match (self.kind, kind) {
            (_, ValueKind::Null) => true,
            (ValueKind::Number, ValueKind::Boolean) => self.classes.is_none(),
            (ValueKind::Other, ValueKind::Other) => self.data_type == *given,
            (mine, other) => mine == other,
        };
        fits.then_some(()).ok_or_else(|| MlError::Mismatch {
            reason: format!(
                "label '{}' was {} ({}) at training and has type {given} here; CAST it to {}",
                self.name,
                self.kind.words(),
                self.data_type,
                self.data_type
            ),
        })
    }
}

fn classes(kind: ValueKind, classes: &[String]) -> Classes {
    let number = |text: &String| text.parse::<f64>().ok().filter(|v| v.fract() == 0.0 && v.abs() < EXACT);
    let numbers: Option<Vec<f64>> = classes.iter().map(number).collect();
    match numbers {
        Some(numbers) if kind == ValueKind::Number => {
            let mut known: Vec<_> = numbers.into_iter().map(|v| v + 0.0).zip(0..).collect();
            known.sort_by(|a, b| a.0.total_cmp(&b.0));
            Classes::Numbers(known)
        }
        _ => Classes::Texts(Codes::new(classes)),
    }
}
