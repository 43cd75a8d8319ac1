//! What trainings add to Ballista's metrics, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt64Type;
use sinew_ml::operators::{Spent, covered, spent};

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
    gpu_folds: AtomicU64,
    gpu_fallbacks: AtomicU64,
    gpu_uploaded_bytes: AtomicU64,
    gpu_busy_us: AtomicU64,
    gpu_resident_bytes: AtomicU64,
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
        let rows = results.iter().filter_map(|batch| batch.columns().get(1)?.as_primitive_opt::<UInt64Type>());
        let rows: u64 = rows.flat_map(|counts| counts.values().to_vec()).sum();
        let told = spent(results).unwrap_or_default();
        let sum = |of: fn(&Spent) -> u64| -> u64 { told.iter().map(of).sum() };
        let units: usize = results.iter().filter_map(|b| covered(b).ok()).flatten().map(|units| units.len()).sum();
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.microseconds.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.units.fetch_add(units as u64, Ordering::Relaxed);
        self.loaded.fetch_add(sum(|spent| spent.loaded), Ordering::Relaxed);
        self.cache_bytes.store(sum(|spent| spent.resident_bytes), Ordering::Relaxed);
        self.gpu_folds.fetch_add(sum(|spent| spent.gpu.calls), Ordering::Relaxed);
        self.gpu_fallbacks.fetch_add(sum(|spent| spent.gpu.fallbacks), Ordering::Relaxed);
        self.gpu_uploaded_bytes.fetch_add(sum(|spent| spent.gpu.uploaded_bytes), Ordering::Relaxed);
        self.gpu_busy_us.fetch_add(sum(|spent| spent.gpu.busy_us), Ordering::Relaxed);
        self.gpu_resident_bytes.store(sum(|spent| spent.gpu_resident_bytes), Ordering::Relaxed);
    }

    /// The counters as text.
    pub fn text(&self, executors: usize, slots: usize) -> String {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (units, loaded) = (read(&self.units), read(&self.loaded));
        let lines: [(&str, &str, &str, f64); 16] = [
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
            ("sinew_gpu_folds_total", "counter", "Folds of rows that GPUs did", read(&self.gpu_folds) as f64),
            (
                "sinew_gpu_fallbacks_total",
                "counter",
                "Folds that CPUs did because something went wrong with a GPU",
                read(&self.gpu_fallbacks) as f64,
            ),
            (
                "sinew_gpu_uploaded_bytes_total",
                "counter",
                "Bytes that were uploaded to GPUs",
                read(&self.gpu_uploaded_bytes) as f64,
            ),
            (
                "sinew_gpu_busy_seconds_total",
                "counter",
                "Time that kernels of GPUs were waited for",
                read(&self.gpu_busy_us) as f64 / 1e6,
            ),
            (
                "sinew_gpu_resident_bytes",
                "gauge",
                "Bytes of rows in the memory of GPUs, as the last step saw them",
                read(&self.gpu_resident_bytes) as f64,
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
