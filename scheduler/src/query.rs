//! Queries on the cluster: a rule that puts them under one operator, and the operator that runs them as a job.
//!
//! What reads no file (SET, SHOW, `SELECT 1`) and what cannot travel runs in the scheduler; trainings do, too,
//! and send their steps out themselves.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::explain::ExplainExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::spill::get_record_batch_memory_size;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use datafusion_proto::bytes::physical_plan_to_bytes_with_extension_codec;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sinew::tables::CopyExec;
use sinew_ml::operators::{TrainExec, only_child};

use crate::failure;
use crate::jobs::{Ended, Finished, Job, Jobs};
use crate::{small, wire};

/// Results of at most so many bytes are fetched whole before the first row is passed on, so that the query can
/// be run again when an executor is lost with a part of them.
const HELD_BYTES: u64 = 64 << 20;
/// How often a query is run when its results are lost.
const ATTEMPTS: usize = 4;

/// Puts queries under [`ClusterExec`].
pub struct Distribute {
    jobs: Arc<Jobs>,
    codec: Arc<dyn PhysicalExtensionCodec>,
    local_bytes: u64,
}

impl Distribute {
    /// A rule for jobs whose plans travel by `codec`; what reads at most `local_bytes` may stay.
    pub fn new(jobs: Arc<Jobs>, codec: Arc<dyn PhysicalExtensionCodec>, local_bytes: u64) -> Self {
        Self { jobs, codec, local_bytes }
    }

    /// Whether a plan reads files, is worth a job and can travel.
    fn suits(&self, plan: &Arc<dyn ExecutionPlan>) -> bool {
        if self.local_bytes > 0 && small::bytes_read(plan).is_some_and(|bytes| bytes <= self.local_bytes) {
            return false;
        }
        let (mut files, mut strange) = (false, false);
        let walked = plan.apply(|node| {
            if node.children().is_empty() {
                let source = node.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
                let file = source.and_then(|source| source.downcast_ref::<FileScanConfig>());
                let known = node.is::<EmptyExec>()
                    || node.is::<PlaceholderRowExec>()
                    || source.is_some_and(|source| source.downcast_ref::<MemorySourceConfig>().is_some());
                files |= file.is_some_and(|scan| !scan.file_groups.is_empty());
                strange |= file.is_none() && !known;
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if walked.is_err() || strange || !files || !wire::travels(plan) {
            return false;
        }
        match physical_plan_to_bytes_with_extension_codec(Arc::clone(plan), self.codec.as_ref()) {
            Ok(_) => true,
            Err(error) => {
                log::debug!("a plan runs in the scheduler, because it cannot travel: {error}");
                false
            }
        }
    }
}

impl fmt::Debug for Distribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Distribute")
    }
}

impl PhysicalOptimizerRule for Distribute {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if plan.is::<TrainExec>() || plan.is::<ClusterExec>() || plan.is::<ExplainExec>() {
            return Ok(plan);
        }
        if plan.is::<AnalyzeExec>() {
            let children = plan.children().into_iter().cloned().map(|child| match child.is::<TrainExec>() {
                true => child,
                false if self.suits(&child) => self.wrap(child),
                false => child,
            });
            let children = children.collect();
            return plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute));
        }
        if let Some(copy) = plan.downcast_ref::<CopyExec>()
            && !copy.writes_one_file()
        {
            return self.copy_here(plan);
        }
        Ok(if self.suits(&plan) { self.wrap(plan) } else { plan })
    }

    fn name(&self) -> &str {
        "distribute"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl Distribute {
    /// A copy into a folder: its writer gives files new names each time, so only its rows come from executors, which
    /// may be asked twice.
    fn copy_here(&self, copy: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let recompute = || ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        let [sink] = copy.children()[..] else { return Ok(copy) };
        let [rows] = sink.children()[..] else { return Ok(copy) };
        if !self.suits(rows) {
            return Ok(copy);
        }
        let sink = Arc::clone(sink).replace_children(vec![self.wrap(Arc::clone(rows))], recompute())?;
        copy.replace_children(vec![sink], recompute())
    }

    fn wrap(&self, plan: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(ClusterExec::new(plan, Arc::clone(&self.jobs)))
    }
}

/// Runs the plan below as a job on the executors.
pub struct ClusterExec {
    plan: Arc<dyn ExecutionPlan>,
    jobs: Arc<Jobs>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for ClusterExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterExec")
    }
}

impl ClusterExec {
    /// `plan` as a job.
    pub fn new(plan: Arc<dyn ExecutionPlan>, jobs: Arc<Jobs>) -> Self {
        // A single partition keeps its order on the way.
        let equivalence = match plan.output_partitioning().partition_count() {
            1 => plan.equivalence_properties().clone(),
            _ => EquivalenceProperties::new(plan.schema()),
        };
        let properties = Arc::new(PlanProperties::new(
            equivalence,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { plan, jobs, properties }
    }

    /// What runs on the executors.
    pub fn plan(&self) -> &Arc<dyn ExecutionPlan> {
        &self.plan
    }
}

impl ExecutionPlan for ClusterExec {
    fn name(&self) -> &str {
        "ClusterExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.plan]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = only_child(self.name(), children)?;
        Ok(Arc::new(Self::new(plan, Arc::clone(&self.jobs))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(DataFusionError::Internal(format!("a job has no partition {partition}")));
        }
        let (jobs, plan, schema) = (Arc::clone(&self.jobs), Arc::clone(&self.plan), self.plan.schema());
        let rows = futures::stream::once(async move { run(jobs, plan, context).await }).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

impl DisplayAs for ClusterExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ClusterExec")
    }
}

type Rows = BoxStream<'static, Result<RecordBatch>>;

/// Runs a query, again if its results are lost before the first was passed on.
async fn run(jobs: Arc<Jobs>, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Rows> {
    let mut attempt = 1;
    loop {
        let finished = finished(&jobs, &plan, &context).await?;
        if finished.bytes() > HELD_BYTES {
            return Ok(stream(finished));
        }
        let mut rows = stream(finished);
        let mut held = Held::new(&context);
        match held.take(&mut rows).await {
            Ok(()) => return Ok(held.passed_on().chain(rows).boxed()),
            Err(error) if attempt < ATTEMPTS => {
                log::warn!("a query is run again: {error}");
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The first rows of a result, in memory that counts. What a file of a result holds may be many times its size.
struct Held {
    batches: VecDeque<(RecordBatch, usize)>,
    memory: MemoryReservation,
}

impl Held {
    fn new(context: &TaskContext) -> Self {
        let memory = MemoryConsumer::new("results of a query").register(context.memory_pool());
        Self { batches: VecDeque::new(), memory }
    }

    /// Takes all rows there are, or as many as there is room for.
    async fn take(&mut self, rows: &mut Rows) -> Result<()> {
        while let Some(batch) = rows.try_next().await? {
            let bytes = get_record_batch_memory_size(&batch);
            let room = self.memory.size() + bytes <= HELD_BYTES as usize && self.memory.try_grow(bytes).is_ok();
            self.batches.push_back((batch, if room { bytes } else { 0 }));
            if !room {
                break;
            }
        }
        Ok(())
    }

    /// The rows; their memory is given back as they go.
    fn passed_on(self) -> Rows {
        let Self { batches, memory } = self;
        let next = |(mut batches, memory): (VecDeque<(RecordBatch, usize)>, MemoryReservation)| async move {
            let (batch, bytes) = batches.pop_front()?;
            memory.shrink(bytes);
            Some((Ok(batch), (batches, memory)))
        };
        futures::stream::unfold((batches, memory), next).boxed()
    }
}

/// Runs a query to its end; its results stay where they are.
///
/// # Errors
/// When it fails.
pub async fn finished(
    jobs: &Arc<Jobs>,
    plan: &Arc<dyn ExecutionPlan>,
    context: &Arc<TaskContext>,
) -> Result<Arc<Finished>> {
    let (plan, context) = (Arc::clone(plan), Arc::clone(context));
    let job = Job { name: "query".into(), plan, context, deadline: None, compressed: true };
    match jobs.run(job).await? {
        Ended::Well(finished) => Ok(Arc::new(finished)),
        Ended::Late => Err(failure::cluster("a query has no deadline", "this is a defect")),
    }
}

/// The rows of a job, partition by partition; its results are removed at the end.
pub fn stream(finished: Arc<Finished>) -> Rows {
    let partitions = futures::stream::iter(0..finished.partitions.len());
    let fetched = partitions.then(move |partition| {
        let finished = Arc::clone(&finished);
        async move {
            let rows = match finished.partitions.get(partition) {
                Some(location) => finished.jobs().fetch(location).await?,
                None => return Err(DataFusionError::Internal("a partition went missing".into())),
            };
            // The job lives as long as its last stream.
            Ok(rows.inspect(move |_| drop(Arc::clone(&finished))))
        }
    });
    fetched.try_flatten().boxed()
}
