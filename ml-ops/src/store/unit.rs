//! A unit of rows that can be read again alone, and its blocks while they are resident.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Entry;

/// The blocks of a unit, complete or absent: a half-read unit is never seen.
#[derive(Debug)]
pub struct Unit {
    entry: Mutex<Option<Arc<Entry>>>,
    used: Mutex<Instant>,
    /// Held by the task that reads it from its file; others wait and find it resident.
    pub reading: tokio::sync::Mutex<()>,
}

impl Default for Unit {
    fn default() -> Self {
        Self { entry: Mutex::default(), used: Mutex::new(Instant::now()), reading: tokio::sync::Mutex::default() }
    }
}

impl Unit {
    /// Its blocks, if they are resident.
    pub fn entry(&self) -> Option<Arc<Entry>> {
        self.touch();
        self.entry.lock().clone()
    }

    /// An entry to fill, unseen by others until [`Self::keep`].
    pub fn fresh(&self, key: &str) -> Arc<Entry> {
        Arc::new(Entry::new(key))
    }

    /// Makes a complete entry the unit's own.
    pub fn keep(&self, entry: Arc<Entry>) {
        self.touch();
        *self.entry.lock() = Some(entry);
    }

    pub(super) fn touch(&self) {
        *self.used.lock() = Instant::now();
    }

    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.used.lock())
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entry.lock().as_ref().map_or(0, |entry| entry.bytes())
    }
}
