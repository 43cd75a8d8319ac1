//! A block of prepared rows, as kernels see it: Arrow's own buffers, column by column.
//!
//! ```text
//! feature columns   Float32 | Float64 (no nulls, finite)  or  UInt32 (category codes)
//! __label           Float64 (a value) | UInt32 (a class)      optional
//! __weight          Float64, finite, >= 0                     optional: 1 for every row
//! __role            UInt8                                     optional: every row trains
//! __hash            UInt32                                    of the row's content
//! ```
//! A code at or above the feature's number of categories means "none of them": all indicators are zero.

use std::sync::{Arc, Weak};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::datatypes::{ArrowNativeType, DataType, Float32Type, Float64Type, UInt8Type, UInt32Type};

use crate::error::{MlError, Result};

/// Name of the label column of a prepared batch.
pub const LABEL: &str = "__label";
/// Name of the weight column of a prepared batch.
pub const WEIGHT: &str = "__weight";
/// Name of the role column of a prepared batch.
pub const ROLE: &str = "__role";
/// Name of the row hash column of a prepared batch.
pub const HASH: &str = "__hash";

/// One feature of a block.
#[derive(Clone, Debug)]
pub enum Column {
    /// Single precision values.
    F32(ScalarBuffer<f32>),
    /// Double precision values.
    F64(ScalarBuffer<f64>),
    /// Category codes.
    Codes(ScalarBuffer<u32>),
}

/// The label of a block.
#[derive(Clone, Debug)]
pub enum Label {
    /// There is none.
    None,
    /// A number.
    Value(ScalarBuffer<f64>),
    /// An index into the classes.
    Class(ScalarBuffer<u32>),
}

/// Prepared rows: no nulls, no NaN, no infinity.
#[derive(Clone, Debug)]
pub struct Block {
    /// Number of rows.
    pub rows: usize,
    /// Features in order.
    pub columns: Vec<Column>,
    /// The label.
    pub label: Label,
    /// Row weights; `None` means 1.
    pub weight: Option<ScalarBuffer<f64>>,
    /// Row roles; `None` means that every row trains.
    pub role: Option<ScalarBuffer<u8>>,
    /// Row hashes; `None` where nothing needs them.
    pub hash: Option<ScalarBuffer<u32>>,
    /// The arrays it was made of.
    pub origin: Origin,
}

/// The arrays a block was made of, without keeping them: the same arrays are the same rows, and when they are gone
/// a copy of them on a device is of no use.
#[derive(Clone, Debug, Default)]
pub struct Origin(Vec<Weak<dyn Array>>);

impl Origin {
    /// Whether the block came from nowhere that could come again.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody still has all of the arrays.
    pub fn is_alive(&self) -> bool {
        self.0.iter().all(|array| array.strong_count() > 0)
    }

    /// Addresses of the arrays. They belong to no others while this exists.
    pub fn addresses(&self) -> Vec<usize> {
        self.0.iter().map(|array| Weak::as_ptr(array).cast::<()>() as usize).collect()
    }
}

impl Block {
    /// Looks at a prepared batch as a block; nothing is copied.
    ///
    /// # Errors
    /// When a column has a type other than those above: the batch was not prepared.
    pub fn from_batch(batch: &RecordBatch) -> Result<Self> {
        let mut block = Block {
            rows: batch.num_rows(),
            columns: Vec::with_capacity(batch.num_columns()),
            label: Label::None,
            weight: None,
            role: None,
            hash: None,
            origin: Origin(batch.columns().iter().map(Arc::downgrade).collect()),
        };
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            match field.name().as_str() {
                LABEL => block.label = label(array)?,
                WEIGHT => {
                    block.weight = Some(
                        array.as_primitive_opt::<Float64Type>().ok_or_else(|| odd(WEIGHT, array))?.values().clone(),
                    )
                }
                ROLE => {
                    block.role =
                        Some(array.as_primitive_opt::<UInt8Type>().ok_or_else(|| odd(ROLE, array))?.values().clone())
                }
                HASH => {
                    block.hash =
                        Some(array.as_primitive_opt::<UInt32Type>().ok_or_else(|| odd(HASH, array))?.values().clone())
                }
                name => block.columns.push(column(name, array)?),
            }
        }
        Ok(block)
    }

    /// The rows at `indices`, in that order, as a block of their own.
    pub fn take(&self, indices: &[u32]) -> Self {
        fn pick<T: ArrowNativeType>(values: &ScalarBuffer<T>, indices: &[u32]) -> ScalarBuffer<T> {
            indices.iter().map(|&i| values[i as usize]).collect()
        }
        let column = |column: &Column| match column {
            Column::F32(values) => Column::F32(pick(values, indices)),
            Column::F64(values) => Column::F64(pick(values, indices)),
            Column::Codes(values) => Column::Codes(pick(values, indices)),
        };
        Self {
            rows: indices.len(),
            columns: self.columns.iter().map(column).collect(),
            label: match &self.label {
                Label::None => Label::None,
                Label::Value(values) => Label::Value(pick(values, indices)),
                Label::Class(values) => Label::Class(pick(values, indices)),
            },
            weight: self.weight.as_ref().map(|values| pick(values, indices)),
            role: self.role.as_ref().map(|values| pick(values, indices)),
            hash: self.hash.as_ref().map(|values| pick(values, indices)),
            origin: Origin::default(),
        }
    }
}

fn column(name: &str, array: &ArrayRef) -> Result<Column> {
    match array.data_type() {
        DataType::Float32 => Ok(Column::F32(array.as_primitive::<Float32Type>().values().clone())),
        DataType::Float64 => Ok(Column::F64(array.as_primitive::<Float64Type>().values().clone())),
        DataType::UInt32 => Ok(Column::Codes(array.as_primitive::<UInt32Type>().values().clone())),
        _ => Err(odd(name, array)),
    }
}

fn label(array: &ArrayRef) -> Result<Label> {
    match array.data_type() {
        DataType::Float64 => Ok(Label::Value(array.as_primitive::<Float64Type>().values().clone())),
        DataType::UInt32 => Ok(Label::Class(array.as_primitive::<UInt32Type>().values().clone())),
        _ => Err(odd(LABEL, array)),
    }
}

fn odd(name: &str, array: &ArrayRef) -> MlError {
    MlError::Internal(format!("a prepared batch has column '{name}' of type {}", array.data_type()))
}
