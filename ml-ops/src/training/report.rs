//! The rows that a training streams while it runs.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, BinaryArray, Float64Array, Int64Array, RecordBatch, StringArray, new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::error::Result;
use crate::optimizer::Iteration;

/// Name of the column that carries the trained model in the last row, and is null in all others.
/// The session takes it off, publishes the model and fills in the version.
pub const ARTIFACT: &str = "artifact";
/// Name of the column that carries a checkpoint, in rows of their own whose other columns are null. The session
/// takes such rows out and keeps the bytes until the training has ended.
pub const CHECKPOINT: &str = "checkpoint";

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("model", DataType::Utf8),
        field("version", DataType::Int64),
        field("run", DataType::Utf8),
        field("iteration", DataType::Int64),
        field("loss", DataType::Float64),
        field("eval_loss", DataType::Float64),
        field("learning_rate", DataType::Float64),
        field("gradient_norm", DataType::Float64),
        field("duration_ms", DataType::Float64),
        field("rows", DataType::Int64),
        field("device", DataType::Utf8),
        field("trial", DataType::Int64),
        field("fold", DataType::Int64),
        field("group", DataType::Utf8),
        field(ARTIFACT, DataType::Binary),
        field(CHECKPOINT, DataType::Binary),
    ]))
});

/// The schema of a training's rows; [`ARTIFACT`] and [`CHECKPOINT`] are not for readers.
pub fn schema() -> SchemaRef {
    Arc::clone(&SCHEMA)
}

/// The row of a checkpoint.
///
/// # Errors
/// Never for values of this type.
pub fn checkpoint(bytes: &[u8]) -> Result<RecordBatch> {
    let column = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            CHECKPOINT => Arc::new(BinaryArray::from_vec(vec![bytes])),
            _ => new_null_array(field.data_type(), 1),
        }
    };
    Ok(RecordBatch::try_new(schema(), SCHEMA.fields().iter().map(column).collect())?)
}

/// One row of a report.
#[derive(Clone, Debug)]
pub struct ReportRow {
    /// The model's name.
    pub model: String,
    /// The run's name.
    pub run: String,
    /// The iteration it reports.
    pub iteration: Iteration,
    /// Milliseconds since the iteration before.
    pub duration_ms: f64,
    /// Where kernels ran.
    pub device: String,
    /// The trained model, in the last row.
    pub artifact: Option<Vec<u8>>,
}

impl ReportRow {
    /// The row as a batch.
    ///
    /// # Errors
    /// Never for values of this type.
    pub fn batch(&self) -> Result<RecordBatch> {
        let text = |value: &str| -> ArrayRef { Arc::new(StringArray::from(vec![value])) };
        let int = |value: Option<i64>| -> ArrayRef { Arc::new(Int64Array::from(vec![value])) };
        let float = |value: Option<f64>| -> ArrayRef { Arc::new(Float64Array::from(vec![value])) };
        let iteration = &self.iteration;
        let columns = vec![
            text(&self.model),
            int(None),
            text(&self.run),
            int(Some(i64::from(iteration.number))),
            float(Some(iteration.objective)),
            float(iteration.eval_loss),
            float(Some(iteration.learning_rate)),
            float(Some(iteration.gradient_norm)),
            float(Some(self.duration_ms)),
            int(Some(iteration.rows as i64)),
            text(&self.device),
            int(None),
            int(None),
            Arc::new(StringArray::new_null(1)),
            Arc::new(BinaryArray::from_opt_vec(vec![self.artifact.as_deref()])),
            Arc::new(BinaryArray::new_null(1)),
        ];
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}
