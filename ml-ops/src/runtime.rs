//! What operators find in the session's config: the device, the resident blocks, and where steps run.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

use crate::backend::Backend;
use crate::device::Devices;
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
}

impl TrainRuntime {
    /// A runtime that keeps nothing yet, with one device.
    pub fn new(backend: Arc<dyn Backend>, store: Arc<BlockStore>, runner: Arc<dyn StepRunner>) -> Self {
        Self::with_devices(Arc::new(Devices::only(backend)), store, runner)
    }

    /// A runtime that keeps nothing yet.
    pub fn with_devices(devices: Arc<Devices>, store: Arc<BlockStore>, runner: Arc<dyn StepRunner>) -> Self {
        Self { devices, store, runner, parcels: Parcels::default() }
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
