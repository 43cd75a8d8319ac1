//! Which process does something, so that another can tell whether it still lives.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A process, named so that no other has the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Name of its host.
    pub host: String,
    /// Its id there.
    pub pid: u32,
    /// The boot of that host and the name space of the id; empty where the system does not tell.
    space: String,
    /// When it began, as the system counts.
    began: String,
}

impl Process {
    /// This process.
    pub fn this() -> &'static Self {
        static THIS: OnceLock<Process> = OnceLock::new();
        THIS.get_or_init(|| {
            let pid = std::process::id();
            Self { host: read("/proc/sys/kernel/hostname"), pid, space: space(), began: began(pid).unwrap_or_default() }
        })
    }

    /// Whether it is known to have ended: only where its ids are those of this process's own host.
    pub fn is_gone(&self) -> bool {
        let here = Self::this();
        if self.space.is_empty() || (&self.host, &self.space) != (&here.host, &here.space) {
            return false;
        }
        // The id may have gone to another process since.
        began(self.pid).is_none_or(|began| began != self.began)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default()
}

/// Two processes with equal answers count ids alike.
fn space() -> String {
    let boot = read("/proc/sys/kernel/random/boot_id");
    match std::fs::read_link("/proc/self/ns/pid") {
        Ok(ids) if !boot.is_empty() => format!("{boot} {}", ids.display()),
        _ => String::new(),
    }
}

/// When a process began; `None` when there is none, or only what its parent has not collected yet.
fn began(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_be_gone_is_gone() {
        let this = Process::this().clone();
        if this.space.is_empty() {
            eprintln!("NOT TESTED: this system does not tell of processes");
            return;
        }
        assert!(!this.is_gone());
        assert!(Process { began: "0".into(), ..this.clone() }.is_gone(), "the id was given again");
        assert!(Process { pid: u32::MAX, ..this.clone() }.is_gone());
        assert!(!Process { pid: u32::MAX, host: "elsewhere".into(), ..this.clone() }.is_gone());
        assert!(!Process { pid: u32::MAX, space: "elsewhere".into(), ..this }.is_gone());
    }
}
