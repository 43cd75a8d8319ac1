//! Where blocks of training data stay between passes: in memory under the pool's budget, else on disk.
//!
//! ```text
//!  BlockStore ── run ────> Entry ──> [block 0: memory | block 1: memory | block 2: spilled file | ..]
//!             ── rows ───>   raw rows of the query, replaced one by one by their prepared form
//!             ── unit ───> Unit ──> Entry of a file, or of a range of one, that can be read again alone
//! ```
//! A run in this process reads into an entry of its own. When it has ended well, and its rows' key says that
//! the same rows would be read again (unchanged files, no volatile function), the entry is shared: later runs
//! with that key find it complete, and only ever read it. On a cluster every executor keeps the units that it
//! was given; whoever else is given one reads it from its file. The least recently used ones go when memory
//! is wanted.

mod entry;
mod shards;
mod spill;
mod unit;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::MemoryPool;
use parking_lot::Mutex;

pub use entry::{Entry, Fitted};
pub use unit::Unit;

/// A unit that no task used for so long may go when memory is wanted.
const IDLE: Duration = Duration::from_secs(60);

/// All resident training data of a process.
#[derive(Debug, Default)]
pub struct BlockStore {
    /// Entries of runs under way.
    runs: Mutex<HashMap<String, Arc<Entry>>>,
    /// Complete entries by the key of their rows.
    shared: Mutex<HashMap<String, Arc<Entry>>>,
    /// Units of rows by their keys.
    units: Mutex<HashMap<String, Arc<Unit>>>,
    /// What blocks are counted against; the task's own pool if there is none.
    pool: Option<Arc<dyn MemoryPool>>,
    clock: AtomicU64,
    /// Bytes that entries may keep in memory after their run; 0 keeps none.
    keep_bytes: AtomicU64,
}

impl BlockStore {
    /// A store whose blocks count against `pool`, whatever the pool of the task that brings them.
    pub fn with_pool(pool: Arc<dyn MemoryPool>) -> Self {
        Self { pool: Some(pool), ..Self::default() }
    }

    fn pool(&self, context: &TaskContext) -> Arc<dyn MemoryPool> {
        self.pool.clone().unwrap_or_else(|| Arc::clone(context.memory_pool()))
    }

    /// The unit of rows with this key, resident or yet to be read.
    pub fn unit(&self, key: &str) -> Arc<Unit> {
        let mut units = self.units.lock();
        let unit = units.entry(key.to_string()).or_insert_with(|| Arc::new(Unit::default()));
        unit.touch();
        Arc::clone(unit)
    }

    /// Drops units that no task used for `idle`; returns whether there was one.
    pub fn sweep(&self, idle: Duration) -> bool {
        let now = Instant::now();
        let mut units = self.units.lock();
        let before = units.len();
        units.retain(|_, unit| Arc::strong_count(unit) > 1 || unit.idle(now) < idle);
        units.len() < before
    }

    /// Lets entries stay after their run while they take at most `bytes` of memory together.
    pub fn keep(&self, bytes: u64) {
        self.keep_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Begins a run: its entry is the shared one of these rows, complete, or else a new one of its own.
    pub fn open(&self, run: &str, rows: Option<&str>) -> Arc<Entry> {
        let entry = rows.and_then(|rows| self.shared.lock().get(rows).cloned());
        let entry = entry.unwrap_or_else(|| Arc::new(Entry::new(run)));
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        self.runs.lock().insert(run.to_string(), Arc::clone(&entry));
        entry
    }

    /// The entry of a run that was opened, or a new one where the run lives in another process.
    pub fn entry(&self, run: &str) -> Arc<Entry> {
        let mut runs = self.runs.lock();
        Arc::clone(runs.entry(run.to_string()).or_insert_with(|| Arc::new(Entry::new(run))))
    }

    /// Ends a run. Its entry is shared under `rows` if it is complete and in memory, and there is room.
    pub fn close(&self, run: &str, rows: Option<&str>) {
        let entry = self.runs.lock().remove(run);
        let mut shared = self.shared.lock();
        if let (Some(entry), Some(rows)) = (entry, rows)
            && entry.fitted().is_some()
            && entry.spilled() == 0
        {
            shared.entry(rows.to_string()).or_insert(entry);
        }
        Self::evict(&mut shared, self.keep_bytes.load(Ordering::Relaxed));
    }

    /// Forgets the shared entry of these rows: they are no longer what they were.
    pub fn forget(&self, rows: &str) {
        self.shared.lock().remove(rows);
    }

    /// Drops shared entries that no run uses, the least recently used first, down to `limit` bytes.
    fn evict(shared: &mut HashMap<String, Arc<Entry>>, limit: u64) {
        let mut total: u64 = shared.values().map(|e| e.bytes()).sum();
        let mut idle: Vec<_> = shared
            .iter()
            .filter(|(_, entry)| Arc::strong_count(entry) == 1)
            .map(|(rows, entry)| (entry.used.load(Ordering::Relaxed), entry.bytes(), rows.clone()))
            .collect();
        idle.sort();
        for (_, bytes, rows) in idle {
            if total <= limit {
                return;
            }
            total -= bytes;
            shared.remove(&rows);
        }
    }

    /// Drops every shared entry that no run uses; returns whether there was one.
    pub fn evict_idle(&self) -> bool {
        let mut shared = self.shared.lock();
        let before = shared.len();
        Self::evict(&mut shared, 0);
        let fewer = shared.len() < before;
        drop(shared);
        self.sweep(IDLE) || fewer
    }

    /// Bytes in memory that stay after their run: shared entries and units.
    pub fn bytes(&self) -> u64 {
        let shared: u64 = self.shared.lock().values().map(|e| e.bytes()).sum();
        shared + self.units.lock().values().map(|unit| unit.bytes()).sum::<u64>()
    }
}
