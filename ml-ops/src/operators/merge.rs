//! Partials of a pass, merged where they are before the driver reads them.
//!
//! ```text
//!  MergeExec <- hash of the units <- GradientExec       k partitions: k partials instead of one for each task
//! ```
//! For parameters so many that the partials of all tasks together would be too much for one process.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::UInt64Type;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::StreamExt;

use super::gradient::{GradientExec, JOINED, ran, row, schema};
use super::spent::spent;
use crate::backend::Ran;
use crate::error::MlError;
use crate::partial::Partial;

/// Merges the partials of each partition of its input into one.
#[derive(Clone, Debug)]
pub struct MergeExec {
    input: Arc<dyn ExecutionPlan>,
    metrics: ExecutionPlanMetricsSet,
    properties: Arc<PlanProperties>,
}

impl MergeExec {
    /// The partials of `gradient`, merged into at most `partitions`.
    ///
    /// # Errors
    /// Never for the output of a [`GradientExec`].
    pub fn over(gradient: GradientExec, partitions: usize) -> Result<Self> {
        let units: Arc<dyn PhysicalExpr> = Arc::new(Column::new("units", 2));
        let by_units = Partitioning::Hash(vec![units], partitions.max(1));
        Ok(Self::new(Arc::new(RepartitionExec::try_new(Arc::new(gradient), by_units)?)))
    }

    /// The partials of `input`, one for each of its partitions.
    pub fn new(input: Arc<dyn ExecutionPlan>) -> Self {
        let properties =
            super::properties(schema(), input.output_partitioning().partition_count(), EmissionType::Final);
        Self { input, metrics: ExecutionPlanMetricsSet::new(), properties }
    }
}

/// What several result rows of a pass say together; nothing for none.
async fn merge(mut rows: SendableRecordBatchStream) -> Result<Option<RecordBatch>> {
    let odd = || MlError::Internal("a pass returned something other than partials".into());
    let mut total: Option<Partial> = None;
    let (mut units, mut covered, mut told) = (Vec::new(), 0, Vec::new());
    let (mut devices, mut problem, mut missing) = (BTreeSet::new(), None, None);
    while let Some(batch) = rows.next().await.transpose()? {
        let [partials, rows, names, ..] = batch.columns() else { return Err(odd().into()) };
        told.extend(spent(std::slice::from_ref(&batch))?);
        for Ran { device, warning, reason, .. } in ran(std::slice::from_ref(&batch)) {
            devices.extend(device.split(JOINED).map(str::to_string));
            problem = problem.or(warning);
            missing = missing.or(reason);
        }
        let partials = partials.as_binary_opt::<i32>().ok_or_else(odd)?;
        let names = names.as_binary_opt::<i32>().ok_or_else(odd)?;
        covered += rows.as_primitive_opt::<UInt64Type>().ok_or_else(odd)?.values().iter().sum::<u64>();
        for row in 0..batch.num_rows() {
            let part = Partial::decode(partials.value(row))?;
            match &mut total {
                Some(total) => total.merge(part)?,
                None => total = Some(part),
            }
            units.extend_from_slice(names.value(row));
            tokio::task::yield_now().await;
        }
    }
    let Some(total) = total else { return Ok(None) };
    let device = devices.into_iter().collect::<Vec<_>>().join(JOINED);
    let ran = Ran { device, warning: problem, reason: missing, ..Ran::default() };
    row(&total.encode()?, covered, &units, &told, ran).map(Some)
}

impl ExecutionPlan for MergeExec {
    fn name(&self) -> &str {
        "MergeExec"
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
        Ok(Arc::new(Self::new(super::only_child(self.name(), children)?)))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let merged = futures::stream::once(async move {
            let _timer = baseline.elapsed_compute().timer();
            merge(rows).await.transpose()
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), merged.filter_map(std::future::ready))))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl DisplayAs for MergeExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "MergeExec")
    }
}
