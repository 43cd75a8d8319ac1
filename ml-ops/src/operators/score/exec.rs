//! Rows of the input with the results of a model's functions behind them.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::Statistics;
use datafusion::common::stats::ColumnStatistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::equivalence::ProjectionMapping;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterDescription, FilterPushdownPhase, FilterPushdownPropagation,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet, RecordOutput};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};

use super::ScorePlace;
use crate::backend::{Backend, Ran};
use crate::block::Block;
use crate::device::{Device, Devices, Picked};
use crate::error::MlError;
use crate::functions::Prediction;
use crate::operators::spent::{DeviceCounts, Spent};
use crate::runtime::TrainRuntime;

/// Bytes of batches that a device scores together.
const GROUP_BYTES: usize = 16 << 20;
/// Groups of a partition that are under way on a device: one is computed while the next is converted.
const AHEAD: usize = 2;

impl ScorePlace {
    /// The device of this process.
    ///
    /// # Errors
    /// When a GPU is asked for, not only preferred, and there is none.
    pub async fn pick(&self, devices: &Devices) -> Result<Picked, MlError> {
        if self.device == Device::Auto && self.work.rows.is_none() {
            let why = "auto: nobody knows how many rows there are".into();
            return Ok(Picked { backend: Arc::clone(devices.cpu()), why });
        }
        match devices.pick(&self.device, &self.work).await {
            Err(MlError::NoDevice { device, reason }) if !self.firm => {
                let why = format!("the model was trained with device = '{device}': {reason}");
                Ok(Picked { backend: Arc::clone(devices.cpu()), why })
            }
            picked => picked,
        }
    }
}

/// Scores the rows of its input.
#[derive(Clone, Debug)]
pub struct ScoreExec {
    input: Arc<dyn ExecutionPlan>,
    prediction: Arc<Prediction>,
    names: Vec<String>,
    /// Which columns the arguments are.
    arguments: Vec<usize>,
    place: ScorePlace,
    device: String,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl ScoreExec {
    /// The results of `prediction` under `names`, behind the columns of the input; `arguments` are the columns that the
    /// functions take.
    ///
    /// # Errors
    /// When the columns are none of the input's.
    pub fn new(
        input: Arc<dyn ExecutionPlan>,
        prediction: Arc<Prediction>,
        names: Vec<String>,
        arguments: Vec<usize>,
        place: ScorePlace,
    ) -> Result<Self> {
        let before = input.schema();
        let width = before.fields().len();
        if arguments.iter().any(|column| *column >= width) {
            return Err(MlError::Internal("a scoring takes columns that its input does not have".into()).into());
        }
        let own = before.fields().iter().cloned();
        let results = names.iter().zip(prediction.types());
        let results = results.map(|(name, data_type)| Arc::new(Field::new(name, data_type.clone(), true)));
        let schema =
            Arc::new(Schema::new_with_metadata(own.chain(results).collect::<Vec<_>>(), before.metadata().clone()));
        let column = |i: usize| {
            let name = before.field(i).name();
            (Arc::new(Column::new(name, i)) as Arc<dyn PhysicalExpr>, name.clone())
        };
        // Rows come in the input's order, and its columns stay where they are.
        let mapping = ProjectionMapping::try_new((0..width).map(column), &before)?;
        let equivalence = input.equivalence_properties().project(&mapping, schema);
        let partitioning = input.output_partitioning().project(&mapping, input.equivalence_properties());
        let properties = PlanProperties::new(equivalence, partitioning, input.pipeline_behavior(), input.boundedness());
        let (device, metrics) = (place.device.to_string(), ExecutionPlanMetricsSet::new());
        let properties = Arc::new(properties);
        Ok(Self { input, prediction, names, arguments, place, device, metrics, properties })
    }

    /// The same with the device as EXPLAIN shows it.
    pub fn shown(self, device: String) -> Self {
        Self { device, ..self }
    }

    /// What it computes.
    pub fn prediction(&self) -> &Arc<Prediction> {
        &self.prediction
    }

    /// Where it is to be computed.
    pub fn place(&self) -> &ScorePlace {
        &self.place
    }

    /// Names of the results, which columns the arguments are, and the device as EXPLAIN shows it.
    pub fn parts(&self) -> (&[String], &[usize], &str) {
        (&self.names, &self.arguments, &self.device)
    }
}

/// Batches that are scored together, and the memory they take.
struct Group {
    batches: Vec<RecordBatch>,
    _held: MemoryReservation,
}

/// The batches of the input in groups of about `bytes`, smaller where memory is short; 0 for one batch each. A row takes
/// `row` bytes on its way to a device and back.
fn grouped(
    input: SendableRecordBatchStream,
    (bytes, row): (usize, usize),
    held: MemoryReservation,
) -> impl Stream<Item = Result<Group>> {
    stream::try_unfold((input, held), move |(mut input, held)| async move {
        let (mut batches, mut size) = (Vec::new(), 0);
        while let Some(batch) = input.next().await.transpose()? {
            if batch.num_rows() == 0 {
                continue;
            }
            let more = batch.get_array_memory_size() + row * batch.num_rows();
            // A batch that was read is in memory already; what there is no room for waits no longer.
            let room = bytes > 0 && held.try_grow(more).is_ok();
            size += if room { more } else { 0 };
            batches.push(batch);
            if !room || size >= bytes {
                break;
            }
        }
        if batches.is_empty() {
            return Ok(None);
        }
        let group = Group { batches, _held: held.split(size) };
        Ok(Some((group, (input, held))))
    })
}

/// Scores a group.
async fn scored(group: Group, exec: Arc<ScoreExec>, backend: Arc<dyn Backend>) -> Result<(Vec<RecordBatch>, Ran)> {
    let mut blocks: Vec<Block> = Vec::with_capacity(group.batches.len());
    let mut valid: Vec<Option<BooleanBuffer>> = Vec::with_capacity(group.batches.len());
    for batch in &group.batches {
        let columns: Vec<_> = exec.arguments.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let (block, counts) = exec.prediction.encode(&columns)?;
        blocks.push(block);
        valid.push(counts);
    }
    let (scores, ran) = backend.score(exec.prediction.scoring(), &blocks).await?;
    let mut out = Vec::with_capacity(group.batches.len());
    for ((batch, scores), valid) in group.batches.iter().zip(&scores).zip(&valid) {
        let results = exec.prediction.results(scores, valid.as_ref())?;
        let columns = batch.columns().iter().cloned().chain(results).collect();
        out.push(RecordBatch::try_new(exec.schema(), columns)?);
    }
    Ok((out, ran))
}

impl ExecutionPlan for ScoreExec {
    fn name(&self) -> &str {
        "ScoreExec"
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

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, input: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let mut statistics = input.first().map(|s| s.as_ref().clone()).unwrap_or_default();
        let columns = self.schema().fields().len();
        statistics.column_statistics.resize(columns, ColumnStatistics::new_unknown());
        statistics.total_byte_size = Default::default();
        Ok(Arc::new(statistics))
    }

    /// Filters over the input's own columns go below.
    fn gather_filters_for_pushdown(
        &self,
        _phase: FilterPushdownPhase,
        parent_filters: Vec<Arc<dyn PhysicalExpr>>,
        _config: &ConfigOptions,
    ) -> Result<FilterDescription> {
        FilterDescription::from_children(parent_filters, &self.children())
    }

    fn handle_child_pushdown_result(
        &self,
        _phase: FilterPushdownPhase,
        child_pushdown_result: ChildPushdownResult,
        _config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        Ok(FilterPushdownPropagation::if_all(child_pushdown_result))
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = crate::operators::only_child(self.name(), children)?;
        let (prediction, names) = (Arc::clone(&self.prediction), self.names.clone());
        let same = Self::new(input, prediction, names, self.arguments.clone(), self.place.clone())?;
        Ok(Arc::new(same.shown(self.device.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let runtime = TrainRuntime::of(&context)?;
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let held = MemoryConsumer::new(format!("ScoreExec[{partition}]")).register(context.memory_pool());
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let mut counts = DeviceCounts::new(&self.metrics);
        let (exec, counted) = (Arc::new(self.clone()), baseline.clone());
        let output = stream::once(async move {
            let backend = exec.place.pick(&runtime.devices).await?.backend;
            // Rows without end are not waited for.
            let (bytes, ahead) = match backend.batch_bytes() {
                most if most > 0 && !exec.properties.boundedness.is_unbounded() => (most.min(GROUP_BYTES), AHEAD),
                _ => (0, 1),
            };
            // Columns in single precision, and scores as they come, as singles and as doubles.
            let scoring = exec.prediction.scoring();
            let row = 4 * scoring.layout.width() + 16 * scoring.outputs();
            let mut warned = false;
            let time = baseline.elapsed_compute().clone();
            let scored = grouped(input, (bytes, row), held)
                .map_ok(move |group| {
                    let (work, time) = (scored(group, Arc::clone(&exec), Arc::clone(&backend)), time.clone());
                    async move {
                        let _timer = time.timer();
                        work.await
                    }
                })
                .try_buffered(ahead);
            let batches = scored.map_ok(move |(batches, ran)| {
                if let Some(warning) = ran.warning.as_ref().filter(|_| !warned) {
                    log::warn!("a prediction: {warning}");
                    warned = true;
                }
                let on_cpu = u64::from(!ran.device.starts_with("gpu"));
                counts.add(&Spent { cpu_calls: on_cpu, gpu: ran.gpu, ..Spent::default() });
                stream::iter(batches.into_iter().map(Ok))
            });
            Ok::<_, DataFusionError>(batches.try_flatten())
        });
        let output = output.try_flatten().map_ok(move |batch: RecordBatch| batch.record_output(&counted));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for ScoreExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ScoreExec: {}, device={}", self.names.join(", "), self.device)
    }
}
