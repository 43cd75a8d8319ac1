//! Results as text: a table for people, CSV, JSON and NDJSON for programs.

mod cells;
mod csv;
mod json;
mod table;
mod training;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use crate::error::Result;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns.
    #[default]
    Table,
    /// Comma-separated values with a header (RFC 4180). NULL is empty, an empty text is `""`.
    Csv,
    /// One array of objects for each result.
    Json,
    /// One object a line.
    Ndjson,
}

impl Format {
    /// Their names.
    pub const NAMES: [&'static str; 4] = ["table", "csv", "json", "ndjson"];

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "table" => Some(Self::Table),
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "ndjson" => Some(Self::Ndjson),
            _ => None,
        }
    }
}

/// Turns the batches of one result into text. A result without columns is no text.
#[derive(Debug)]
pub enum Writer {
    /// Nothing to write.
    Silent,
    /// Aligned columns.
    Table(table::TableWriter),
    /// Aligned columns of a training's report.
    Training(training::TrainingWriter),
    /// CSV.
    Csv(csv::CsvWriter),
    /// JSON and NDJSON.
    Json(json::JsonWriter),
}

impl Writer {
    /// A writer for results of this schema. On a terminal tables are cut to its width, and with `notes`
    /// followed by the number of rows.
    pub fn new(format: Format, schema: SchemaRef, terminal: bool, notes: bool) -> Self {
        if schema.fields().is_empty() {
            return Self::Silent;
        }
        match format {
            Format::Table => {
                Self::Table(table::TableWriter::new(schema, terminal.then(table::terminal_width), terminal && notes))
            }
            Format::Csv => Self::Csv(csv::CsvWriter::new(schema)),
            Format::Json => Self::Json(json::JsonWriter::new(true)),
            Format::Ndjson => Self::Json(json::JsonWriter::new(false)),
        }
    }

    /// A writer for the report of a training.
    pub fn of_training(format: Format, schema: SchemaRef, terminal: bool, notes: bool) -> Self {
        match format {
            Format::Table => Self::Training(training::TrainingWriter::new(terminal.then(table::terminal_width))),
            _ => Self::new(format, schema, terminal, notes),
        }
    }

    /// The text that is ready after this batch; may be empty.
    ///
    /// # Errors
    /// When a value has no text form.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        match self {
            Self::Silent => Ok(Vec::new()),
            Self::Table(writer) => writer.batch(batch),
            Self::Training(writer) => writer.batch(batch),
            Self::Csv(writer) => writer.batch(batch),
            Self::Json(writer) => writer.batch(batch),
        }
    }

    /// The rest of the text.
    ///
    /// # Errors
    /// When a value has no text form.
    pub fn end(self) -> Result<Vec<u8>> {
        match self {
            Self::Silent => Ok(Vec::new()),
            Self::Table(writer) => Ok(writer.end()),
            Self::Training(writer) => Ok(writer.end()),
            Self::Csv(writer) => Ok(writer.end()),
            Self::Json(writer) => Ok(writer.end()),
        }
    }
}

#[cfg(test)]
mod tests;
