//! The root of a training: runs the loop and streams one row for each iteration.
//!
//! ```text
//!  execute(0)
//!    spawn  train(..) ──rows──> bounded channel ──> stream of report rows
//!             each step: GradientExec.next_pass(parameters) -> StepRunner -> partials
//! ```
//! The loop is a task of its own, so that rows stream and a reader that stops reading slows it down.
//! Dropping the stream ends the task at its next await, hence within one step.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use super::feature_cache::{FeatureCacheExec, Stage};
use super::gradient::{GradientExec, Pass};
use super::parcel::Parcel;
use super::sources::Sources;
use super::units;
use crate::error::MlError;
use crate::training::{TrainSpec, report, train};

/// Report rows that may wait for a slow reader before the loop does.
const ROWS_AHEAD: usize = 64;

/// Trains a model on the rows of its input.
#[derive(Clone, Debug)]
pub struct TrainExec {
    spec: Arc<TrainSpec>,
    /// The pass below; every step runs a copy of it with the step's parameters.
    gradient: Arc<dyn ExecutionPlan>,
    /// Where kernels will run, for EXPLAIN.
    device: String,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl TrainExec {
    /// The operators of a training over `query`.
    pub fn over(spec: Arc<TrainSpec>, query: Arc<dyn ExecutionPlan>, partitions: usize, device: &str) -> Self {
        // The key follows when the plan is final; see `execute`.
        let cache = FeatureCacheExec::new(query, String::new(), Stage::Raw, partitions);
        let pass = Arc::new(Pass::Profile(spec.columns.clone()));
        Self::new(spec, Arc::new(GradientExec::new(Arc::new(cache), Parcel::Here(pass))), device)
    }

    /// A training whose passes run copies of `gradient`, a [`GradientExec`] over a [`FeatureCacheExec`].
    pub fn new(spec: Arc<TrainSpec>, gradient: Arc<dyn ExecutionPlan>, device: &str) -> Self {
        let properties = super::properties(report::schema(), 1, EmissionType::Incremental);
        Self { spec, gradient, device: device.into(), metrics: ExecutionPlanMetricsSet::new(), properties }
    }

    /// Where kernels will run.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// What it trains.
    pub fn spec(&self) -> &Arc<TrainSpec> {
        &self.spec
    }

    /// The key of the rows: the same for every training that would prepare them the same way.
    fn key(&self, sources: &Sources) -> Result<String> {
        if !sources.reusable() {
            return Ok(self.spec.run.clone());
        }
        let spec = &self.spec;
        let preparation =
            (&spec.columns, &spec.split, spec.seed(), spec.params.text("on_missing"), spec.shards().unwrap_or(0));
        let preparation = serde_json::to_string(&preparation).map_err(|e| MlError::Internal(e.to_string()))?;
        Ok(format!("{}:{preparation}", sources.fingerprint()))
    }
}

impl ExecutionPlan for TrainExec {
    fn name(&self) -> &str {
        "TrainExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.gradient]
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
        Ok(Arc::new(Self::new(Arc::clone(&self.spec), super::only_child(self.name(), children)?, &self.device)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(MlError::Internal(format!("a training has no partition {partition}")).into());
        }
        let odd = || MlError::Internal("a training's operators were rearranged".into());
        let gradient = self.gradient.downcast_ref::<GradientExec>().ok_or_else(odd)?;
        let cache = gradient.input().downcast_ref::<FeatureCacheExec>().ok_or_else(odd)?;
        let sources = Sources::of(cache.input(), self.spec.volatile);
        let key = self.key(&sources)?;
        let cache = Arc::new(cache.with_key(key.clone()).with_rows_key(units::digest(&key)));
        let cache = Arc::new(cache.with_volatile(self.spec.volatile).with_shards(self.spec.shards()));
        let (spec, gradient) = (Arc::clone(&self.spec), Arc::new(gradient.clone()));
        let mut stream = RecordBatchReceiverStream::builder(self.schema(), ROWS_AHEAD);
        let rows = stream.tx();
        let passes = MetricBuilder::new(&self.metrics).global_counter("passes");
        stream.spawn(async move { Ok(train(spec, gradient, cache, sources, context, rows, passes).await?) });
        Ok(stream.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for TrainExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let spec = &self.spec;
        let features = spec.columns.features.len();
        write!(f, "TrainExec: model={}, family={}, features={features}", spec.model, spec.family)?;
        write!(f, ", device={}", self.device)?;
        for (name, value) in spec.params.iter().filter(|(name, _)| ["solver", "max_iter", "tol"].contains(name)) {
            write!(f, ", {name}={value}")?;
        }
        Ok(())
    }
}
