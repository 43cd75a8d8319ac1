//! What trainings add to Ballista's metrics, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt64Type;
use sinew_ml::operators::covered;

/// Counters since the process began.
#[derive(Debug, Default)]
pub struct Metrics {
    runs: AtomicU64,
    running: AtomicU64,
    iterations: AtomicU64,
    steps: AtomicU64,
    rows: AtomicU64,
    microseconds: AtomicU64,
    units: AtomicU64,
    loaded: AtomicU64,
    cache_bytes: AtomicU64,
}

impl Metrics {
    /// A training has come to its first step.
    pub fn run_begins(&self) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A training has ended, however it did.
    pub fn run_ends(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// A training has come to its next iteration.
    pub fn iteration(&self) {
        self.iterations.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a step and what its tasks report.
    pub fn step(&self, took: Duration, results: &[RecordBatch]) {
        let sum = |column: usize| -> u64 {
            let values = results.iter().filter_map(|batch| batch.columns().get(column));
            values.filter_map(|a| a.as_primitive_opt::<UInt64Type>()).flat_map(|a| a.values().to_vec()).sum()
        };
        let units: usize = results.iter().filter_map(|b| covered(b).ok()).flatten().map(|units| units.len()).sum();
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(sum(1), Ordering::Relaxed);
        self.microseconds.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.units.fetch_add(units as u64, Ordering::Relaxed);
        self.loaded.fetch_add(sum(3), Ordering::Relaxed);
        self.cache_bytes.store(sum(4), Ordering::Relaxed);
    }

    /// The counters as text.
    pub fn text(&self, executors: usize, slots: usize) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (units, loaded) = (read(&self.units), read(&self.loaded));
        let lines: [(&str, &str, &str, f64); 11] = [
            ("sinew_runs_total", "counter", "Trainings that came to their first step", read(&self.runs) as f64),
            ("sinew_runs", "gauge", "Trainings under way", read(&self.running) as f64),
            ("sinew_iterations_total", "counter", "Iterations of all trainings", read(&self.iterations) as f64),
            ("sinew_executors", "gauge", "Executors that take tasks", executors as f64),
            ("sinew_slots", "gauge", "Cores of all executors", slots as f64),
            ("sinew_steps_total", "counter", "Steps of trainings that ended well", read(&self.steps) as f64),
            ("sinew_step_rows_total", "counter", "Rows that steps have folded", read(&self.rows) as f64),
            ("sinew_step_seconds_total", "counter", "Time of all steps", read(&self.microseconds) as f64 / 1e6),
            (
                "sinew_cache_hits_total",
                "counter",
                "Units of rows that a step found resident",
                units.saturating_sub(loaded) as f64,
            ),
            ("sinew_cache_loads_total", "counter", "Units of rows that a step read from their files", loaded as f64),
            (
                "sinew_cache_bytes",
                "gauge",
                "Bytes of resident rows, as the last step saw them",
                read(&self.cache_bytes) as f64,
            ),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in lines {
            // Writing to a text never fails.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
        }
        text
    }
}
