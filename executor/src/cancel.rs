//! Cancelled tasks stop: Ballista drops the task and leaves the tasks it spawned running.
//!
//! The operator stands below every other: an aggregate over a join of many rows asks for batch after batch
//! without coming back, and would notice nothing above or far below it. When the task ends, however it does, the
//! token is cancelled, the streams end with an error, and everything below them is dropped.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use sinew::tables::CopyExec;
use sinew_ml::operators::{GradientExec, only_child};
use tokio::sync::watch;

/// How long a loop over batches may keep a thread for itself.
const SHARE: Duration = Duration::from_millis(10);

/// Says to the streams of a task that it has ended.
#[derive(Clone, Debug)]
pub struct Token(watch::Receiver<bool>);

/// Ends the streams of a task when it is dropped.
#[derive(Debug)]
pub struct Guard(watch::Sender<bool>);

/// A guard, and the token of what it guards.
pub fn guard() -> (Guard, Token) {
    let (sender, receiver) = watch::channel(false);
    (Guard(sender), Token(receiver))
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Token {
    fn is_cancelled(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    async fn cancelled(&mut self) {
        // An error means that the guard is gone, which says the same.
        let _ = self.0.wait_for(|ended| *ended).await;
    }
}

/// The stage `plan`, whose streams end when `token` is cancelled.
///
/// # Errors
/// When an operator does not take the place of its input.
pub fn cancellable(plan: Arc<dyn ExecutionPlan>, token: &Token) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_down(|node| {
        // A pass comes back after every block, and looks at the scan below it.
        if node.is::<GradientExec>() {
            return Ok(Transformed::new(node, false, TreeNodeRecursion::Jump));
        }
        // A copy looks for the rows below its sink.
        if node.is::<CancelExec>() || node.is::<CopyExec>() || node.children().is_empty() {
            return Ok(Transformed::no(node));
        }
        let wrapped = |child: &Arc<dyn ExecutionPlan>| {
            Arc::new(CancelExec::new(Arc::clone(child), token.clone())) as Arc<dyn ExecutionPlan>
        };
        let children = node.children().into_iter().map(wrapped).collect();
        let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Transformed::yes(node.replace_children(children, recompute)?))
    })?;
    Ok(plan.data)
}

/// Passes its input on until the token is cancelled.
#[derive(Debug)]
pub struct CancelExec {
    input: Arc<dyn ExecutionPlan>,
    token: Token,
}

impl CancelExec {
    /// `input`, until `token` is cancelled.
    pub fn new(input: Arc<dyn ExecutionPlan>, token: Token) -> Self {
        Self { input, token }
    }
}

impl ExecutionPlan for CancelExec {
    fn name(&self) -> &str {
        "CancelExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
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
        let input = only_child(self.name(), children)?;
        Ok(Arc::new(Self::new(input, self.token.clone())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (schema, token) = (self.input.schema(), self.token.clone());
        let stopped = || DataFusionError::Execution("the task was cancelled".into());
        let state = (input, token, Instant::now());
        let rows = futures::stream::try_unfold(state, move |(mut input, mut token, mut yielded)| async move {
            // Its end is noticed on this thread, if there is only this one.
            if yielded.elapsed() > SHARE {
                tokio::task::yield_now().await;
                yielded = Instant::now();
            }
            // Waiting says nothing to a loop that has used up its share of a thread; looking does.
            if token.is_cancelled() {
                return Err(stopped());
            }
            tokio::select! {
                biased;
                () = token.cancelled() => Err(stopped()),
                batch = input.next() => Ok(batch.transpose()?.map(|batch| (batch, (input, token, yielded)))),
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }

    /// None for every task of a stage: the scheduler compares what tasks report.
    fn metrics(&self) -> Option<MetricsSet> {
        None
    }
}

impl DisplayAs for CancelExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "CancelExec")
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, RecordBatch};
    use datafusion::arrow::datatypes::SchemaRef;
    use datafusion::datasource::memory::MemorySourceConfig;
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::SessionContext;

    use super::*;

    fn rows() -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let row = RecordBatch::try_from_iter([("x", Arc::new(Int64Array::from(vec![1, 2])) as _)])?;
        Ok((row.schema(), vec![row; 4]))
    }

    #[tokio::test]
    async fn every_loop_over_batches_is_broken() -> Result<()> {
        let context = SessionContext::new();
        let (schema, rows) = rows()?;
        let table = datafusion::datasource::MemTable::try_new(schema, vec![rows])?;
        context.register_table("t", Arc::new(table))?;
        let sql = "SELECT l.x, count(*) FROM t l JOIN t r ON l.x < r.x GROUP BY l.x";
        let plan = context.sql(sql).await?.create_physical_plan().await?;
        let (guard, token) = guard();
        let plan = cancellable(plan, &token)?;
        let shown = displayable(plan.as_ref()).indent(false).to_string();
        let lines: Vec<&str> = shown.lines().map(str::trim).collect();
        for (above, below) in lines.iter().zip(&lines[1..]) {
            if above.starts_with("AggregateExec") || below.starts_with("DataSourceExec") {
                assert!(above.starts_with("CancelExec") || below.starts_with("CancelExec"), "{shown}");
            }
        }
        assert!(!shown.contains("CancelExec\n  CancelExec"), "{shown}");
        let read = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx()).await?;
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
        drop(guard);
        let plan = datafusion::physical_plan::execution_plan::reset_plan_states(plan)?;
        let error = datafusion::physical_plan::collect(plan, context.task_ctx()).await;
        assert!(error.is_err_and(|error| error.to_string().contains("cancelled")));
        Ok(())
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_task() -> Result<()> {
        let (schema, rows) = rows()?;
        let (guard, token) = guard();
        let plan = CancelExec::new(MemorySourceConfig::try_new_exec(&[rows], schema, None)?, token);
        let mut stream = plan.execute(0, SessionContext::new().task_ctx())?;
        assert!(stream.next().await.is_some_and(|batch| batch.is_ok()));
        drop(guard);
        assert!(stream.next().await.is_some_and(|batch| batch.is_err()));
        Ok(())
    }
}
