//! The operator of a write: each partition of its input becomes files of its own, one row about each.
//!
//! Nothing depends on which partition it is: files have names of their own, and only those that are reported
//! are ever listed. A task that is run again leaves files behind that nobody sees.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};

use sinew_ml::operators::only_child;

use super::file::Files;
use super::target::{Target, row, schema};

/// Writes the rows of its input as Parquet files.
#[derive(Clone, Debug)]
pub struct WriteExec {
    target: Arc<Target>,
    input: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl WriteExec {
    /// A write of `input` to `target`.
    pub fn new(target: Arc<Target>, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema()),
            Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
            EmissionType::Final,
            Boundedness::Bounded,
        ));
        Self { target, input, metrics: ExecutionPlanMetricsSet::new(), properties }
    }

    /// Where it writes to.
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

impl ExecutionPlan for WriteExec {
    fn name(&self) -> &str {
        "WriteExec"
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

    /// A query's ORDER BY is the order of rows in the file.
    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = only_child(self.name(), children)?;
        Ok(Arc::new(Self::new(Arc::clone(&self.target), input)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, Arc::clone(&context))?;
        let files = Files::new(Arc::clone(&self.target), rows, &context)?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let written = MetricBuilder::new(&self.metrics).counter("rows_written", partition);
        let bytes = MetricBuilder::new(&self.metrics).counter("bytes_written", partition);
        let state = (files, baseline, written, bytes);
        let output = futures::stream::try_unfold(state, |(mut files, baseline, written, bytes)| async move {
            let Some(file) = files.next().await? else { return Ok::<_, DataFusionError>(None) };
            written.add(usize::try_from(file.rows).unwrap_or(usize::MAX));
            bytes.add(usize::try_from(file.bytes).unwrap_or(usize::MAX));
            baseline.record_output(1);
            Ok(Some((row(&file)?, (files, baseline, written, bytes))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), output)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for WriteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let columns: Vec<&str> = self.target.columns.iter().map(|c| c.name.as_str()).collect();
        write!(f, "WriteExec: table={}, columns=[{}]", self.target.table, columns.join(", "))
    }
}
