//! CSV as RFC 4180 has it, with `\n` at line ends. NULL is empty; an empty text is `""`.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::cells::texts;
use crate::error::Result;

/// Writes a header, then a line for each row.
#[derive(Debug)]
pub struct CsvWriter {
    /// The header, until it is written.
    header: Option<Vec<u8>>,
}

impl CsvWriter {
    /// A writer for results of this schema.
    pub fn new(schema: SchemaRef) -> Self {
        let mut header = Vec::new();
        line(&mut header, schema.fields().iter().map(|f| Some(f.name().as_str())));
        Self { header: Some(header) }
    }

    /// The lines of this batch.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let mut out = self.header.take().unwrap_or_default();
        let columns = batch.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            line(&mut out, columns.iter().map(|column| column[row].as_deref()));
        }
        Ok(out)
    }

    /// The header, if no batch came.
    pub fn end(self) -> Vec<u8> {
        self.header.unwrap_or_default()
    }
}

fn line<'a>(out: &mut Vec<u8>, cells: impl Iterator<Item = Option<&'a str>>) {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        match cell {
            None => {}
            Some(text) if text.is_empty() || text.contains(['"', ',', '\n', '\r']) || text.trim() != text => {
                out.push(b'"');
                out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                out.push(b'"');
            }
            Some(text) => out.extend_from_slice(text.as_bytes()),
        }
    }
    out.push(b'\n');
}
