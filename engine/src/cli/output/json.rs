//! JSON: an array for each result, or an object a line. Every row has every column; NULL, NaN and
//! infinities are `null`.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::WriterBuilder;
use datafusion::arrow::json::writer::LineDelimited;
use datafusion::error::DataFusionError;

use crate::error::{Result, SinewError};

/// Writes rows as objects.
#[derive(Debug)]
pub struct JsonWriter {
    array: bool,
    started: bool,
}

impl JsonWriter {
    /// A writer of one array, or of lines.
    pub fn new(array: bool) -> Self {
        Self { array, started: false }
    }

    /// The rows of this batch.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let failed = |e| SinewError::from(DataFusionError::from(e));
        let mut lines = Vec::new();
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut lines);
        writer.write(batch).map_err(failed)?;
        writer.finish().map_err(failed)?;
        drop(writer);
        if !self.array {
            return Ok(lines);
        }
        let mut out = Vec::with_capacity(lines.len() + 2 * batch.num_rows());
        // A line feed inside a text is written as \n, so lines are rows.
        for row in lines.split(|b| *b == b'\n').filter(|row| !row.is_empty()) {
            out.extend_from_slice(if std::mem::replace(&mut self.started, true) { b",\n " } else { b"[" });
            out.extend_from_slice(row);
        }
        Ok(out)
    }

    /// The end of the array.
    pub fn end(self) -> Vec<u8> {
        match (self.array, self.started) {
            (false, _) => Vec::new(),
            (true, false) => b"[]\n".to_vec(),
            (true, true) => b"]\n".to_vec(),
        }
    }
}
