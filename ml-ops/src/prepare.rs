//! From a batch of the training query to a batch that kernels read, with everything fitted frozen.

use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, UInt8Array, UInt32Array};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, UInt32Type};
use serde::{Deserialize, Serialize};

use crate::block::{HASH, LABEL, ROLE, WEIGHT};
use crate::columns::Columns;
use crate::error::{MlError, Result};
use crate::fold::{ROLE_DROPPED, ROLE_TRAIN};
use crate::profile::hash::hash_rows;
use crate::split::SplitRule;
use crate::transform::{Encoder, FittedTransform};

/// The columns of a query, how they become features, and which rows are held out. Plain data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Frozen {
    /// What each column is for.
    pub columns: Columns,
    /// How columns become features.
    pub transform: FittedTransform,
    /// Which rows are held out.
    pub split: SplitRule,
    /// Tables of the transform, made at first use.
    #[serde(skip)]
    encoder: OnceLock<Encoder>,
}

impl PartialEq for Frozen {
    fn eq(&self, other: &Self) -> bool {
        (&self.columns, &self.transform, &self.split) == (&other.columns, &other.transform, &other.split)
    }
}

/// Adds the row hash to a batch of the query, as its last column.
///
/// # Errors
/// When a column cannot be read as numbers or strings.
pub fn with_hash(batch: &RecordBatch) -> Result<RecordBatch> {
    let hashes: ArrayRef = Arc::new(hash_rows(batch)?);
    let mut fields: Vec<_> = batch.schema_ref().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(HASH, DataType::UInt32, false)));
    let mut arrays = batch.columns().to_vec();
    arrays.push(hashes);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

/// The row hashes that [`with_hash`] added.
///
/// # Errors
/// When the batch has none.
pub fn hashes(batch: &RecordBatch) -> Result<&UInt32Array> {
    batch
        .columns()
        .last()
        .and_then(|array| array.as_primitive_opt::<UInt32Type>())
        .ok_or_else(|| MlError::Internal("a cached batch has no row hashes".into()))
}

impl Frozen {
    /// The three together.
    pub fn new(columns: Columns, transform: FittedTransform, split: SplitRule) -> Self {
        Self { columns, transform, split, encoder: OnceLock::new() }
    }

    fn encoder(&self) -> Result<&Encoder> {
        match self.encoder.get() {
            Some(encoder) => Ok(encoder),
            None => {
                let encoder = Encoder::new(&self.transform)?;
                Ok(self.encoder.get_or_init(|| encoder))
            }
        }
    }

    /// The prepared form of a batch that [`with_hash`] made. Columns that need no change are shared.
    ///
    /// # Errors
    /// What [`FittedTransform::apply`] refuses.
    pub fn prepare(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let hashes = hashes(batch)?;
        let inputs: Vec<ArrayRef> = self.columns.features.iter().map(|f| Arc::clone(batch.column(f.index))).collect();
        let encoder = self.encoder()?;
        let features = encoder.apply(&inputs)?;
        let mut fields: Vec<_> = features.batch.schema_ref().fields().iter().cloned().collect();
        let mut arrays = features.batch.columns().to_vec();
        let mut push = |name: &str, array: ArrayRef| {
            fields.push(Arc::new(Field::new(name, array.data_type().clone(), false)));
            arrays.push(array);
        };

        let mut complete = features.valid;
        if let Some(label) = &self.columns.label {
            let (array, valid) = encoder.encode_label(batch.column(label.index))?;
            push(LABEL, array);
            complete = both(complete, valid);
        }
        if let Some(index) = self.columns.weight {
            let weights = cast(batch.column(index), &DataType::Float64)?;
            let weights = Float64Array::new(weights.as_primitive::<Float64Type>().values().clone(), None);
            push(WEIGHT, Arc::new(weights));
        }
        let mut roles = self.split.roles(&self.columns, batch, hashes);
        if let Some(complete) = complete.filter(|c| c.count_set_bits() < c.len()) {
            let roles = roles.get_or_insert_with(|| vec![ROLE_TRAIN; batch.num_rows()]);
            for (role, _) in roles.iter_mut().zip(complete.iter()).filter(|(_, complete)| !complete) {
                *role = ROLE_DROPPED;
            }
        }
        if let Some(roles) = roles {
            push(ROLE, Arc::new(UInt8Array::from(roles)));
        }
        push(HASH, Arc::new(hashes.clone()));
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}

fn both(a: Option<BooleanBuffer>, b: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (a, b) {
        (Some(a), Some(b)) => Some(&a & &b),
        (a, b) => a.or(b),
    }
}
