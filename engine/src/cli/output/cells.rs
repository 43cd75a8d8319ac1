//! One column's values as text: nested ones as JSON.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Result, SinewError};

/// The text of every row; `None` is NULL.
///
/// # Errors
/// When the type has no text form.
pub fn texts(column: &ArrayRef) -> Result<Vec<Option<String>>> {
    let texts = if column.data_type().is_nested() { nested(column) } else { flat(column) };
    texts.map_err(|e| SinewError::from(datafusion::error::DataFusionError::from(e)))
}

/// Whether numbers of this type stand at the right of their column.
pub fn at_right(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

fn flat(column: &ArrayRef) -> Result<Vec<Option<String>>, ArrowError> {
    let options = FormatOptions::default().with_display_error(false);
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
    let nulls = column.logical_nulls();
    (0..column.len())
        .map(|row| match nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            true => Ok(None),
            false => formatter.value(row).try_to_string().map(Some),
        })
        .collect()
}

fn nested(column: &ArrayRef) -> Result<Vec<Option<String>>, ArrowError> {
    let schema = Schema::new(vec![Field::new("v", column.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(column)])?;
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(&batch)?;
    writer.finish()?;
    let text = String::from_utf8_lossy(&bytes);
    // Each line is `{"v":..}`.
    let values =
        text.lines().map(|line| line.strip_prefix("{\"v\":").and_then(|l| l.strip_suffix('}')).unwrap_or(line));
    Ok(values.enumerate().map(|(row, v)| column.is_valid(row).then(|| v.to_string())).collect())
}
