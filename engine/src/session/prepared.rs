//! A statement that is parsed, and planned where that tells what it returns; it is started later, and one
//! that only reads may be started many times.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use sinew_sql::Statement;

use super::execution::Execution;
use super::{Session, guarded, plain, train};
use crate::error::Result;

/// A statement that was not started yet.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    /// Only reads: its plan may run any number of times.
    Query(LogicalPlan),
    /// DataFusion plans it, and running it twice is not running it once; with what only its text says.
    Plan(LogicalPlan, plain::Said),
    /// One of ours.
    Ours(Box<Statement>),
    /// There is no statement in the text.
    Nothing,
}

impl Prepared {
    /// Parses and plans.
    pub(super) async fn new(session: &Session, text: &str) -> Result<Self> {
        let Some(statement) = sinew_sql::parse(text)?.pop() else { return Ok(Self::Nothing) };
        let Statement::Query(query) = statement else { return Ok(Self::Ours(Box::new(statement))) };
        let (plan, said) = plain::plan(session, &query).await?;
        match only_reads(&plan)? {
            true => Ok(Self::Query(plan)),
            false => Ok(Self::Plan(plan, said)),
        }
    }

    /// The columns that its result will have, before anything runs; none where it returns no rows to speak of.
    pub(crate) async fn schema(&self, session: &Session) -> Result<SchemaRef> {
        let planned = match self {
            Self::Query(plan) => return Ok(Arc::clone(plan.schema().inner())),
            Self::Ours(statement) => match &**statement {
                Statement::Train(statement) => return train::schema(session, statement).await,
                Statement::ExplainTrain { analyze, train } => train::explain(session, train, *analyze).await?,
                Statement::DropModel { .. } => return Ok(Arc::new(Schema::empty())),
                // The rest shows what is in the warehouse, and is done at once.
                _ => return Ok(session.start((**statement).clone()).await?.schema()),
            },
            Self::Plan(..) | Self::Nothing => return Ok(Arc::new(Schema::empty())),
        };
        Ok(Arc::clone(planned.schema().inner()))
    }

    /// Starts the statement.
    pub(crate) async fn start(&self, session: &Session) -> Result<Execution> {
        guarded(self.started(session)).await
    }

    async fn started(&self, session: &Session) -> Result<Execution> {
        match self {
            Self::Query(plan) => plain::run_plan(session, plan.clone(), "").await,
            Self::Plan(plan, said) => plain::start(session, plan.clone(), said).await,
            Self::Ours(statement) => session.start((**statement).clone()).await,
            Self::Nothing => Ok(Execution::done()),
        }
    }
}

/// Whether a plan changes nothing, in the session or outside.
fn only_reads(plan: &LogicalPlan) -> Result<bool> {
    let mut reads = true;
    plan.apply_with_subqueries(|node| {
        use LogicalPlan::{Copy, Ddl, Dml, Extension, Statement};
        reads &= !matches!(node, Ddl(_) | Dml(_) | Copy(_) | Statement(_) | Extension(_));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads)
}
