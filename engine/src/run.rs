//! Names that no other run has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A name no other run has: time, process, and a random part.
pub fn new_run() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), count);
    format!("{:012x}-{:08x}-{:016x}", now.as_millis(), std::process::id(), random)
}
