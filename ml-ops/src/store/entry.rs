//! The blocks of one training query, or of one unit of its rows: raw, prepared, or in part a sample.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{Schema, UInt32Type};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::spill_file::SpillFile;
use parking_lot::Mutex;

use super::BlockStore;
use super::shards;
use super::spill::{spill, unspill};
use crate::block::HASH;
use crate::error::{MlError, Result};
use crate::fold::Sample;
use crate::prepare::Frozen;
use crate::profile::Profile;

/// The blocks of one training query.
pub struct Entry {
    key: String,
    blocks: Mutex<Vec<Stored>>,
    fitted: Mutex<Option<Fitted>>,
    bytes: AtomicU64,
    spilled: AtomicU64,
    pub(super) used: AtomicU64,
    loaded: AtomicBool,
    /// What its prepared blocks were prepared by.
    frozen: Mutex<Option<Arc<Frozen>>>,
    reservation: Mutex<Option<MemoryReservation>>,
    /// The number of shards, and those made so far; none once they have become the blocks.
    shards: Mutex<(u32, Vec<Option<Place>>)>,
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
    /// Whether a task is about to replace the raw block by the prepared one.
    claimed: bool,
    /// The rows of a resident sample, and which.
    sampled: Option<(Sample, RecordBatch)>,
}

/// The raw blocks of an entry, whatever happens to the entry.
pub struct RawBlocks {
    places: Vec<Place>,
}

impl RawBlocks {
    /// Block `i`, or `None` after the last.
    ///
    /// # Errors
    /// When a spilled block cannot be read.
    pub fn get(&self, i: usize) -> Result<Option<RecordBatch>> {
        self.places.get(i).map(Place::read).transpose()
    }
}

#[derive(Clone)]
enum Place {
    Memory(RecordBatch),
    Disk(Arc<dyn SpillFile>),
}

impl Place {
    fn read(&self) -> Result<RecordBatch> {
        match self {
            Place::Memory(batch) => Ok(batch.clone()),
            Place::Disk(file) => unspill(file),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, {} blocks, {} bytes)", self.key, self.len(), self.bytes())
    }
}

impl Entry {
    pub(super) fn new(key: &str) -> Self {
        Self {
            key: key.into(),
            blocks: Mutex::default(),
            fitted: Mutex::default(),
            bytes: AtomicU64::new(0),
            spilled: AtomicU64::new(0),
            used: AtomicU64::new(0),
            loaded: AtomicBool::new(false),
            frozen: Mutex::default(),
            reservation: Mutex::default(),
            shards: Mutex::default(),
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

    /// Whether its blocks are raw, or prepared by `frozen`; remembers it for those that are raw now.
    pub fn suits(&self, frozen: &Arc<Frozen>) -> bool {
        let mut known = self.frozen.lock();
        match known.as_ref() {
            Some(known) => Arc::ptr_eq(known, frozen) || known == frozen,
            None => {
                *known = Some(Arc::clone(frozen));
                true
            }
        }
    }

    /// All blocks as the query gave them; `None` where one was prepared already.
    pub fn all_raw(&self) -> Option<RawBlocks> {
        let blocks = self.blocks.lock();
        let raw = blocks.iter().all(|stored| !stored.prepared);
        raw.then(|| RawBlocks { places: blocks.iter().map(|stored| stored.place.clone()).collect() })
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
        self.blocks.lock().push(Stored { place, prepared: false, claimed: false, sampled: None });
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
        drop(batch);
        // Memory of the raw block is given back before the prepared one is counted, by whoever claims the block.
        let claimed = {
            let mut blocks = self.blocks.lock();
            match blocks.get_mut(i) {
                Some(stored) if !stored.prepared && !stored.claimed => {
                    stored.claimed = true;
                    if let Place::Memory(raw) = &stored.place {
                        self.give(size(raw));
                    }
                    true
                }
                _ => false,
            }
        };
        if claimed {
            let place = self.place(ready.clone(), store, context)?;
            let mut blocks = self.blocks.lock();
            if let Some(stored) = blocks.get_mut(i) {
                *stored = Stored { place, prepared: true, claimed: true, sampled: None };
            }
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
            && self.grow(bytes, store, context)
        {
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            if let Some((_, old)) = stored.sampled.replace((sample, rows.clone())) {
                self.give(size(&old));
            }
        }
        Ok(rows)
    }

    /// Shard `shard` of `shards`, prepared, in canonical order; an empty batch if it has no rows.
    ///
    /// # Errors
    /// As for [`Self::prepared`].
    pub fn shard(
        &self,
        shard: u32,
        shards: u32,
        frozen: &Frozen,
        store: &BlockStore,
        context: &TaskContext,
    ) -> Result<RecordBatch> {
        if let Some(place) = self.arranged(shard, shards) {
            return place.read();
        }
        let mut parts = Vec::new();
        for i in 0..self.len() {
            parts.push(shards::pick(&self.prepared(i, frozen, store, context)?, shard, shards)?);
        }
        let rows = match shards::join(&parts)? {
            Some(rows) => rows,
            None => RecordBatch::new_empty(Arc::new(Schema::empty())),
        };
        drop(parts);
        let place = self.place(rows.clone(), store, context)?;
        if self.arrange(shard, shards, place) {
            return Ok(rows);
        }
        self.arranged(shard, shards).map_or(Ok(rows), |place| place.read())
    }

    /// A shard that was made before.
    fn arranged(&self, shard: u32, shards: u32) -> Option<Place> {
        let made = self.shards.lock();
        if made.0 != shards {
            return None;
        }
        match made.1.is_empty() {
            true => self.blocks.lock().get(shard as usize).map(|stored| stored.place.clone()),
            false => made.1.get(shard as usize).cloned().flatten(),
        }
    }

    /// Keeps a shard, unless it was made meanwhile. The last one takes the blocks' memory with it: from then on the shards are the blocks.
    fn arrange(&self, shard: u32, shards: u32, place: Place) -> bool {
        let mut made = self.shards.lock();
        if made.0 != shards {
            *made = (shards, vec![None; shards as usize]);
        }
        let Some(slot) = made.1.get_mut(shard as usize).filter(|slot| slot.is_none()) else {
            self.give_place(&place);
            return false;
        };
        *slot = Some(place);
        if made.1.iter().any(Option::is_none) {
            return true;
        }
        let shards = std::mem::take(&mut made.1).into_iter().flatten();
        let arranged = shards.map(|place| Stored { place, prepared: true, claimed: true, sampled: None }).collect();
        let old = std::mem::replace(&mut *self.blocks.lock(), arranged);
        for stored in old {
            self.give_place(&stored.place);
            if let Some((_, rows)) = stored.sampled {
                self.give(size(&rows));
            }
        }
        true
    }

    fn give_place(&self, place: &Place) {
        match place {
            Place::Memory(batch) => self.give(size(batch)),
            Place::Disk(_) => {}
        }
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
        Ok((stored.place.read()?, stored.prepared))
    }

    /// Keeps a batch in memory if the pool has room, else writes it to disk.
    fn place(&self, batch: RecordBatch, store: &BlockStore, context: &TaskContext) -> Result<Place> {
        let bytes = size(&batch);
        if self.grow(bytes, store, context) || (store.evict_idle() && self.grow(bytes, store, context)) {
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

    fn grow(&self, bytes: usize, store: &BlockStore, context: &TaskContext) -> bool {
        let mut slot = self.reservation.lock();
        let reservation =
            slot.get_or_insert_with(|| MemoryConsumer::new("FeatureCache").register(&store.pool(context)));
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
