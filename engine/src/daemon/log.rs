//! What a daemon writes to standard error: a line for each event, with its time and level.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::Settings;
use crate::error::{Result, SinewError};

/// One logger for the process; the level of our own modules, and a lower one for those of others.
struct Lines {
    ours: AtomicUsize,
    theirs: AtomicUsize,
}

/// Modules that warn of what is usual: results that two clean-ups remove, sorts that go to disk.
const CHATTY: [&str; 3] = [
    "ballista_scheduler::state::executor_manager",
    "ballista_scheduler::cluster::memory",
    "ballista_core::execution_plans::sort_shuffle",
];

static LINES: Lines = Lines { ours: AtomicUsize::new(0), theirs: AtomicUsize::new(0) };

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let limit = if target.starts_with("sinew") { &self.ours } else { &self.theirs }.load(Ordering::Relaxed);
        let usual = limit <= Level::Info as usize && CHATTY.iter().any(|module| target.starts_with(module));
        metadata.level() as usize <= if usual { limit.min(Level::Error as usize) } else { limit }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let time = datafusion::arrow::temporal_conversions::timestamp_ms_to_datetime(now.as_millis() as i64);
            let time = time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).unwrap_or_default();
            let level = match record.level() {
                Level::Error => "ERROR",
                Level::Warn => "WARN ",
                Level::Info => "INFO ",
                Level::Debug => "DEBUG",
                Level::Trace => "TRACE",
            };
            // Nobody reads what cannot be written.
            let _ = writeln!(std::io::stderr(), "{time} {level} {}: {}", record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Begins to log to standard error, at the level that the option `log` says.
///
/// # Errors
/// When the level is none of `error`, `warn`, `info`, `debug` and `trace`.
pub fn log(settings: &Settings) -> Result<()> {
    let written = settings.text("log").unwrap_or("info");
    let level: LevelFilter = written.parse().map_err(|_| SinewError::Config {
        name: "--log".into(),
        value: written.into(),
        expected: "write one of error, warn, info, debug, trace".into(),
    })?;
    // Ballista tells every step of every job at `info`; one level less is what a person can read.
    let theirs = if level > LevelFilter::Info { level } else { level.min(LevelFilter::Warn) };
    LINES.ours.store(level as usize, Ordering::Relaxed);
    LINES.theirs.store(theirs as usize, Ordering::Relaxed);
    // A second call in one process keeps the logger and changes its level.
    let _ = log::set_logger(&LINES);
    log::set_max_level(level.max(theirs));
    Ok(())
}
