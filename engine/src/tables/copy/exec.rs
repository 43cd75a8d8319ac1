//! The operator around DataFusion's sink: the sink writes through a gate, and its rows open the gate.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::sink::DataSinkExec;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use sinew_ml::operators::only_child;

use super::gate::{Gate, gated};
use crate::error::SinewError;

/// Runs a sink so that its files appear after its last row, or not at all.
#[derive(Clone, Debug)]
pub struct CopyExec {
    sink: Arc<dyn ExecutionPlan>,
    one_file: bool,
    metrics: ExecutionPlanMetricsSet,
}

impl CopyExec {
    /// An operator around `sink`, which has the rows as its one input.
    pub fn new(sink: Arc<dyn ExecutionPlan>) -> Self {
        Self { sink, one_file: false, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// The same copy into one file whose name is settled: doing that twice is doing it once.
    pub fn into_one_file(self) -> Self {
        Self { one_file: true, ..self }
    }

    /// Whether it writes one file whose name is settled; known to the process that planned it.
    pub fn writes_one_file(&self) -> bool {
        self.one_file
    }
}

impl ExecutionPlan for CopyExec {
    fn name(&self) -> &str {
        "CopyExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.sink.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.sink]
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

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let sink = only_child(self.name(), children)?;
        Ok(Arc::new(Self { one_file: self.one_file, ..Self::new(sink) }))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let gate = Arc::new(Gate::default());
        let children = self.sink.children();
        // Around anything else the gate would stand open.
        let (true, [rows]) = (self.sink.is::<DataSinkExec>(), children.as_slice()) else {
            return Err(SinewError::Internal(format!("a copy around {}, which is no sink", self.sink.name())).into());
        };
        // The rows are read with the stores as they are; only what the sink writes waits.
        let rows = Arc::new(Rows { input: Arc::clone(rows), context: Arc::clone(&context), gate: Arc::clone(&gate) });
        let sink = Arc::clone(&self.sink)
            .replace_children(vec![rows], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))?;
        let count = sink.execute(partition, gated(&context, &gate))?;
        let count = count.map(move |batch| match (gate.failure(), batch) {
            // The writer only knows that it may not end its file; the rows know why.
            (Some(error), _) => Err(error),
            (None, batch) => batch,
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), count)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for CopyExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "CopyExec")
    }
}

/// The rows of the sink while it runs; their end opens the gate.
#[derive(Clone, Debug)]
struct Rows {
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    gate: Arc<Gate>,
}

impl ExecutionPlan for Rows {
    fn name(&self) -> &str {
        "CopyRows"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, Arc::clone(&self.context))?;
        let watch = Gate::watch(&self.gate);
        let schema = rows.schema();
        let rows = futures::stream::unfold((rows, watch), |(mut rows, mut watch)| async move {
            let next = rows.next().await;
            match &next {
                Some(Ok(_)) => {}
                Some(Err(_)) => return Some((watch.fail(next), (rows, watch))),
                None => watch.open(),
            }
            next.map(|batch| (batch, (rows, watch)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

impl DisplayAs for Rows {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "CopyRows")
    }
}
