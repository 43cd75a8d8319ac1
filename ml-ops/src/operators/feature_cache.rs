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
//! Which partition sees which block is left to chance: every result above is an exact sum.
//!
//! On a cluster the query below is bound to units, files or ranges of files that can be read alone, and
//! partition p reads the units of file group p: from the store if this process has them, else from the file.
//! Nothing is keyed by partition number, because a cluster hands a task a re-indexed slice of partitions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::parcel::Parcel;
use super::unit_reader::UnitReader;
use super::units;
use crate::columns::is_categorical;
use crate::error::MlError;
use crate::fold::Sample;
use crate::prepare::{Frozen, with_hash};
use crate::runtime::TrainRuntime;
use crate::store::Entry;

/// Blocks have at most this many rows, so that partitions share the work evenly.
const BLOCK_ROWS: usize = 65_536;

/// The metric that counts units which were read from their files.
pub const LOADED: &str = "units_loaded";

/// Which form of the rows a pass reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// As the query gives them, with a row hash.
    Raw,
    /// As kernels read them.
    Prepared(Parcel<Frozen>),
    /// As kernels read them, arranged in so many virtual shards: one block for each, in canonical order.
    Sharded(Parcel<Frozen>, u32),
    /// As kernels read them, only the rows of a sample that many passes ask for.
    Sampled(Parcel<Frozen>, Sample),
}

/// Where a partition finds its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rows {
    /// Those of the whole query, which this process reads once and keeps for a run.
    Query,
    /// Those of the units that the partition is given.
    Units,
}

/// Keeps the rows of its input for later passes.
#[derive(Clone, Debug)]
pub struct FeatureCacheExec {
    input: Arc<dyn ExecutionPlan>,
    /// The run.
    key: String,
    /// The rows: the same for every run that would read and prepare them the same way.
    rows_key: String,
    stage: Stage,
    rows: Rows,
    /// Whether the query gives other rows when it is read again; known to the driver only.
    volatile: bool,
    /// How many virtual shards passes will ask for, whose rows must then lie together; known to the driver only.
    shards: Option<u32>,
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
            Stage::Prepared(_) | Stage::Sharded(_, _) | Stage::Sampled(_, _) => Arc::new(Schema::empty()),
        };
        let properties = super::properties(schema, partitions.max(1), EmissionType::Incremental);
        Self {
            input,
            rows_key: key.clone(),
            key,
            stage,
            rows: Rows::Query,
            volatile: false,
            shards: None,
            cursor: Arc::default(),
            metrics: ExecutionPlanMetricsSet::new(),
            properties,
        }
    }

    /// The same cache for one more pass. Metrics go on counting.
    pub fn next_pass(&self, stage: Stage, partitions: usize) -> Self {
        Self {
            metrics: self.metrics.clone(),
            rows_key: self.rows_key.clone(),
            volatile: self.volatile,
            shards: self.shards,
            ..Self::new(Arc::clone(&self.input), self.key.clone(), stage, partitions)
        }
    }

    /// The same cache for another run over the same rows.
    pub fn with_key(&self, key: String) -> Self {
        Self { key, ..self.clone() }
    }

    /// The same cache, its rows named so that other runs recognise them.
    pub fn with_rows_key(&self, rows_key: String) -> Self {
        Self { rows_key, ..self.clone() }
    }

    /// The same cache over a query that may give other rows when it is read again.
    pub fn with_volatile(&self, volatile: bool) -> Self {
        Self { volatile, ..self.clone() }
    }

    /// Whether the query may give other rows when it is read again.
    pub fn volatile(&self) -> bool {
        self.volatile
    }

    /// The same cache for passes over so many virtual shards.
    pub fn with_shards(&self, shards: Option<u32>) -> Self {
        Self { shards, ..self.clone() }
    }

    /// How many virtual shards passes will ask for, if they will.
    pub fn shards(&self) -> Option<u32> {
        self.shards
    }

    /// The same cache over a query that is bound to units: one partition for each file group.
    pub fn bound(&self, input: Arc<dyn ExecutionPlan>, stage: Stage) -> Self {
        let partitions = input.output_partitioning().partition_count();
        Self {
            rows: Rows::Units,
            rows_key: self.rows_key.clone(),
            ..Self::new(input, self.key.clone(), stage, partitions)
        }
    }

    /// The key of its run.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The key of its rows.
    pub fn rows_key(&self) -> &str {
        &self.rows_key
    }

    /// Which form it yields.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Where partitions find their rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The query.
    pub fn input(&self) -> &Arc<dyn ExecutionPlan> {
        &self.input
    }

    /// Short names of the units a partition is given; none where it reads the whole query.
    ///
    /// # Errors
    /// When the query below has no units.
    pub fn units(&self, partition: usize) -> Result<Vec<u64>> {
        if self.rows == Rows::Query {
            return Ok(Vec::new());
        }
        let store = units::scan(&self.input).map_or("", |scan| scan.object_store_url.as_str());
        let group = units::groups(&self.input)?.get(partition);
        let files = group.map(|group| group.files()).unwrap_or_default();
        Ok(files.iter().map(|file| units::id(&units::name(store, file))).collect())
    }

    /// Bytes of the units of all partitions that this process is given; 0 where it reads the whole query.
    pub fn unit_bytes(&self) -> u64 {
        let groups = if self.rows == Rows::Units { units::groups(&self.input).unwrap_or_default() } else { &[] };
        groups.iter().flat_map(|group| group.files()).map(units::bytes).sum()
    }

    /// The rows of a partition's units, one unit after another.
    fn read_units(
        &self,
        partition: usize,
        runtime: Arc<TrainRuntime>,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let files = units::groups(&self.input)?.get(partition).map(|group| group.files().to_vec());
        let counted = Counted {
            baseline: BaselineMetrics::new(&self.metrics, partition),
            bytes: MetricBuilder::new(&self.metrics).counter("bytes", partition),
        };
        let reader = Arc::new(UnitReader {
            query: Arc::clone(&self.input),
            rows_key: self.rows_key.clone(),
            runtime,
            context,
            loaded: MetricBuilder::new(&self.metrics).counter(LOADED, partition),
        });
        let stage = self.stage.clone();
        let units = futures::stream::iter(files.unwrap_or_default().into_iter().map(Ok::<_, DataFusionError>));
        let blocks = units
            .and_then(move |file| {
                let (reader, stage) = (Arc::clone(&reader), stage.clone());
                async move { reader.read(file, stage).await }
            })
            .try_flatten()
            .inspect_ok(move |batch| counted.count(batch));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), blocks)))
    }
}

/// What a partition reports of its rows.
struct Counted {
    baseline: BaselineMetrics,
    bytes: Count,
}

impl Counted {
    fn count(&self, batch: &RecordBatch) {
        self.baseline.record_output(batch.num_rows());
        self.bytes.add(batch.get_array_memory_size());
    }
}

/// What a partition needs while it reads.
struct Reader {
    runtime: Arc<TrainRuntime>,
    entry: Arc<Entry>,
    context: Arc<TaskContext>,
    counted: Counted,
}

impl Reader {
    /// One batch of the query into the store, cut into blocks.
    fn keep(&self, batch: RecordBatch) -> Result<Vec<RecordBatch>> {
        let blocks = blocks(&batch)?;
        for block in &blocks {
            self.entry.push(block.clone(), &self.runtime.store, &self.context)?;
            self.counted.count(block);
        }
        Ok(blocks)
    }

    /// Block `i` of a pass, or `None` after the last.
    async fn block(&self, i: usize, stage: &Stage) -> Result<Option<RecordBatch>> {
        let blocks = if let Stage::Sharded(_, shards) = stage { *shards as usize } else { self.entry.len() };
        if i >= blocks {
            return Ok(None);
        }
        let batch = match stage {
            Stage::Raw => self.entry.raw(i)?,
            Stage::Sharded(frozen, shards) => {
                let frozen = frozen.open(&self.runtime, &self.context).await?;
                self.entry.shard(i as u32, *shards, &frozen, &self.runtime.store, &self.context)?
            }
            _ => {
                let (frozen, sample) = open(stage, &self.runtime, &self.context).await?;
                ready(&self.entry, i, &frozen, sample, &self.runtime, &self.context)?
            }
        };
        self.counted.count(&batch);
        Ok(Some(batch))
    }
}

/// A batch of the query as blocks with row hashes.
pub(super) fn blocks(batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let batch = with_hash(batch)?;
    let rows = batch.num_rows();
    Ok((0..rows).step_by(BLOCK_ROWS).map(|start| batch.slice(start, BLOCK_ROWS.min(rows - start))).collect())
}

/// How the rows of a stage are prepared, and which of them are wanted.
pub(super) async fn open(
    stage: &Stage,
    runtime: &TrainRuntime,
    context: &TaskContext,
) -> Result<(Arc<Frozen>, Option<Sample>)> {
    match stage {
        Stage::Raw => Err(MlError::Internal("raw rows are not prepared".into()).into()),
        Stage::Prepared(frozen) | Stage::Sharded(frozen, _) => Ok((frozen.open(runtime, context).await?, None)),
        Stage::Sampled(frozen, sample) => Ok((frozen.open(runtime, context).await?, Some(*sample))),
    }
}

/// Block `i` of an entry as kernels read it.
pub(super) fn ready(
    entry: &Entry,
    i: usize,
    frozen: &Frozen,
    sample: Option<Sample>,
    runtime: &TrainRuntime,
    context: &TaskContext,
) -> Result<RecordBatch> {
    Ok(match sample {
        Some(sample) => entry.sampled(i, sample, frozen, &runtime.store, context)?,
        None => entry.prepared(i, frozen, &runtime.store, context)?,
    })
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
        if self.rows == Rows::Units {
            return Ok(Arc::new(self.bound(input, self.stage.clone())));
        }
        let partitions = self.properties.partitioning.partition_count();
        let cache = Self::new(input, self.key.clone(), self.stage.clone(), partitions);
        Ok(Arc::new(cache.with_rows_key(self.rows_key.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let runtime = TrainRuntime::of(&context)?;
        if self.rows == Rows::Units {
            return self.read_units(partition, runtime, context);
        }
        let entry = runtime.store.entry(&self.key);
        let counted = Counted {
            baseline: BaselineMetrics::new(&self.metrics, partition),
            bytes: MetricBuilder::new(&self.metrics).counter("bytes", partition),
        };
        let reader = Arc::new(Reader { runtime, entry, context: Arc::clone(&context), counted });
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
        let blocks = futures::stream::try_unfold((reader, stage), move |(reader, stage)| {
            let i = cursor.fetch_add(1, Ordering::Relaxed);
            async move {
                tokio::task::coop::consume_budget().await;
                Ok(reader.block(i, &stage).await?.map(|block| (block, (reader, stage))))
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
