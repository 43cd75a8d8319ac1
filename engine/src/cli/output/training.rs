//! The report of a training as a table that fits a terminal: what changes from row to row, in seven digits; what does
//! not (model, version, run, device) follows in one line. The other formats have every column and every digit.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};

use super::table::TableWriter;
use crate::error::{Result, SinewError};

/// Columns that change from row to row.
const SHOWN: [&str; 7] = ["iteration", "loss", "eval_loss", "learning_rate", "gradient_norm", "duration_ms", "rows"];
/// Those that a narrow terminal does without, the first one first.
const SPARE: [&str; 2] = ["learning_rate", "gradient_norm"];
/// The usual width of a value.
const USUAL: usize = 8;
/// The one among them that is shown where rows are held out.
const HELD_OUT: &str = "eval_loss";

/// Writes the report of a training.
#[derive(Debug)]
pub struct TrainingWriter {
    limit: Option<usize>,
    /// Made of the first rows, which tell whether rows are held out.
    table: Option<(TableWriter, Vec<usize>)>,
    /// The newest row.
    last: Option<RecordBatch>,
}

impl TrainingWriter {
    /// A writer whose table is cut to `limit` columns of text if there is one.
    pub fn new(limit: Option<usize>) -> Self {
        Self { limit, table: None, last: None }
    }

    /// Adds rows, and returns the text that is ready.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        self.last = Some(batch.slice(batch.num_rows() - 1, 1));
        let (table, shown) = match &mut self.table {
            Some(table) => table,
            none => {
                let shown = shown(batch, self.limit);
                let schema = batch.schema().project(&shown).map_err(internal)?;
                none.insert((TableWriter::new(Arc::new(schema), self.limit, false), shown))
            }
        };
        let batch = batch.project(shown).map_err(internal)?;
        let columns = batch.columns().iter().map(rounded).collect();
        table.batch(&RecordBatch::try_new(batch.schema(), columns).map_err(internal)?)
    }

    /// The rest of the table, and the line below it.
    pub fn end(self) -> Vec<u8> {
        let Some((table, _)) = self.table else { return Vec::new() };
        let mut out = table.end();
        if let Some(line) = self.last.as_ref().and_then(below) {
            out.extend_from_slice(line.as_bytes());
        }
        out
    }
}

fn internal(error: datafusion::arrow::error::ArrowError) -> SinewError {
    SinewError::Internal(error.to_string())
}

/// Which columns are shown: those that there are, and that fit.
fn shown(batch: &RecordBatch, limit: Option<usize>) -> Vec<usize> {
    let there = |name: &str| batch.column_by_name(name).is_some_and(|c| name != HELD_OUT || c.is_valid(0));
    let mut names: Vec<&str> = SHOWN.into_iter().filter(|name| there(name)).collect();
    let width = |names: &[&str]| names.iter().map(|name| name.len().max(USUAL) + 3).sum::<usize>() + 1;
    for spare in SPARE {
        if limit.is_some_and(|limit| width(&names) > limit) {
            names.retain(|name| *name != spare);
        }
    }
    names.into_iter().filter_map(|name| batch.schema().index_of(name).ok()).collect()
}

/// Numbers in seven digits.
fn rounded(column: &ArrayRef) -> ArrayRef {
    let Some(numbers) = column.as_primitive_opt::<Float64Type>() else { return Arc::clone(column) };
    let round = |number: f64| format!("{number:.6e}").parse().unwrap_or(number);
    Arc::new(numbers.iter().map(|number| number.map(round)).collect::<Float64Array>())
}

/// `model m, version 1, run .., cpu (avx2)`.
fn below(row: &RecordBatch) -> Option<String> {
    let text = |name: &str| {
        let column = row.column_by_name(name)?.as_string_opt::<i32>()?;
        column.is_valid(0).then(|| column.value(0).to_string())
    };
    let version = row.column_by_name("version")?.as_primitive_opt::<Int64Type>()?;
    let mut line = format!("model {}", text("model")?);
    if version.is_valid(0) {
        line += &format!(", version {}", version.value(0));
    }
    line += &text("run").map_or(String::new(), |run| format!(", run {run}"));
    line += &text("device").map_or(String::new(), |device| format!(", {device}"));
    Some(line + "\n")
}
