//! Cancelled tasks stop: Ballista drops the task and leaves the tasks it spawned running.
//!
//! The operator stands below the writer of a stage. When the task ends, however it does, the token is
//! cancelled, the stream ends with an error, and everything below it is dropped.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use tokio::sync::watch;

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
    async fn cancelled(&mut self) {
        // An error means that the guard is gone, which says the same.
        let _ = self.0.wait_for(|ended| *ended).await;
    }
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
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.token.clone()))),
            _ => Err(DataFusionError::Internal("CancelExec has one child".into())),
        }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let (schema, token) = (self.input.schema(), self.token.clone());
        let rows = futures::stream::try_unfold((input, token), |(mut input, mut token)| async move {
            tokio::select! {
                biased;
                () = token.cancelled() => Err(DataFusionError::Execution("the task was cancelled".into())),
                batch = input.next() => Ok(batch.transpose()?.map(|batch| (batch, (input, token)))),
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
