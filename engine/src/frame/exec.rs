//! A plan that runs on a server, as the one operator of the plan here.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session as CatalogSession;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::relations;
use crate::error::SinewError;
use crate::flight::Remote;
use crate::plans::CommandPlan;

/// Sends whole plans to a server.
pub struct SendPlans(pub Arc<Remote>);

impl fmt::Debug for SendPlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plans run on a server")
    }
}

#[async_trait]
impl QueryPlanner for SendPlans {
    async fn create_physical_plan(&self, plan: &LogicalPlan, _: &dyn CatalogSession) -> Result<Arc<dyn ExecutionPlan>> {
        if !crate::session::only_reads(plan)? {
            let hint = "send SQL with Session::sql: CREATE TABLE t AS SELECT .., INSERT INTO t .., COPY (..) TO ..";
            return Err(SinewError::NotAvailable {
                what: "writing a DataFrame over a connection".into(),
                hint: hint.into(),
            }
            .into());
        }
        let command = relations::command(plan)?;
        Ok(Arc::new(RemoteExec::new(Arc::clone(&self.0), command, Arc::clone(plan.schema().inner()))))
    }
}

/// Runs plans on a server; its rows are theirs.
#[derive(Clone)]
struct RemoteExec {
    remote: Arc<Remote>,
    command: Arc<CommandPlan>,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for RemoteExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteExec: {} bytes", self.command.bytes())
    }
}

impl RemoteExec {
    fn new(remote: Arc<Remote>, command: CommandPlan, schema: SchemaRef) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { remote, command: Arc::new(command), properties }
    }
}

impl DisplayAs for RemoteExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "RemoteExec: {} bytes", self.command.bytes())
    }
}

impl ExecutionPlan for RemoteExec {
    fn name(&self) -> &str {
        "RemoteExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
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

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let (remote, command, schema) = (Arc::clone(&self.remote), Arc::clone(&self.command), self.schema());
        let typed = Arc::clone(&schema);
        let rows = futures::stream::once(async move { remote.run_plans(&command).await }).try_flatten();
        let rows = rows.map(move |batch| under(&typed, &batch?));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// The rows with the types that the plan has here: what is sent has neither dictionaries nor views.
fn under(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let text = format!("{} columns came for {}", batch.num_columns(), schema.fields().len());
        return Err(SinewError::Internal(text).into());
    }
    let pairs = schema.fields().iter().zip(batch.columns());
    let columns = pairs.map(|(field, column)| cast(column, field.data_type()));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(DataFusionError::from)
}
