//! Where blocks of training data stay between passes: in memory under the pool's budget, else on disk.
//!
//! ```text
//!  BlockStore ── key ──> Entry ──> [block 0: memory | block 1: memory | block 2: spilled file | ..]
//!                          raw rows of the query, replaced one by one by their prepared form
//! ```
//! An entry belongs to whoever trains on it; when its key says that the same rows would be read again
//! (unchanged files, no volatile function), the store keeps it for the next run and drops the least
//! recently used ones when memory is wanted.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::arrow::array::{AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::UInt32Type;
use datafusion::arrow::ipc::{reader::StreamReader, writer::StreamWriter};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::spill_file::SpillFile;
use parking_lot::Mutex;

use crate::block::HASH;
use crate::error::{MlError, Result};
use crate::fold::Sample;
use crate::prepare::Frozen;
use crate::profile::Profile;

/// All resident training data of a process.
#[derive(Debug, Default)]
pub struct BlockStore {
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    clock: AtomicU64,
    /// Bytes that entries may keep in memory after their run; 0 keeps none.
    keep_bytes: AtomicU64,
}

/// The blocks of one training query.
pub struct Entry {
    key: String,
    /// Held while a run reads and prepares the rows.
    pub loading: tokio::sync::Mutex<()>,
    blocks: Mutex<Vec<Stored>>,
    fitted: Mutex<Option<Fitted>>,
    bytes: AtomicU64,
    spilled: AtomicU64,
    used: AtomicU64,
    loaded: AtomicBool,
    reservation: Mutex<Option<MemoryReservation>>,
}

/// What the first passes over an entry learnt; present once all its rows were read.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// Ranges, categories, classes.
    pub profile: Arc<Profile>,
    /// How its rows are prepared.
    pub frozen: Arc<Frozen>,
}

#[derive(Clone)]
struct Stored {
    place: Place,
    prepared: bool,
    /// The rows of a resident sample, and which.
    sampled: Option<(Sample, RecordBatch)>,
}

#[derive(Clone)]
enum Place {
    Memory(RecordBatch),
    Disk(Arc<dyn SpillFile>),
}

impl BlockStore {
    /// Lets entries stay after their run while they take at most `bytes` of memory together.
    pub fn keep(&self, bytes: u64) {
        self.keep_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The entry of that key, new and empty if there is none.
    pub fn entry(&self, key: &str) -> Arc<Entry> {
        let entry = Arc::clone(self.entries.lock().entry(key.to_string()).or_insert_with(|| Arc::new(Entry::new(key))));
        entry.used.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        entry
    }

    /// Ends a run's use of an entry: it stays only if it is complete, reusable, and there is room.
    pub fn release(&self, key: &str, reusable: bool) {
        let mut entries = self.entries.lock();
        let complete = entries.get(key).is_some_and(|e| e.fitted.lock().is_some());
        if !(reusable && complete) {
            entries.remove(key);
        }
        Self::evict(&mut entries, self.keep_bytes.load(Ordering::Relaxed));
    }

    /// Drops entries that no run uses, the least recently used first, down to `limit` bytes.
    fn evict(entries: &mut HashMap<String, Arc<Entry>>, limit: u64) {
        let mut total: u64 = entries.values().map(|e| e.bytes.load(Ordering::Relaxed)).sum();
        let mut idle: Vec<_> = entries.values().filter(|e| Arc::strong_count(e) == 1).cloned().collect();
        idle.sort_by_key(|e| e.used.load(Ordering::Relaxed));
        for entry in idle {
            if total <= limit {
                return;
            }
            total -= entry.bytes.load(Ordering::Relaxed);
            entries.remove(&entry.key);
        }
    }

    /// Drops every entry that no run uses; returns whether there was one.
    pub fn evict_idle(&self) -> bool {
        let mut entries = self.entries.lock();
        let before = entries.len();
        Self::evict(&mut entries, 0);
        entries.len() < before
    }

    /// Bytes in memory, over all entries.
    pub fn bytes(&self) -> u64 {
        self.entries.lock().values().map(|e| e.bytes.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, {} blocks, {} bytes)", self.key, self.len(), self.bytes())
    }
}

impl Entry {
    fn new(key: &str) -> Self {
        Self {
            key: key.into(),
            loading: tokio::sync::Mutex::default(),
            blocks: Mutex::default(),
            fitted: Mutex::default(),
            bytes: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            used: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            reservation: Mutex::default(),
        }
    }

    /// What was learnt of the rows, once all were read.
    pub fn fitted(&self) -> Option<Fitted> {
        self.fitted.lock().clone()
    }

    /// Marks the entry complete.
    pub fn set_fitted(&self, fitted: Fitted) {
        *self.fitted.lock() = Some(fitted);
    }

    /// Drops the blocks of a load that did not end.
    pub fn clear(&self) {
        self.blocks.lock().clear();
        self.loaded.store(false, Ordering::Release);
        self.bytes.store(0, Ordering::Relaxed);
        self.spilled.store(0, Ordering::Relaxed);
        *self.reservation.lock() = None;
    }

    /// Whether the query was read to its end: later passes read the blocks.
    pub fn loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Says that the query was read to its end.
    pub fn set_loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.lock().len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes on disk.
    pub fn spilled(&self) -> u64 {
        self.spilled.load(Ordering::Relaxed)
    }

    /// Adds a block of the query's rows.
    ///
    /// # Errors
    /// When it fits neither in memory nor on disk.
    pub fn push(&self, batch: RecordBatch, store: &BlockStore, context: &TaskContext) -> Result<()> {
        let place = self.place(batch, store, context)?;
        self.blocks.lock().push(Stored { place, prepared: false, sampled: None });
        Ok(())
    }

    /// Block `i`, prepared by `frozen`; the prepared form replaces the raw one.
    ///
    /// # Errors
    /// When a spilled block cannot be read or the rows cannot be prepared.
    pub fn prepared(
        &self,
        i: usize,
        frozen: &Frozen,
        store: &BlockStore,
        context: &TaskContext,
    ) -> Result<RecordBatch> {
        let (batch, prepared) = self.read(i)?;
        if prepared {
            return Ok(batch);
        }
        let ready = frozen.prepare(&batch)?;
        self.shrink(&batch, i);
        drop(batch);
        let place = self.place(ready.clone(), store, context)?;
        if let Some(stored) = self.blocks.lock().get_mut(i) {
            *stored = Stored { place, prepared: true, sampled: None };
        }
        Ok(ready)
    }

    /// The rows of block `i` that are in a resident sample, prepared; copied once.
    ///
    /// # Errors
    /// As for [`Self::prepared`].
    pub fn sampled(
        &self,
        i: usize,
        sample: Sample,
        frozen: &Frozen,
        store: &BlockStore,
        context: &TaskContext,
    ) -> Result<RecordBatch> {
        let kept = self.blocks.lock().get(i).and_then(|stored| stored.sampled.clone());
        if let Some((_, rows)) = kept.filter(|(known, _)| *known == sample) {
            return Ok(rows);
        }
        let rows = sample_rows(&self.prepared(i, frozen, store, context)?, sample)?;
        let bytes = rows.get_array_memory_size();
        if self.grow(bytes, context) {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            if let Some(stored) = self.blocks.lock().get_mut(i) {
                stored.sampled = Some((sample, rows.clone()));
            }
        }
        Ok(rows)
    }

    /// Block `i` as the query gave it.
    ///
    /// # Errors
    /// When a spilled block cannot be read, or the block was prepared already.
    pub fn raw(&self, i: usize) -> Result<RecordBatch> {
        match self.read(i)? {
            (batch, false) => Ok(batch),
            _ => Err(MlError::Internal(format!("block {i} of {} is prepared already", self.key))),
        }
    }

    fn read(&self, i: usize) -> Result<(RecordBatch, bool)> {
        let stored = self.blocks.lock().get(i).cloned();
        let stored = stored.ok_or_else(|| MlError::Internal(format!("no block {i} in {}", self.key)))?;
        let batch = match stored.place {
            Place::Memory(batch) => batch,
            Place::Disk(file) => unspill(&file)?,
        };
        Ok((batch, stored.prepared))
    }

    /// Keeps a batch in memory if the pool has room, else writes it to disk.
    fn place(&self, batch: RecordBatch, store: &BlockStore, context: &TaskContext) -> Result<Place> {
        let bytes = batch.get_array_memory_size();
        if self.grow(bytes, context) || (store.evict_idle() && self.grow(bytes, context)) {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            return Ok(Place::Memory(batch));
        }
        let file = spill(&batch, context)?;
        self.spilled.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(Place::Disk(file))
    }

    /// Moves blocks to disk until `bytes` of memory are given back or no block is left in memory.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn give_back(&self, bytes: u64, context: &TaskContext) -> Result<()> {
        let goal = self.bytes().saturating_sub(bytes);
        for i in (0..self.len()).rev() {
            if self.bytes() <= goal {
                break;
            }
            let Some(Stored { place: Place::Memory(batch), prepared, sampled }) = self.blocks.lock().get(i).cloned()
            else {
                continue;
            };
            let place = Place::Disk(spill(&batch, context)?);
            self.spilled.fetch_add(batch.get_array_memory_size() as u64, Ordering::Relaxed);
            self.shrink(&batch, i);
            if let Some(stored) = self.blocks.lock().get_mut(i) {
                *stored = Stored { place, prepared, sampled };
            }
        }
        Ok(())
    }

    fn grow(&self, bytes: usize, context: &TaskContext) -> bool {
        let mut slot = self.reservation.lock();
        let reservation =
            slot.get_or_insert_with(|| MemoryConsumer::new("FeatureCache").register(context.memory_pool()));
        reservation.try_grow(bytes).is_ok()
    }

    fn shrink(&self, batch: &RecordBatch, i: usize) {
        let in_memory = matches!(self.blocks.lock().get(i), Some(Stored { place: Place::Memory(_), .. }));
        if in_memory {
            let bytes = batch.get_array_memory_size();
            self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
            if let Some(reservation) = self.reservation.lock().as_mut() {
                reservation.shrink(bytes);
            }
        }
    }
}

fn sample_rows(batch: &RecordBatch, sample: Sample) -> Result<RecordBatch> {
    let hashes = batch
        .column_by_name(HASH)
        .and_then(|array| array.as_primitive_opt::<UInt32Type>())
        .ok_or_else(|| MlError::Internal("a prepared block has no row hashes".into()))?;
    let rows = (0u32..).zip(hashes.values()).filter(|(_, hash)| sample.takes(**hash)).map(|(row, _)| row);
    Ok(take_record_batch(batch, &UInt32Array::from_iter_values(rows))?)
}

fn spill(batch: &RecordBatch, context: &TaskContext) -> Result<Arc<dyn SpillFile>> {
    let file = context.runtime_env().disk_manager.create_tmp_file("the feature cache of a training")?;
    let mut output = file.open_writer()?;
    let mut writer = StreamWriter::try_new(&mut output, batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    output.finish()?;
    Ok(file)
}

fn unspill(file: &Arc<dyn SpillFile>) -> Result<RecordBatch> {
    let path = file.path().ok_or_else(|| MlError::Internal("a spilled block is not a local file".into()))?;
    let input = BufReader::new(File::open(path).map_err(DataFusionError::from)?);
    let mut reader = StreamReader::try_new(input, None)?;
    let batch = reader.next().ok_or_else(|| MlError::Internal("a spilled block is empty".into()))?;
    Ok(batch?)
}
