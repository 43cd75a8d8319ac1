//! Applying a fitted transform: a query's columns become the prepared batch that kernels read.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::codes::{Codes, UNKNOWN, array};
use super::label::LabelEncoder;
use super::numeric::numeric;
use super::text::ValueKind;
use super::{Encoding, FittedTransform, OnMissing};
use crate::error::{MlError, Result};

/// The features of some rows, as [`crate::block`] describes them.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The feature columns, in the order of the transform and named by their position. Callers append
    /// label, weight, role and hash. A numeric column's type may differ between batches (Float64 where
    /// a value was missing), its values never do.
    pub batch: RecordBatch,
    /// Rows that count under [`OnMissing::Skip`]; `None` when all do.
    pub valid: Option<BooleanBuffer>,
}

/// A fitted transform made ready to run: tables of categories are built once, not for every batch.
#[derive(Clone, Debug)]
pub struct Encoder {
    features: Vec<Feature>,
    label: Option<LabelEncoder>,
    on_missing: OnMissing,
}

#[derive(Clone, Debug)]
struct Feature {
    name: String,
    trained_as: String,
    kind: ValueKind,
    how: How,
}

#[derive(Clone, Debug)]
enum How {
    Numeric { impute: f64 },
    OneHot { codes: Codes, null: u32 },
}

impl Encoder {
    /// Makes `transform` ready to run.
    ///
    /// # Errors
    /// When it names a type that Arrow does not have.
    pub fn new(transform: &FittedTransform) -> Result<Self> {
        let feature = |f: &super::FittedFeature| {
            let (kind, how) = match &f.encoding {
                Encoding::Numeric { impute } => (ValueKind::Number, How::Numeric { impute: *impute }),
                Encoding::OneHot { categories, null } => {
                    let trained: DataType = f.data_type.parse().map_err(|_| MlError::Damaged {
                        reason: format!("feature '{}' has type '{}', which is not a type", f.name, f.data_type),
                    })?;
                    let null = if *null { categories.len() as u32 } else { UNKNOWN };
                    (ValueKind::of(&trained), How::OneHot { codes: Codes::new(categories), null })
                }
            };
            Ok(Feature { name: f.name.clone(), trained_as: f.data_type.clone(), kind, how })
        };
        Ok(Self {
            features: transform.features.iter().map(feature).collect::<Result<_>>()?,
            label: transform.label.as_ref().map(LabelEncoder::new).transpose()?,
            on_missing: transform.on_missing,
        })
    }

    /// Checks the types of the columns that [`Self::apply`] will be given.
    ///
    /// # Errors
    /// When their number or the kind of one is not as at training.
    pub fn check(&self, types: &[DataType]) -> Result<()> {
        if types.len() != self.features.len() {
            let names: Vec<_> = self.features.iter().map(|f| f.name.as_str()).collect();
            return Err(MlError::Mismatch {
                reason: format!(
                    "the model has {} features ({}) and is given {} columns",
                    names.len(),
                    names.join(", "),
                    types.len()
                ),
            });
        }
        self.features.iter().zip(types).try_for_each(|(feature, given)| feature.check(given))
    }

    /// Checks the type of the column that [`Self::encode_label`] will be given.
    ///
    /// # Errors
    /// When there is no label, or it is of another kind than at training.
    pub fn check_label(&self, given: &DataType) -> Result<()> {
        self.labels()?.check(given)
    }

    /// The features of some rows; `columns` are in the order of the transform, of any type of the
    /// kind they had at training.
    ///
    /// Values that single precision holds exactly (Float32, Int8, Int16, their unsigned forms,
    /// booleans) become Float32, other numbers Float64. Buffers of floats without gaps are shared.
    ///
    /// # Errors
    /// When a column is of another kind than at training, holds an infinite value, or misses a value
    /// under [`OnMissing::Error`].
    pub fn apply(&self, columns: &[ArrayRef]) -> Result<Prepared> {
        let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
        self.check(&types)?;
        let rows = columns.first().map_or(0, |c| c.len());
        let mut valid: Option<BooleanBuffer> = None;
        let mut fields = Vec::with_capacity(columns.len());
        let mut prepared = Vec::with_capacity(columns.len());
        for (position, (feature, column)) in self.features.iter().zip(columns).enumerate() {
            let (values, present) = feature.apply(column)?;
            if let Some(present) = present {
                match self.on_missing {
                    OnMissing::Impute => {}
                    OnMissing::Error => return Err(feature.missing(rows - present.count_set_bits())),
                    OnMissing::Skip => {
                        valid = Some(valid.map_or_else(|| present.clone(), |others| &others & &present));
                    }
                }
            }
            fields.push(Field::new(position.to_string(), values.data_type().clone(), false));
            prepared.push(values);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), prepared, &options)?;
        Ok(Prepared { batch, valid })
    }

    /// The label as Float64 values or UInt32 class indices, and which rows have one (`None`: all).
    /// NULL, NaN and unknown classes have none; their rows hold zero.
    ///
    /// # Errors
    /// When there is no label, it is of another kind than at training, or it holds an infinite value.
    pub fn encode_label(&self, label: &ArrayRef) -> Result<(ArrayRef, Option<BooleanBuffer>)> {
        self.labels()?.encode(label)
    }

    fn labels(&self) -> Result<&LabelEncoder> {
        self.label.as_ref().ok_or_else(|| MlError::Mismatch { reason: "this model has no label column".into() })
    }
}

impl Feature {
    fn check(&self, given: &DataType) -> Result<()> {
        let kind = ValueKind::of(given);
        let fits = match (self.kind, kind) {
            (_, ValueKind::Null) | (ValueKind::Number, ValueKind::Boolean) => true,
            (mine, other) => mine == other,
        };
        fits.then_some(()).ok_or_else(|| MlError::Mismatch {
            reason: format!(
                "feature '{}' was {} ({}) at training and has type {given} here; CAST it to {}",
                self.name,
                self.kind.words(),
                self.trained_as,
                self.trained_as
            ),
        })
    }

    fn apply(&self, column: &ArrayRef) -> Result<(ArrayRef, Option<BooleanBuffer>)> {
        match &self.how {
            How::Numeric { impute } => numeric(&self.name, column, *impute),
            How::OneHot { codes, null } => {
                let values = array(codes.encode(column, *null)?);
                let present = column.logical_nulls().filter(|nulls| nulls.null_count() > 0);
                Ok((values, present.map(|nulls| nulls.inner().clone())))
            }
        }
    }

    fn missing(&self, count: usize) -> MlError {
        MlError::BadValue {
            column: self.name.clone(),
            value: format!("{count} missing value{}", if count == 1 { "" } else { "s" }),
            hint: "the model was trained with on_missing = 'error'; fill or filter them in the query".into(),
        }
    }
}

impl FittedTransform {
    /// [`Encoder::apply`] for a single batch.
    ///
    /// # Errors
    /// As there.
    pub fn apply(&self, columns: &[ArrayRef]) -> Result<RecordBatch> {
        Ok(Encoder::new(self)?.apply(columns)?.batch)
    }

    /// [`Encoder::encode_label`] for a single batch.
    ///
    /// # Errors
    /// As there.
    pub fn encode_label(&self, label: &ArrayRef) -> Result<(ArrayRef, Option<BooleanBuffer>)> {
        Encoder::new(self)?.encode_label(label)
    }
}

#[cfg(test)]
mod tests;
