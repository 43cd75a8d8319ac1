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

/// What others say again and again when a peer is gone, by the module and how the message begins: our own modules say it
/// once. `debug` shows all of it.
const REPEATED: [(&str, &str); 7] = [
    ("ballista_executor::executor_server", "Fail to update heartbeat"),
    ("ballista_executor::executor_server", "Fail to update tasks"),
    ("ballista_executor::executor_server", "Fail to connect to scheduler"),
    ("ballista_executor::executor_server", "Heartbeat failed"),
    ("ballista_executor::executor_process", "error sending heartbeat"),
    ("ballista_executor::executor_process", "ExecutorStopped grpc failed"),
    ("ballista_scheduler::state::execution_graph", "Reset "),
];
/// Characters of a message of others that are shown, unless all is: some print the state of a whole job.
const SHOWN: usize = 400;

static LINES: Lines = Lines { ours: AtomicUsize::new(0), theirs: AtomicUsize::new(0) };

/// A message as it is written at the level that holds for its module; `None` where it is not.
fn told(limit: usize, module: &str, message: String) -> Option<String> {
    if limit > Level::Info as usize || module.starts_with("sinew") {
        return Some(message);
    }
    if REPEATED.iter().any(|(of, start)| module.starts_with(of) && message.starts_with(start)) {
        return None;
    }
    match message.char_indices().nth(SHOWN) {
        Some((end, _)) => Some(format!("{} ..", &message[..end])),
        None => Some(message),
    }
}

impl Lines {
    /// The level that holds for a module.
    fn limit(&self, module: &str) -> usize {
        if module.starts_with("sinew") { &self.ours } else { &self.theirs }.load(Ordering::Relaxed)
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let limit = self.limit(target);
        let usual = limit <= Level::Info as usize && CHATTY.iter().any(|module| target.starts_with(module));
        metadata.level() as usize <= if usual { limit.min(Level::Error as usize) } else { limit }
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata())
            && let Some(message) = told(self.limit(record.target()), record.target(), record.args().to_string())
        {
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
            let _ = writeln!(std::io::stderr(), "{time} {level} {}: {message}", record.target());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_repeat_is_left_out_and_what_is_long_is_cut() {
        let info = Level::Info as usize;
        let server = "ballista_executor::executor_server";
        assert_eq!(told(info, server, "Fail to update heartbeat to scheduler a:1 due to ..".into()), None);
        assert_eq!(
            told(info, server, "failed to decode tasks for 1".into()).as_deref(),
            Some("failed to decode tasks for 1")
        );
        let long = "é".repeat(5_000);
        assert_eq!(told(info, server, long.clone()).map(|text| text.chars().count()), Some(SHOWN + 3));
        assert_eq!(told(info, "sinew_executor::server", long.clone()), Some(long.clone()));
        assert_eq!(told(Level::Debug as usize, server, long.clone()), Some(long));
    }
}
