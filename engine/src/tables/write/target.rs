//! Where rows are written to, and what they must be: plain data that travels with the plan.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ColumnarValue;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::{Result, SinewError};
use crate::run::new_run;
use crate::warehouse::DataFile;
use crate::warehouse::columns::Column;

/// A file is closed when it has this many bytes.
pub const FILE_BYTES: u64 = 512 << 20;

/// The folder of one run of a table, and the columns that its files have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The table's name, for messages.
    pub table: String,
    /// Address of the store.
    pub store: String,
    /// Path of the table in it.
    pub folder: String,
    /// The run that writes.
    pub run: String,
    /// The columns of the table.
    pub columns: Vec<Column>,
    /// Bytes after which the next file begins.
    pub file_bytes: u64,
}

impl Target {
    /// A path that no file has, below the table's folder: a task that is tried again writes another one.
    pub fn new_file(&self) -> String {
        format!("data/{}/part-{}.parquet", self.run, new_run())
    }

    /// The path in the store of a path below the table's folder.
    ///
    /// # Errors
    /// When the folder is no path.
    pub fn path(&self, below: &str) -> Result<Path> {
        Path::parse(format!("{}/{below}", self.folder))
            .map_err(|e| SinewError::Internal(format!("the folder of table '{}': {e}", self.table)))
    }

    /// The rows with the columns of the table.
    ///
    /// # Errors
    /// When a value does not fit its column; the text names it.
    pub fn fit(&self, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let reject = |reason: String| rejected(&self.table, field.name(), reason);
            let cast = ColumnarValue::Array(Arc::clone(column)).cast_to(field.data_type(), None);
            let cast = cast.and_then(|cast| cast.into_array(batch.num_rows()));
            let cast = cast.map_err(|e| reject(no_cast(&e)))?;
            if !field.is_nullable() && cast.logical_null_count() > 0 {
                return Err(reject(NOT_NULL.into()));
            }
            columns.push(cast);
        }
        RecordBatch::try_new(Arc::clone(schema), columns)
            .map_err(|e| SinewError::Internal(format!("rows for table '{}': {e}", self.table)))
    }
}

/// Why a column takes no NULL.
pub const NOT_NULL: &str = "it is NOT NULL, and a row has NULL there; COALESCE(x, value) puts a value in its place";

/// What a failed cast says, and the next step.
pub fn no_cast(error: &DataFusionError) -> String {
    let reason = crate::error::plain_text(error);
    let reason = reason.strip_prefix("Cast error: ").unwrap_or(&reason);
    format!("{reason}; TRY_CAST(x AS type) gives NULL where a value does not fit")
}

/// The error about a value that a column does not take.
pub fn rejected(table: &str, column: &str, reason: String) -> SinewError {
    SinewError::Rejected { table: table.into(), column: column.into(), reason }
}

/// One row for each file.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
    ]))
}

/// The row about a file.
///
/// # Errors
/// Never: the columns fit the schema.
pub fn row(file: &DataFile) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec![file.path.as_str()])),
        Arc::new(UInt64Array::from(vec![file.rows])),
        Arc::new(UInt64Array::from(vec![file.bytes])),
    ];
    RecordBatch::try_new(schema(), columns).map_err(|e| SinewError::Internal(e.to_string()))
}

/// The files that rows tell of.
///
/// # Errors
/// When they are not the rows of [`row`].
pub fn files(batches: &[RecordBatch]) -> Result<Vec<DataFile>> {
    let odd = || SinewError::Internal("a write returned something other than files".into());
    let mut files = Vec::new();
    for batch in batches {
        let [paths, rows, bytes] = batch.columns() else { return Err(odd()) };
        let paths = paths.as_string_opt::<i32>().ok_or_else(odd)?;
        let rows = rows.as_primitive_opt::<UInt64Type>().ok_or_else(odd)?;
        let bytes = bytes.as_primitive_opt::<UInt64Type>().ok_or_else(odd)?;
        for row in 0..batch.num_rows() {
            files.push(DataFile { path: paths.value(row).into(), rows: rows.value(row), bytes: bytes.value(row) });
        }
    }
    // Partitions end in any order; a manifest does not depend on it more than it must.
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
