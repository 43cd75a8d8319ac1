//! Folds and matrix products on a GPU, through Vulkan.
//!
//! ```text
//!  Gpu ── jobs ──> one thread: Worker { device, queue, pipelines, Residency }
//!        <─ oneshot ─ sums in f64, or a Refusal that says why the CPU has to do it
//! ```
//! A GPU is an optimisation: every fold has a kernel on the CPU, and whatever a device refuses (a kernel it does not
//! have, too little memory, a result that is not finite, a device that is lost) is done there. Rows stay in device
//! memory between passes (`residency.rs`), as single precision around a centre (`frame.rs`); short sums are added on
//! the device in a fixed order, long ones on the host in double precision.

mod adapter;
mod backend;
mod exit;
mod fold;
mod frame;
mod ingest;
mod kernels;
pub mod matrix;
mod network;
mod open;
mod residency;
mod scores;
mod selftest;
pub mod shaders;
mod worker;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use parking_lot::Mutex;

pub use adapter::{Adapter, adapters};
pub use backend::GpuBackend;
pub use fold::Found;
pub use shaders::{Activation, Cell};
use worker::Worker;

use crate::backend::GpuUse;
use crate::block::Block;
use crate::device::DeviceRates as Rates;
use crate::fold::Fold;
use crate::kernels::{Scores, Scoring};
use crate::partial::Partial;

/// How devices are used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GpuOptions {
    /// Bytes of device memory that rows may take; by default four fifths of the device's own memory.
    pub memory_limit: Option<u64>,
    /// How numbers are stored.
    pub storage: Cell,
    /// Whether adapters that are software count.
    pub software: bool,
    /// Whether shaders keep their bounds checks, for tests.
    pub checked: bool,
    /// Whether fresh outputs are filled with NaN, for tests.
    pub poison: bool,
}

/// Why a device did not do what it was asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// It has no kernel for it, or its limits are too small.
    Unsupported(String),
    /// It has too little memory.
    Memory(String),
    /// It is lost.
    Lost(String),
    /// A result was not finite.
    Numeric,
    /// The driver reported an error.
    Failed(String),
    /// Nobody waits for the result any more.
    Cancelled,
}

impl Refusal {
    /// Whether it was known before anything ran, and is no reason for a warning.
    pub fn is_planned(&self) -> bool {
        matches!(self, Self::Unsupported(_))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(why) => f.write_str(why),
            Self::Memory(why) => write!(f, "out of device memory: {why}"),
            Self::Lost(why) => write!(f, "the device was lost: {why}"),
            Self::Numeric => f.write_str("a sum left single precision"),
            Self::Failed(why) => write!(f, "the driver failed: {why}"),
            Self::Cancelled => f.write_str("nobody waits for the result"),
        }
    }
}

pub(super) fn too_large() -> Refusal {
    Refusal::Unsupported("values leave single precision".into())
}

/// What a device did so far.
#[derive(Debug, Default)]
pub struct Stats {
    /// Folds and scorings that ran on it.
    pub folds: AtomicU64,
    /// Folds that the CPU did instead, because something went wrong.
    pub fallbacks: AtomicU64,
    /// Folds that the CPU did because there is no kernel.
    pub unsupported: AtomicU64,
    /// Dispatches.
    pub dispatches: AtomicU64,
    /// Microseconds spent waiting for it.
    pub busy_us: AtomicU64,
    /// Pieces of rows that were uploaded to stay.
    pub uploads: AtomicU64,
    /// Pieces of rows that were uploaded for one pass.
    pub streams: AtomicU64,
    /// Slabs given up for others.
    pub evictions: AtomicU64,
    /// Bytes uploaded.
    pub uploaded_bytes: AtomicU64,
    /// Bytes read back.
    pub read_bytes: AtomicU64,
    /// Bytes that are resident.
    pub resident_bytes: AtomicU64,
}

impl Stats {
    /// What uploads and kernels cost so far.
    fn used(&self) -> GpuUse {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        GpuUse {
            uploads: read(&self.uploads) + read(&self.streams),
            uploaded_bytes: read(&self.uploaded_bytes),
            busy_us: read(&self.busy_us),
            ..GpuUse::default()
        }
    }
}

/// What the thread of a device and its users share.
#[derive(Debug)]
pub struct Shared {
    lost: AtomicBool,
    why: Mutex<String>,
    /// Counters.
    pub stats: Stats,
    /// Lanes that can exchange numbers; 1 where they cannot.
    lanes: u32,
    /// Whether it is software.
    software: bool,
}

impl Shared {
    fn loss(&self) -> Refusal {
        Refusal::Lost(self.why.lock().clone())
    }

    fn lose(&self, why: String) {
        let mut known = self.why.lock();
        if known.is_empty() {
            *known = why;
        }
        self.lost.store(true, Ordering::SeqCst);
    }
}

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// An open device. All calls are jobs of its one thread; none blocks the caller's.
pub struct Gpu {
    adapter: Adapter,
    jobs: Arc<mpsc::Sender<Job>>,
    shared: Arc<Shared>,
    rates: Rates,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.adapter.name)
    }
}

impl Gpu {
    /// What it is.
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// Its name as reports show it.
    pub fn name(&self) -> String {
        format!("gpu ({})", self.adapter.name)
    }

    /// What it did so far.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// What it was measured to do.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// Whether it is lost; nothing runs on it any more.
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Runs a job on its thread.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.run_counted(job).await.0
    }

    /// The same, with what it cost: the thread does one job at a time, so that its counters tell.
    async fn run_counted<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Worker) -> Result<T, Refusal> + Send + 'static,
    ) -> (Result<T, Refusal>, GpuUse) {
        let (reply, answer) = tokio::sync::oneshot::channel();
        // Held while somebody waits: what is cancelled does not begin, and long jobs look for it.
        let caller = Arc::new(());
        let waits = Arc::downgrade(&caller);
        let job: Job = Box::new(move |worker| {
            if waits.strong_count() == 0 {
                return;
            }
            worker.caller = waits;
            let before = worker.shared.stats.used();
            let result = worker.guarded(job);
            if matches!(result, Err(Refusal::Memory(_) | Refusal::Failed(_))) {
                // Rows may be in the index that never reached the device.
                worker.residency.clear();
                worker.scorers.clear();
            }
            let bytes = worker.residency.bytes() + worker.sweep_scorers();
            worker.shared.stats.resident_bytes.store(bytes, Ordering::Relaxed);
            let used = worker.shared.stats.used() - before;
            let _ = reply.send((result, used));
        });
        let gone = || (Err(Refusal::Lost("its thread has ended".into())), GpuUse::default());
        if self.jobs.send(job).is_err() {
            return gone();
        }
        let answer = answer.await;
        drop(caller);
        answer.unwrap_or_else(|_| gone())
    }

    /// What the rows of `blocks` contribute to `fold`.
    ///
    /// # Errors
    /// Why the device did not do it; then the CPU should.
    pub async fn fold(&self, fold: &Fold, blocks: &[Block]) -> Result<Found, Refusal> {
        self.fold_counted(fold, blocks).await.0
    }

    /// The same, with what uploads and kernels cost.
    pub async fn fold_counted(&self, fold: &Fold, blocks: &[Block]) -> (Result<Found, Refusal>, GpuUse) {
        self.attempt(fold, blocks, fold::fold).await
    }

    /// What the shards `blocks` contribute to a [`crate::fold::Kernel::Lesson`]: all of them, or none.
    ///
    /// # Errors
    /// As for [`Self::fold`].
    pub async fn lesson(&self, fold: &Fold, blocks: &[Block]) -> Result<Partial, Refusal> {
        self.lesson_counted(fold, blocks).await.0
    }

    /// The same, with what uploads and kernels cost.
    pub async fn lesson_counted(&self, fold: &Fold, blocks: &[Block]) -> (Result<Partial, Refusal>, GpuUse) {
        self.attempt(fold, blocks, network::teach).await
    }

    /// Runs a pass; where memory is too small, once more with half of it.
    async fn attempt<T: Send + 'static>(
        &self,
        fold: &Fold,
        blocks: &[Block],
        pass: fn(&mut Worker, &Fold, &[Block]) -> Result<T, Refusal>,
    ) -> (Result<T, Refusal>, GpuUse) {
        let attempt = |clear: bool| {
            let (fold, blocks) = (fold.clone(), blocks.to_vec());
            self.run_counted(move |worker| {
                if clear {
                    // Half of what was thought to be there, and nothing that others left.
                    worker.residency.clear();
                    worker.residency.limit /= 2;
                    worker.residency.slab_bytes = (worker.residency.slab_bytes / 2).max(1 << 16);
                }
                pass(worker, &fold, &blocks)
            })
        };
        let (mut result, mut used) = attempt(false).await;
        if matches!(result, Err(Refusal::Memory(_))) {
            let (again, more) = attempt(true).await;
            result = again;
            used += more;
        }
        self.count(&result);
        (result, used)
    }

    fn count<T>(&self, result: &Result<T, Refusal>) {
        let counter = match result {
            Ok(_) => &self.shared.stats.folds,
            Err(refusal) if refusal.is_planned() => &self.shared.stats.unsupported,
            Err(_) => &self.shared.stats.fallbacks,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The scores of every row of each block, whatever its role, with what uploads and kernels cost.
    ///
    /// # Errors
    /// As for [`Self::fold`].
    pub async fn score_counted(
        &self,
        scoring: &Arc<Scoring>,
        blocks: &[Block],
    ) -> (Result<Vec<Scores>, Refusal>, GpuUse) {
        let mut used = GpuUse::default();
        let staged = match self.is_lost() {
            true => Err(self.shared.loss()),
            false => scores::Staged::new(scoring, blocks),
        };
        let result = match staged {
            Err(refusal) => Err(refusal),
            Ok(staged) => {
                let staged = Arc::new(staged);
                match self.score_once(scoring, &staged, false, &mut used).await {
                    Err(Refusal::Memory(_)) => self.score_once(scoring, &staged, true, &mut used).await,
                    result => result,
                }
            }
        };
        self.count(&result);
        (result, used)
    }

    /// Two jobs, one that asks and one that waits: between them the device has those of other callers.
    async fn score_once(
        &self,
        scoring: &Arc<Scoring>,
        staged: &Arc<scores::Staged>,
        clear: bool,
        used: &mut GpuUse,
    ) -> Result<Vec<Scores>, Refusal> {
        let (asked, scoring) = (Arc::clone(staged), Arc::clone(scoring));
        let asked = self.run_counted(move |worker| {
            if clear {
                worker.residency.clear();
            }
            asked.launch(worker, &scoring)
        });
        let (fetches, cost) = asked.await;
        *used += cost;
        let fetches = fetches?;
        let (found, cost) = self.run_counted(move |worker| scores::collect(worker, fetches)).await;
        *used += cost;
        staged.scores(&found?)
    }

    /// Destroys the device as a broken driver would, for tests of what happens then.
    #[doc(hidden)]
    pub async fn destroy(&self) {
        let _ = self
            .run(|worker| {
                worker.device.destroy();
                let _ = worker.device.poll(wgpu::PollType::Poll);
                Ok(())
            })
            .await;
    }
}
