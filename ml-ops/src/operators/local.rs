//! Steps in this process: one task for each partition.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::JoinSet;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, common::collect};

use crate::runtime::StepRunner;

/// Runs steps as tasks of the current tokio runtime. A step of one partition is a function call.
#[derive(Debug, Default)]
pub struct Local;

#[async_trait]
impl StepRunner for Local {
    async fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let partitions = plan.output_partitioning().partition_count();
        if partitions == 1 {
            return collect(plan.execute(0, context)?).await;
        }
        let mut tasks = JoinSet::new();
        for partition in 0..partitions {
            let (plan, context) = (Arc::clone(&plan), Arc::clone(&context));
            tasks.spawn(async move { collect(plan.execute(partition, context)?).await });
        }
        let mut batches = Vec::with_capacity(partitions);
        while let Some(done) = tasks.join_next().await {
            batches.extend(done.map_err(|e| DataFusionError::ExecutionJoin(Box::new(e)))??);
        }
        Ok(batches)
    }
}
