//! A plan that runs elsewhere, on a server or as another statement, as the one operator of the plan here.

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
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, WriteOp};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::relations::{self, Given};
use crate::error::SinewError;
use crate::flight::Remote;
use crate::session::{Execution, Home};

/// Sends whole plans to a server.
pub struct SendPlans(pub Arc<Remote>);

impl fmt::Debug for SendPlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("plans run on a server")
    }
}

#[async_trait]
impl QueryPlanner for SendPlans {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &dyn CatalogSession,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if let LogicalPlan::Dml(dml) = plan {
            return insert(dml, state);
        }
        if !crate::session::only_reads(plan)? {
            let hint = "write_table adds its rows to a table that is there; for others send SQL with Session::sql: \
                        CREATE TABLE t AS SELECT .., COPY (..) TO ..";
            return Err(SinewError::NotAvailable {
                what: "writing files of a DataFrame over a connection".into(),
                hint: hint.into(),
            }
            .into());
        }
        let (remote, command) = (Arc::clone(&self.0), Arc::new(relations::command(plan)?));
        let shown = format!("RemoteExec: {} bytes", command.bytes());
        let start = move || {
            let (remote, command) = (Arc::clone(&remote), Arc::clone(&command));
            async move { remote.run_plans(&command).await }.boxed()
        };
        Ok(Arc::new(StatementExec::new(shown, Arc::new(start), Arc::clone(plan.schema().inner()))))
    }
}

/// A DataFrame's rows on their way into a table of the warehouse: the INSERT that does the same.
///
/// # Errors
/// When the DataFrame has no session of this crate, or the rows are to do something else than to be inserted.
pub fn insert(dml: &DmlStatement, state: &dyn CatalogSession) -> Result<Arc<dyn ExecutionPlan>> {
    let words = match &dml.op {
        WriteOp::Insert(InsertOp::Append) => "INSERT INTO",
        WriteOp::Insert(InsertOp::Overwrite) => "INSERT OVERWRITE",
        WriteOp::Insert(InsertOp::Replace) => "REPLACE INTO",
        other => {
            let what = format!("{} with a DataFrame", other.name());
            return Err(SinewError::NotAvailable { what, hint: "send SQL with Session::sql".into() }.into());
        }
    };
    let (session, name) = (Home::of(state.config())?, relations::name());
    let (table, plan) = (dml.table_name.to_quoted_string(), Arc::clone(&dml.input));
    let shown = format!("{words} {table}");
    let statement = format!("{shown} SELECT * FROM {name}");
    let start = move || {
        let given = Given { session: session.clone(), plan: plan.as_ref().clone(), name: name.clone() };
        let statement = statement.clone();
        async move { given.run(&statement).await }.boxed()
    };
    Ok(Arc::new(StatementExec::new(shown, Arc::new(start), Arc::clone(dml.output_schema.inner()))))
}

/// Starts a statement.
type Start = Arc<dyn Fn() -> BoxFuture<'static, crate::error::Result<Execution>> + Send + Sync>;

/// Runs a statement; its rows are the statement's.
#[derive(Clone)]
struct StatementExec {
    shown: String,
    start: Start,
    properties: Arc<PlanProperties>,
}

impl fmt::Debug for StatementExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl StatementExec {
    fn new(shown: String, start: Start, schema: SchemaRef) -> Self {
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Self { shown, start, properties }
    }
}

impl DisplayAs for StatementExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl ExecutionPlan for StatementExec {
    fn name(&self) -> &str {
        "StatementExec"
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
        let schema = self.schema();
        let typed = Arc::clone(&schema);
        let rows = futures::stream::once((self.start)()).try_flatten();
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
