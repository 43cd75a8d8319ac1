//! Ballista's execution engine, with tasks that stop when they are cancelled.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;
use sinew::SinewError;

use crate::cancel::{Guard, cancellable, guard};
use crate::clients::Clients;

/// Makes every stage [`cancellable`].
pub struct Engine {
    inner: DefaultExecutionEngine,
}

impl Engine {
    /// An engine that reads the results of other executors through `clients`.
    pub fn new(clients: Arc<Clients>) -> Self {
        Self { inner: DefaultExecutionEngine::with_client_pool(clients) }
    }
}

impl ExecutionEngine for Engine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let (guard, token) = guard();
        let plan = cancellable(plan, &token)?;
        let inner = self.inner.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        Ok(Arc::new(Stage { inner, guard: parking_lot::Mutex::new(Some(guard)) }))
    }
}

/// An error as the reader should see it: Ballista carries errors of tasks as their `Debug` text, in which ours
/// would lose their codes. What Ballista itself acts on stays as it is.
fn readable(error: DataFusionError) -> DataFusionError {
    match words(&error) {
        // What a session spills to, an executor has in its work folder.
        Some(text) => DataFusionError::Execution(text.replace("--spill-dir", "--work-dir")),
        None => error,
    }
}

/// The text of an error, with its code; `None` for one that Ballista acts on.
fn words(error: &DataFusionError) -> Option<String> {
    let root = error.find_root();
    match root {
        DataFusionError::IoError(_) => None,
        DataFusionError::External(inner) => match inner.downcast_ref::<BallistaError>() {
            Some(BallistaError::DataFusionError(below)) => words(below),
            Some(BallistaError::IoError(_) | BallistaError::FetchFailed(..) | BallistaError::Cancelled) => None,
            Some(other) => Some(SinewError::from(DataFusionError::Execution(other.to_string())).to_string()),
            None => Some(SinewError::from(DataFusionError::Execution(inner.to_string())).to_string()),
        },
        DataFusionError::ResourcesExhausted(text) => {
            Some(SinewError::from(DataFusionError::ResourcesExhausted(text.clone())).to_string())
        }
        other => Some(SinewError::from(DataFusionError::Execution(other.to_string())).to_string()),
    }
}

/// A stage whose streams end with the future that runs it.
#[derive(Debug)]
struct Stage {
    inner: Arc<dyn QueryStageExecutor>,
    guard: parking_lot::Mutex<Option<Guard>>,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        // Dropped with this future: at its end, and when the task is aborted.
        let _guard = self.guard.lock().take();
        self.inner.execute_query_stage(task_id, context).await.map_err(readable)
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.inner.collect_plan_metrics()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.inner.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.inner.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.inner.collect_column_stats()
    }
}
