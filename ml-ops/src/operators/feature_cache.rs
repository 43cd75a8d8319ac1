//! Rows of the training query, read once and kept as blocks for every later pass.
//!
//! The first pass ([`Stage::Raw`]) runs the query below and keeps what it yields in the process's
//! [`BlockStore`](crate::store::BlockStore); later passes read the store and never touch the query.
//! A pass over [`Stage::Prepared`] turns each block into what kernels read, once, in place.
//!
//! ```text
//!  first pass     partition p runs input partitions p, p + P, ..       -> store, and up
//!  later passes   partitions take the next block off a shared cursor   -> up
//! ```
//! Which partition sees which block is left to chance: every result above is an exact sum. The operator
//! never asks for its rows by partition number, because a cluster hands a task a re-indexed slice.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::columns::is_categorical;
use crate::fold::Sample;
use crate::prepare::{Frozen, with_hash};
use crate::runtime::TrainRuntime;
use crate::store::Entry;

/// Blocks have at most this many rows, so that partitions share the work evenly.
const BLOCK_ROWS: usize = 65_536;

/// Which form of the rows a pass reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// As the query gives them, with a row hash.
    Raw,
    /// As kernels read them.
    Prepared(Arc<Frozen>),
    /// As kernels read them, only the rows of a sample that many passes ask for.
    Sampled(Arc<Frozen>, Sample),
}

/// Keeps the rows of its input for later passes.
#[derive(Clone, Debug)]
pub struct FeatureCacheExec {
    input: Arc<dyn ExecutionPlan>,
    key: String,
    stage: Stage,
    cursor: Arc<AtomicUsize>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl FeatureCacheExec {
    /// A cache of `input` under `key`, read by `partitions` partitions.
    pub fn new(input: Arc<dyn ExecutionPlan>, key: String, stage: Stage, partitions: usize) -> Self {
        // Batches carry their own schema: what kernels read is not the query's schema.
        let schema: SchemaRef = match stage {
            Stage::Raw => input.schema(),
            Stage::Prepared(_) | Stage::Sampled(_, _) => Arc::new(Schema::empty()),
        };
        let properties = super::properties(schema, partitions.max(1), EmissionType::Incremental);
        Self { input, key, stage, cursor: Arc::default(), metrics: ExecutionPlanMetricsSet::new(), properties }
    }

    /// The same cache for one more pass. Metrics go on counting.
    pub fn next_pass(&self, stage: Stage, partitions: usize) -> Self {
        Self {
            metrics: self.metrics.clone(),
            ..Self::new(Arc::clone(&self.input), self.key.clone(), stage, partitions)
        }
    }

    /// The same cache under another key.
    pub fn with_key(&self, key: String) -> Self {
        Self { key, ..self.clone() }
    }

    /// The key of its rows in the store.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which form it yields.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The query.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }
}

/// What a partition needs while it reads.
struct Reader {
    runtime: Arc<TrainRuntime>,
    entry: Arc<Entry>,
    context: Arc<TaskContext>,
    baseline: BaselineMetrics,
    bytes: Count,
}

impl Reader {
    fn count(&self, batch: &RecordBatch) {
        self.baseline.record_output(batch.num_rows());
        self.bytes.add(batch.get_array_memory_size());
    }

    /// One batch of the query into the store, cut into blocks.
    fn keep(&self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        let batch = with_hash(&batch)?;
        let mut blocks = Vec::with_capacity(1);
        for start in (0..batch.num_rows()).step_by(BLOCK_ROWS) {
            let block = batch.slice(start, BLOCK_ROWS.min(batch.num_rows() - start));
            self.entry.push(block.clone(), &self.runtime.store, &self.context)?;
            self.count(&block);
            blocks.push(block);
        }
        Ok(blocks)
    }

    /// Block `i` of a pass, or `None` after the last.
    fn block(&self, i: usize, stage: &Stage) -> Result<Option<RecordBatch>> {
        if i >= self.entry.len() {
            return Ok(None);
        }
        let batch = match stage {
            Stage::Raw => self.entry.raw(i)?,
            Stage::Prepared(frozen) => self.entry.prepared(i, frozen, &self.runtime.store, &self.context)?,
            Stage::Sampled(frozen, sample) => {
                self.entry.sampled(i, *sample, frozen, &self.runtime.store, &self.context)?
            }
        };
        self.count(&batch);
        Ok(Some(batch))
    }
}

impl ExecutionPlan for FeatureCacheExec {
    fn name(&self) -> &str {
        "FeatureCacheExec"
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
        let input = super::only_child(self.name(), children)?;
        let partitions = self.properties.partitioning.partition_count();
        Ok(Arc::new(Self::new(input, self.key.clone(), self.stage.clone(), partitions)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let runtime = TrainRuntime::of(&context)?;
        let entry = runtime.store.entry(&self.key);
        let reader = Arc::new(Reader {
            runtime,
            entry,
            context: Arc::clone(&context),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            bytes: MetricBuilder::new(&self.metrics).counter("bytes", partition),
        });
        if self.stage == Stage::Raw && !reader.entry.loaded() {
            let inputs = self.input.output_partitioning().partition_count();
            let partitions = self.properties.partitioning.partition_count();
            let input = Arc::clone(&self.input);
            let rows = futures::stream::iter((partition..inputs).step_by(partitions))
                .then(move |i| {
                    let stream = input.execute(i, Arc::clone(&context));
                    async move { stream }
                })
                .try_flatten()
                .and_then(move |batch| {
                    let blocks = reader.keep(batch);
                    async move { Ok(futures::stream::iter(blocks?.into_iter().map(Ok))) }
                })
                .try_flatten();
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)));
        }
        let (stage, cursor) = (self.stage.clone(), Arc::clone(&self.cursor));
        let blocks = futures::stream::try_unfold(reader, move |reader| {
            let block = reader.block(cursor.fetch_add(1, Ordering::Relaxed), &stage);
            async move {
                tokio::task::coop::consume_budget().await;
                Ok(block?.map(|block| (block, reader)))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), blocks)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for FeatureCacheExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "FeatureCacheExec: partitions={}", self.properties.partitioning.partition_count())?;
        let statistics = StatisticsContext::default().compute(self.input.as_ref(), &StatisticsArgs::default()).ok();
        if let Some(rows) = statistics.as_ref().and_then(|s| s.num_rows.get_value()) {
            write!(f, ", rows={rows}, bytes per pass={}", rows * row_bytes(&self.input.schema()))?;
        }
        Ok(())
    }
}

/// Bytes of a prepared row: numbers as they are, categories as codes, and the row hash.
fn row_bytes(schema: &Schema) -> usize {
    let width = |field: &datafusion::arrow::datatypes::FieldRef| match field.data_type() {
        t if is_categorical(t) => 4,
        t => t.primitive_width().map_or(8, |bytes| if bytes <= 2 { 4 } else { bytes.min(8) }),
    };
    4 + schema.fields().iter().map(width).sum::<usize>()
}
