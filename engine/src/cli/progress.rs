//! One line on the terminal that follows a training.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};

/// Said before the first report: the rows are read, and for networks put into shards.
const READING: &str = "  reading the rows";
/// A training that reports sooner says nothing else first.
const PATIENCE: Duration = Duration::from_millis(500);

/// The line; writes nothing where standard error is no terminal.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    active: bool,
    start: Instant,
    /// What the newest report said.
    said: String,
}

impl Progress {
    /// A line that appears with the first report, or after a while without one, if `wanted` and there is a terminal.
    pub fn new(wanted: bool) -> Self {
        Self {
            shown: false,
            active: wanted && std::io::stderr().is_terminal(),
            start: Instant::now(),
            said: READING.into(),
        }
    }

    /// Shows the newest report row.
    pub fn report(&mut self, batch: &RecordBatch) {
        if !self.active || batch.num_rows() == 0 {
            return;
        }
        let last = batch.num_rows() - 1;
        let value = |name: &str| number(batch.column_by_name(name)?, last);
        let mut line = String::new();
        if let Some(iteration) = value("iteration") {
            line += &format!("  iteration {iteration}");
        }
        if let Some(loss) = value("loss") {
            line += &format!("  loss {loss:.6}");
        }
        if let (Some(rows), Some(ms)) = (value("rows"), value("duration_ms"))
            && ms > 0.0
        {
            line += &format!("  {} rows/s", short(rows / ms * 1000.0));
        }
        self.said = line;
        self.show();
    }

    /// Shows that time passes.
    pub fn tick(&mut self) {
        if self.active && self.start.elapsed() >= PATIENCE {
            self.show();
        }
    }

    fn show(&mut self) {
        eprint!("\rtraining{}  {:.1} s\x1b[K", self.said, self.start.elapsed().as_secs_f64());
        let _ = std::io::stderr().flush();
        self.shown = true;
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
            let _ = std::io::stderr().flush();
        }
    }
}

fn number(column: &ArrayRef, row: usize) -> Option<f64> {
    let column = cast(&column.slice(row, 1), &DataType::Float64).ok()?;
    let column = column.as_primitive::<Float64Type>();
    column.is_valid(0).then(|| column.value(0))
}

/// `1.2M`, `340k`, `12`.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1}G", v / 1e9),
        v if v >= 1e6 => format!("{:.1}M", v / 1e6),
        v if v >= 1e3 => format!("{:.0}k", v / 1e3),
        v => format!("{v:.0}"),
    }
}
