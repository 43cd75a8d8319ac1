//! Where blocks of training data stay between passes: in memory under the pool's budget, else on disk.
//!
//! ```text
//!  BlockStore ── run ────> Entry ──> [block 0: memory | block 1: memory | block 2: spilled file | ..]
//!             ── rows ───>   raw rows of the query, replaced one by one by their prepared form
//! ```
//! A run reads into an entry of its own. When it has ended well, and its rows' key says that the same rows
//! would be read again (unchanged files, no volatile function), the entry is shared: later runs with that
//! key find it complete, and only ever read it. The least recently used ones go when memory is wanted.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
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
    /// Entries of runs under way.
    runs: Mutex<HashMap<String, Arc<Entry>>>,
    /// Complete entries by the key of their rows.
    shared: Mutex<HashMap<String, Arc<Entry>>>,
    clock: AtomicU64,
    /// Bytes that entries may keep in memory after their run; 0 keeps none.
    keep_bytes: AtomicU64,
}

/// The blocks of one training query.
pub struct Entry {
    key: String,
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
            && entry.fitted.lock().is_some()
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
        shared.len() < before
    }

    /// Bytes in memory of shared entries.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().values().map(|e| e.bytes()).sum()
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
        let in_memory = matches!(self.blocks.lock().get(i), Some(Stored { place: Place::Memory(_), .. }));
        if in_memory {
            self.give(size(&batch));
        }
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
        let bytes = size(&rows);
        let mut blocks = self.blocks.lock();
        if let Some(stored) = blocks.get_mut(i)
            && stored.sampled.as_ref().is_none_or(|(known, _)| *known != sample)
            && self.grow(bytes, context)
        {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            if let Some((_, old)) = stored.sampled.replace((sample, rows.clone())) {
                self.give(size(&old));
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
        let bytes = size(&batch);
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
            let Some(Place::Memory(batch)) = self.blocks.lock().get(i).map(|stored| stored.place.clone()) else {
                continue;
            };
            let place = Place::Disk(spill(&batch, context)?);
            // Another run may have moved it meanwhile.
            let mut blocks = self.blocks.lock();
            if let Some(stored) = blocks.get_mut(i)
                && matches!(&stored.place, Place::Memory(now) if same(now, &batch))
            {
                stored.place = place;
                self.spilled.fetch_add(size(&batch) as u64, Ordering::Relaxed);
                self.give(size(&batch));
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

    /// Gives memory back to the pool.
    fn give(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        if let Some(reservation) = self.reservation.lock().as_mut() {
            reservation.shrink(bytes);
        }
    }
}

/// Bytes of a batch's own rows; a slice does not count what lies beside it.
fn size(batch: &RecordBatch) -> usize {
    let bytes = |array: &ArrayRef| array.to_data().get_slice_memory_size();
    batch.columns().iter().map(|array| bytes(array).unwrap_or_else(|_| array.get_array_memory_size())).sum()
}

/// Whether two batches are one and the same.
fn same(a: &RecordBatch, b: &RecordBatch) -> bool {
    a.num_columns() == b.num_columns() && a.columns().iter().zip(b.columns()).all(|(a, b)| Arc::ptr_eq(a, b))
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
