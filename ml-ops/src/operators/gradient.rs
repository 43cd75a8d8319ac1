//! One pass over the rows: what every block contributes, merged into one partial for each partition.
//!
//! The pass is plain data, so the operator means the same wherever it runs. Its output is one row,
//! `(partial, rows, units, spent, device, warning, reason)`: the encoded result, the rows and units it covers, which the
//! driver checks, what it cost the process ([`Spent`]), and which device it ran on, with what went wrong or was missing.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BinaryArray, RecordBatch, StringArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::StreamExt;
use log::debug;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::feature_cache::{FeatureCacheExec, LOADED};
use super::parcel::Parcel;
use super::spent::{DeviceCounts, Spent, encode};
use crate::backend::{Backend, Ran};
use crate::block::Block;
use crate::columns::Columns;
use crate::device::{Device, Work};
use crate::error::MlError;
use crate::fold::{Fold, Kernel};
use crate::partial::Partial;
use crate::profile::Profile;
use crate::runtime::TrainRuntime;
use crate::training::means::{MeanSpec, Means};

/// Between the devices of a row that stands for several.
pub const JOINED: &str = "\n";

/// What a pass computes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pass {
    /// Ranges, categories and classes of raw rows; a [`Profile`].
    Profile(Columns),
    /// Means of columns with missing values, over raw rows; [`Means`].
    Means(MeanSpec),
    /// A kernel over prepared rows; a [`Partial`].
    Fold(Fold),
    /// The devices of the process, whatever the rows; a list of [`DeviceInfo`](crate::device::DeviceInfo).
    Devices,
}

/// Where the kernels of a pass run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// The device that is asked for.
    pub device: Device,
    /// What decides `auto`, in the process that runs the kernels.
    pub work: Work,
    /// Bytes of all units, where each process folds those that it is given; 0 where one process folds all rows.
    pub unit_bytes: u64,
}

impl Placement {
    /// The same for a process that folds so many bytes of units.
    fn share(&self, bytes: u64) -> Self {
        let work = if self.unit_bytes > 0 { self.work.share(bytes, self.unit_bytes) } else { self.work };
        Self { work, ..self.clone() }
    }
}

/// Runs a pass over the blocks below it.
#[derive(Clone, Debug)]
pub struct GradientExec {
    input: Arc<dyn ExecutionPlan>,
    pass: Parcel<Pass>,
    placement: Placement,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl GradientExec {
    /// A pass over `input`.
    pub fn new(input: Arc<dyn ExecutionPlan>, pass: Parcel<Pass>) -> Self {
        let partitions = input.output_partitioning().partition_count();
        let properties = super::properties(schema(), partitions, EmissionType::Final);
        Self { input, pass, placement: Placement::default(), metrics: ExecutionPlanMetricsSet::new(), properties }
    }

    /// The same pass on another device.
    pub fn placed(&self, placement: Placement) -> Self {
        Self { placement, ..self.clone() }
    }

    /// Where its kernels run.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Another pass over `input`. Metrics go on counting.
    pub fn next_pass(&self, input: Arc<dyn ExecutionPlan>, pass: Pass) -> Self {
        let next = Self::new(input, Parcel::Here(Arc::new(pass)));
        Self { metrics: self.metrics.clone(), placement: self.placement.clone(), ..next }
    }

    /// The same pass over other rows.
    pub fn over(&self, input: Arc<dyn ExecutionPlan>) -> Self {
        let same = Self::new(input, self.pass.clone());
        Self { metrics: self.metrics.clone(), placement: self.placement.clone(), ..same }
    }

    /// The same operator with its parameters elsewhere.
    pub fn with_pass(&self, pass: Parcel<Pass>) -> Self {
        Self { pass, ..self.clone() }
    }

    /// Counters of devices among its metrics.
    pub fn device_counts(&self) -> DeviceCounts {
        DeviceCounts::new(&self.metrics)
    }

    /// What it computes.
    pub fn pass(&self) -> &Parcel<Pass> {
        &self.pass
    }

    /// The cache below.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

/// The result rows of a pass, decoded.
///
/// # Errors
/// When a row is not the output of a [`GradientExec`] whose pass yields `T`.
pub fn results<T: DeserializeOwned>(batches: &[RecordBatch]) -> Result<Vec<(T, u64)>, MlError> {
    let odd = || MlError::Internal("a step returned something other than a partial".into());
    let mut found = Vec::with_capacity(batches.len());
    for batch in batches {
        let partials = batch.columns().first().and_then(|a| a.as_binary_opt::<i32>()).ok_or_else(odd)?;
        let rows = batch.columns().get(1).and_then(|a| a.as_primitive_opt::<UInt64Type>()).ok_or_else(odd)?;
        for (bytes, rows) in partials.iter().zip(rows) {
            let value = postcard::from_bytes(bytes.ok_or_else(odd)?).map_err(|_| odd())?;
            found.push((value, rows.ok_or_else(odd)?));
        }
    }
    Ok(found)
}

/// Short names of the units that a result row of a pass covers, in the order of the rows.
///
/// # Errors
/// When the batch is not the output of a [`GradientExec`].
pub fn covered(batch: &RecordBatch) -> Result<Vec<Vec<u64>>, MlError> {
    let odd = || MlError::Internal("a step returned something other than a partial".into());
    let units = batch.columns().get(2).and_then(|a| a.as_binary_opt::<i32>()).ok_or_else(odd)?;
    let names = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|name| u64::from_le_bytes(*name)).collect();
    units.iter().map(|bytes| bytes.map(names).ok_or_else(odd)).collect()
}

/// The devices that result rows name, and what went wrong with others, each once.
pub fn ran(batches: &[RecordBatch]) -> Vec<Ran> {
    let mut found: Vec<Ran> = Vec::new();
    for batch in batches {
        let text = |i: usize| batch.columns().get(i).and_then(|a| a.as_string_opt::<i32>());
        let (Some(devices), Some(warnings), Some(reasons)) = (text(4), text(5), text(6)) else { continue };
        for ((device, warning), reason) in devices.iter().zip(warnings).zip(reasons) {
            let (warning, reason) = (warning.map(str::to_string), reason.map(str::to_string));
            let ran = Ran { device: device.unwrap_or_default().into(), warning, reason, ..Ran::default() };
            if !ran.device.is_empty() && !found.contains(&ran) {
                found.push(ran);
            }
        }
    }
    found
}

/// The columns of a pass's result.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("partial", DataType::Binary, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("units", DataType::Binary, false),
        Field::new("spent", DataType::Binary, false),
        Field::new("device", DataType::Utf8, false),
        Field::new("warning", DataType::Utf8, true),
        Field::new("reason", DataType::Utf8, true),
    ]))
}

/// A row of a pass's result.
pub(super) fn row(partial: &[u8], rows: u64, units: &[u8], spent: &[Spent], ran: Ran) -> Result<RecordBatch> {
    let spent = encode(spent)?;
    let binary = |bytes: &[u8]| -> ArrayRef { Arc::new(BinaryArray::from_vec(vec![bytes])) };
    let columns = vec![
        binary(partial),
        Arc::new(UInt64Array::from(vec![rows])),
        binary(units),
        binary(&spent),
        Arc::new(StringArray::from(vec![ran.device])),
        Arc::new(StringArray::from(vec![ran.warning])),
        Arc::new(StringArray::from(vec![ran.reason])),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// Units that a partition of the cache below had to read from their files.
fn loaded_by(input: &Arc<dyn ExecutionPlan>, partition: usize) -> u64 {
    let metrics = input.metrics().unwrap_or_default();
    let own = metrics.iter().filter(|metric| metric.partition() == Some(partition) && metric.value().name() == LOADED);
    own.map(|metric| metric.value().as_usize() as u64).sum()
}

/// Files and blocks are often ready at once, so the loops give way after each batch: a cancelled pass ends
/// there, and the runtime's timers and signals are served.
async fn compute(
    run: &str,
    pass: &Pass,
    mut blocks: SendableRecordBatchStream,
    runtime: &TrainRuntime,
    placement: &Placement,
) -> Result<(Vec<u8>, u64, Done)> {
    let mut rows = 0;
    let mut done = Done::default();
    let bytes = match pass {
        Pass::Profile(columns) => {
            let mut profile = Profile::empty(columns);
            while let Some(batch) = blocks.next().await.transpose()? {
                tokio::task::yield_now().await;
                rows += batch.num_rows() as u64;
                profile.see(columns, &batch)?;
            }
            postcard::to_allocvec(&profile)
        }
        Pass::Means(spec) => {
            let mut means = Means::empty(spec)?;
            while let Some(batch) = blocks.next().await.transpose()? {
                tokio::task::yield_now().await;
                rows += batch.num_rows() as u64;
                means.see(spec, &batch)?;
            }
            postcard::to_allocvec(&means)
        }
        Pass::Fold(fold) => {
            let mut partial = Partial::empty(fold);
            let picked = runtime.devices.pick(&placement.device, &placement.work).await?;
            if let Some(rows) = placement.work.rows {
                debug!("run {run}: {picked} for {rows} rows");
            }
            let backend = picked.backend.as_ref();
            let mut waiting = Waiting::default();
            while let Some(batch) = blocks.next().await.transpose()? {
                tokio::task::yield_now().await;
                rows += batch.num_rows() as u64;
                waiting.blocks.push(Block::from_batch(&batch)?);
                waiting.bytes += batch.get_array_memory_size();
                waiting.batches.push(batch);
                if waiting.bytes > backend.batch_bytes() {
                    waiting.fold(backend, fold, &mut partial, &mut done).await?;
                }
            }
            waiting.fold(backend, fold, &mut partial, &mut done).await?;
            postcard::to_allocvec(&partial)
        }
        Pass::Devices => postcard::to_allocvec(&runtime.devices.list().await),
    };
    Ok((bytes.map_err(|e| MlError::Internal(format!("encoding a partial: {e}")))?, rows, done))
}

/// What the calls of a partition's device came to.
#[derive(Default)]
struct Done {
    /// The GPU if it did any of them, else the last device; the first warning; and what all calls cost a GPU.
    ran: Ran,
    cpu_calls: u64,
}

impl Done {
    fn add(&mut self, ran: Ran) {
        let on_gpu = ran.gpu.calls > 0;
        self.cpu_calls += u64::from(!on_gpu);
        // Sums are those of a GPU when some of them are.
        if on_gpu || self.ran.gpu.calls == 0 {
            self.ran.device = ran.device;
        }
        self.ran.gpu += ran.gpu;
        self.ran.warning = self.ran.warning.take().or(ran.warning);
        self.ran.reason = self.ran.reason.take().or(ran.reason);
    }
}

/// Blocks that wait for a call of the device. The batches are kept with them: a device knows blocks by their arrays.
#[derive(Default)]
struct Waiting {
    blocks: Vec<Block>,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

impl Waiting {
    async fn fold(&mut self, backend: &dyn Backend, fold: &Fold, partial: &mut Partial, done: &mut Done) -> Result<()> {
        let Waiting { blocks, batches, .. } = std::mem::take(self);
        if blocks.is_empty() {
            return Ok(());
        }
        done.add(backend.fold(fold, &blocks, partial).await?);
        drop(batches);
        Ok(())
    }
}

impl ExecutionPlan for GradientExec {
    fn name(&self) -> &str {
        "GradientExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let same = Self::new(super::only_child(self.name(), children)?, self.pass.clone());
        Ok(Arc::new(same.placed(self.placement.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let runtime = TrainRuntime::of(&context)?;
        let cache = self.input.downcast_ref::<FeatureCacheExec>();
        let units = cache.map(|cache| cache.units(partition)).transpose()?;
        let units: Vec<u8> = units.unwrap_or_default().into_iter().flat_map(u64::to_le_bytes).collect();
        let blocks = self.input.execute(partition, Arc::clone(&context))?;
        let (pass, input) = (self.pass.clone(), Arc::clone(&self.input));
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let placement = self.placement.share(cache.map_or(0, FeatureCacheExec::unit_bytes));
        let key = cache.map(|cache| cache.key().to_string()).unwrap_or_default();
        let output = futures::stream::once(async move {
            let timer = baseline.elapsed_compute().timer();
            let pass = pass.open(&runtime, &context).await?;
            let (bytes, rows, done) = compute(&key, &pass, blocks, &runtime, &placement).await?;
            timer.done();
            baseline.record_output(1);
            if let Some(warning) = &done.ran.warning {
                runtime.warnings.once(&key, warning);
            }
            let spent = Spent {
                process: runtime.process,
                loaded: loaded_by(&input, partition),
                resident_bytes: runtime.store.bytes(),
                gpu_resident_bytes: runtime.devices.resident_bytes(),
                cpu_calls: done.cpu_calls,
                gpu: done.ran.gpu,
            };
            row(&bytes, rows, &units, &[spent], done.ran)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for GradientExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let Some(pass) = self.pass.here() else { return write!(f, "GradientExec: parameters by reference") };
        let what = match pass.as_ref() {
            Pass::Profile(columns) => {
                format!("first pass profiles {} features, later ones as the solver asks", columns.features.len())
            }
            Pass::Devices => "devices of the process".into(),
            Pass::Means(_) => "means of columns with missing values".into(),
            Pass::Fold(fold) => match &fold.kernel {
                Kernel::Moments { .. } => "moments".into(),
                Kernel::Linear { loss, .. } => format!("gradient of {loss:?} loss"),
                Kernel::Softmax { intercepts, .. } => format!("gradient of softmax over {} classes", intercepts.len()),
                Kernel::Gram { .. } => "cross products".into(),
                Kernel::Centroids { .. } => "assignment to centres".into(),
                Kernel::Candidates { .. } => "candidates for centres".into(),
                Kernel::Network { .. } => "outputs of a network".into(),
                Kernel::Lesson { shards, .. } => format!("steps of a network in {shards} shards"),
                Kernel::Scores { .. } => "scores of held-out rows".into(),
            },
        };
        write!(f, "GradientExec: {what}")
    }
}
