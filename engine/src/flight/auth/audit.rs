//! One line for each statement and each login: who, what, and how it ended.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde_json::json;

use super::guard::Identity;
use super::redact::redacted;
use super::roles::Need;
use crate::error::{Result, SinewError};

/// Bytes of a statement that a line shows.
const SHOWN: usize = 2_000;

/// Where lines go.
#[derive(Clone, Debug, Default)]
pub struct Audit(To);

#[derive(Clone, Debug, Default)]
enum To {
    /// Nowhere.
    #[default]
    Nowhere,
    /// To the log of the process, at the level `info`.
    Log,
    /// To the end of a file.
    File(Arc<Mutex<File>>),
}

impl Audit {
    /// To the log of the process.
    pub fn log() -> Self {
        Self(To::Log)
    }

    /// To the end of a file, a JSON object in each line; only its owner can read a file that is made for it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn file(path: &Path) -> Result<Self> {
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        let file = opened.map_err(|source| SinewError::Io {
            what: format!("opening '{}' (--audit names another)", path.display()),
            source,
        })?;
        Ok(Self(To::File(Arc::new(Mutex::new(file)))))
    }

    fn write(&self, line: &serde_json::Value) {
        match &self.0 {
            To::Nowhere => {}
            To::Log => log::info!(target: "sinew::audit", "{line}"),
            To::File(file) => {
                // One write for a line, so that lines of two processes do not mix.
                if let Err(error) = file.lock().write_all(format!("{line}\n").as_bytes()) {
                    log::error!("the audit cannot be written: {error}: {line}");
                }
            }
        }
    }

    /// Writes down a login; `error` is why it failed.
    pub fn login(&self, user: &str, peer: Option<SocketAddr>, error: Option<&SinewError>) {
        if matches!(self.0, To::Nowhere) {
            return;
        }
        let user: String = user.chars().take(64).collect();
        let outcome = error.map_or("ok".into(), |error| error.code().unwrap_or_default());
        self.write(&json!({
            "time": now(), "user": user, "peer": peer.map(|p| p.to_string()), "kind": "login", "outcome": outcome,
        }));
    }

    /// Begins the line of a statement; it is written when the entry ends.
    pub fn begin(&self, who: Who, need: Need, text: &str) -> Entry {
        let text = if matches!(self.0, To::Nowhere) { String::new() } else { redacted(text, SHOWN) };
        Entry { audit: self.clone(), who, need, text, time: now(), start: Instant::now(), end: None }
    }
}

/// Who runs a statement, and from where.
#[derive(Clone, Debug)]
pub struct Who {
    /// The user.
    pub identity: Arc<Identity>,
    /// The address.
    pub peer: Option<SocketAddr>,
    /// Tells sessions apart, and is of no other use.
    pub session: String,
}

/// A statement that runs. Dropped before its end was said, it was cancelled.
#[derive(Debug)]
pub struct Entry {
    audit: Audit,
    who: Who,
    need: Need,
    text: String,
    time: String,
    start: Instant,
    end: Option<String>,
}

impl Entry {
    /// The statement has ended: with so many rows, or with the text of an error.
    pub fn end(mut self, result: std::result::Result<u64, &str>) {
        let (outcome, rows) = match result {
            Ok(rows) => ("ok".to_string(), Some(rows)),
            Err(text) => (code(text), None),
        };
        self.write(&outcome, rows);
    }

    /// The statement did not run, and leaves no line.
    pub fn forget(mut self) {
        self.end = Some(String::new());
    }

    fn write(&mut self, outcome: &str, rows: Option<u64>) {
        self.end = Some(outcome.into());
        if matches!(self.audit.0, To::Nowhere) {
            return;
        }
        let milliseconds = (self.start.elapsed().as_secs_f64() * 1e4).round() / 10.0;
        self.audit.write(&json!({
            "time": self.time,
            "user": self.who.identity.user,
            "peer": self.who.peer.map(|peer| peer.to_string()),
            "session": self.who.session,
            "roles": self.who.identity.roles.to_string(),
            "role": self.need.role.name(),
            "kind": self.need.kind,
            "statement": self.text,
            "outcome": outcome,
            "rows": rows,
            "ms": milliseconds,
        }));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.write("cancelled", None);
        }
    }
}

/// The code that a text begins with; the text may show data.
fn code(text: &str) -> String {
    match text.get(..10).filter(|code| code.starts_with("SINEW-")) {
        Some("SINEW-3006") => "cancelled".into(),
        Some(code) => code.into(),
        None => "failed".into(),
    }
}

fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = datafusion::arrow::temporal_conversions::timestamp_ms_to_datetime(now.as_millis() as i64);
    time.map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::roles::QUERY;
    use super::*;

    #[test]
    fn every_statement_leaves_one_line() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let path = place.path().join("audit.jsonl");
        let audit = Audit::file(&path)?;
        let who = Who { identity: Arc::new(Identity::anyone()), peer: None, session: "s".into() };
        audit.begin(who.clone(), QUERY, "SELECT\n1").end(Ok(1));
        audit.begin(who.clone(), QUERY, "SELECT x").end(Err("SINEW-3002: no 'x' in here"));
        drop(audit.begin(who, QUERY, "SELECT 2"));
        audit.login("ann", None, Some(&SinewError::Login { reason: String::new() }));
        let lines: Vec<serde_json::Value> =
            std::fs::read_to_string(&path)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let outcomes: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap_or_default()).collect();
        assert_eq!(outcomes, ["ok", "SINEW-3002", "cancelled", "SINEW-3701"]);
        assert_eq!((lines[0]["statement"].as_str(), lines[0]["rows"].as_u64()), (Some("SELECT 1"), Some(1)));
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata()?.permissions()) & 0o777, 0o600);
        Ok(())
    }
}
