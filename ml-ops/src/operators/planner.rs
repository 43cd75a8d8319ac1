//! From the logical node of a training to its operators.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::{TrainExec, TrainNode};
use crate::device::{Device, Work};
use crate::family::find;
use crate::runtime::TrainRuntime;
use crate::training::TrainSpec;

/// Plans [`TrainNode`] as `TrainExec <- GradientExec <- FeatureCacheExec <- the query`.
#[derive(Debug, Default)]
pub struct TrainPlanner;

#[async_trait]
impl ExtensionPlanner for TrainPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        state: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<TrainNode>(), physical_inputs) else {
            return Ok(None);
        };
        let partitions = state.config().target_partitions();
        let device = match state.config().get_extension::<TrainRuntime>() {
            Some(runtime) => device(&runtime, &node.spec, input).await?,
            None => "unknown".into(),
        };
        Ok(Some(Arc::new(TrainExec::over(Arc::clone(&node.spec), Arc::clone(input), partitions, &device))))
    }
}

/// The device as it looks before the first row is read, and why it.
async fn device(runtime: &TrainRuntime, spec: &TrainSpec, input: &Arc<dyn ExecutionPlan>) -> Result<String> {
    if runtime.runner.slots().is_some() && spec.device != Device::Cpu {
        return Ok(format!("{} [chosen by each executor]", spec.device));
    }
    let statistics = StatisticsContext::default().compute(input.as_ref(), &StatisticsArgs::default()).ok();
    let rows = statistics.and_then(|s| s.num_rows.get_value().copied());
    let columns = spec.columns.features.len() as u64;
    // Classes are not known yet: two of them.
    let effort = |rows: usize| find(&spec.family).ok()?.effort(&spec.params, columns, 2, rows as u64);
    let work = Work {
        effort: rows.and_then(effort),
        rows: rows.map(|rows| rows as u64),
        columns,
        outputs: spec.params.int("k").unwrap_or(1).max(1) as u64,
        passes: spec.params.int("max_iter").unwrap_or(1).clamp(1, 30) as u64,
        results: 0,
    };
    Ok(runtime.devices.pick(&spec.device, &work).await?.to_string())
}
