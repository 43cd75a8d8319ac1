//! What operators find in the session's config: the device, the resident blocks, and where steps run.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

use crate::backend::Backend;
use crate::device::{DeviceInfo, Devices};
use crate::error::MlError;
use crate::operators::parcel::Parcels;
use crate::store::BlockStore;

/// Where a step plan runs: in this process, or as a job on a cluster.
#[async_trait]
pub trait StepRunner: Debug + Send + Sync {
    /// Runs every partition of `plan` and returns what they produce, in any order.
    ///
    /// # Errors
    /// The first error of any partition; the others are stopped.
    async fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>>;

    /// Places where partitions run at the same time, where that is not the session's number of threads.
    fn slots(&self) -> Option<usize> {
        None
    }

    /// The devices of the other processes that steps run in, or why one did not tell, under the processes' names.
    async fn devices(&self, _context: Arc<TaskContext>) -> Vec<(String, Result<Vec<DeviceInfo>>)> {
        Vec::new()
    }

    /// Says that a run has come to its next iteration.
    fn iterated(&self, _run: &str) {}

    /// Says that a run has ended, however it did: nothing is kept for its steps any more.
    fn release(&self, _run: &str) {}
}

/// Set once for each process, as an extension of every session's config.
#[derive(Debug)]
pub struct TrainRuntime {
    /// The devices that kernels run on.
    pub devices: Arc<Devices>,
    /// Blocks that stay between passes.
    pub store: Arc<BlockStore>,
    /// Where steps run; used by the process that hosts the session.
    pub runner: Arc<dyn StepRunner>,
    /// Large parameters that this process fetched.
    pub parcels: Parcels,
    /// What was said of runs.
    pub warnings: Warnings,
    /// A number that no other process has.
    pub process: u64,
    /// Whether the process is about to end.
    ending: AtomicBool,
}

/// Warnings that were written to the log, each once for a run.
#[derive(Debug, Default)]
pub struct Warnings(Mutex<VecDeque<(String, String)>>);

/// Warnings that are remembered: a run that is forgotten meanwhile warns again.
const WARNINGS: usize = 256;

impl Warnings {
    /// Writes a warning of a run, unless it was written before; says whether it was written now.
    pub fn once(&self, run: &str, warning: &str) -> bool {
        let mut said = self.0.lock();
        if said.iter().any(|(of, text)| of == run && text == warning) {
            return false;
        }
        said.truncate(WARNINGS - 1);
        said.push_front((run.into(), warning.into()));
        log::warn!("run {run}: {warning}");
        true
    }
}

impl TrainRuntime {
    /// A runtime that keeps nothing yet, with one device.
    pub fn new(backend: Arc<dyn Backend>, store: Arc<BlockStore>, runner: Arc<dyn StepRunner>) -> Self {
        Self::with_devices(Arc::new(Devices::only(backend)), store, runner)
    }

    /// A runtime that keeps nothing yet.
    pub fn with_devices(devices: Arc<Devices>, store: Arc<BlockStore>, runner: Arc<dyn StepRunner>) -> Self {
        let process = RandomState::new().hash_one(std::process::id());
        Self {
            devices,
            store,
            runner,
            parcels: Parcels::default(),
            warnings: Warnings::default(),
            process,
            ending: AtomicBool::new(false),
        }
    }

    /// Says that the process is about to end: trainings take a checkpoint with their next step, and one each second.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// The runtime of the session a task belongs to.
    ///
    /// # Errors
    /// When the session was built without one.
    pub fn of(context: &TaskContext) -> Result<Arc<Self>, MlError> {
        context
            .session_config()
            .get_extension::<Self>()
            .ok_or_else(|| MlError::Internal("this session was built without a training runtime".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_said_once_for_a_run() {
        let warnings = Warnings::default();
        assert!(warnings.once("a/0", "gpu (x) gave up: lost"));
        assert!(!warnings.once("a/0", "gpu (x) gave up: lost"));
        assert!(warnings.once("b/1", "gpu (x) gave up: lost"));
        assert!(warnings.once("a/0", "gpu (y) gave up: lost"));
        assert!((0..2 * WARNINGS).all(|run| warnings.once(&run.to_string(), "lost")));
        assert_eq!(warnings.0.lock().len(), WARNINGS);
    }
}
