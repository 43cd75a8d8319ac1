//! From the logical node of a training to its operators.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::{TrainExec, TrainNode};
use crate::runtime::TrainRuntime;

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
        let runtime = state.config().get_extension::<TrainRuntime>();
        let device = runtime.as_ref().map_or("unknown", |runtime| runtime.backend.name());
        Ok(Some(Arc::new(TrainExec::over(Arc::clone(&node.spec), Arc::clone(input), partitions, device))))
    }
}
