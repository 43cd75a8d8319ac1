//! Plans on their way to a statement: as tables of a session here, as bytes to a server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::{ViewTable, provider_as_source, source_as_provider};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};

use super::names::safe;
use super::{piece, planned};
use crate::error::{Result, SinewError};
use crate::plans::{self, CommandPlan, FRAME, Frame, Named, Relation};
use crate::session::{Execution, Home, Session};

/// A name that no other relation of this process has.
pub fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{FRAME}_{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A plan, and the session it belongs to.
pub struct Given {
    pub session: Session,
    pub plan: LogicalPlan,
    /// What stands for it in a statement.
    pub name: String,
}

impl Given {
    /// # Errors
    /// When the DataFrame has no session of this crate.
    pub fn of(frame: DataFrame) -> Result<Self> {
        let (state, plan) = frame.into_parts();
        let session = Home::of(state.config())?;
        Ok(Self { session, plan, name: name() })
    }

    /// Starts a statement that names the plan.
    ///
    /// # Errors
    /// When it cannot be planned, or the server cannot be reached.
    pub async fn run(self, statement: &str) -> Result<Execution> {
        match self.session.remote() {
            Some(remote) => {
                let relations = with(&self.session, &self.plan, &self.name)?;
                remote.run_plans(&CommandPlan { statement: statement.into(), ..bare(relations) }).await
            }
            None => self.seen()?.run(&piece(statement)).await,
        }
    }

    /// A query that names the plan, as another DataFrame.
    ///
    /// # Errors
    /// When it cannot be planned, or the server cannot be reached.
    pub async fn query(self, sql: &str) -> Result<DataFrame> {
        match self.session.remote() {
            Some(_) => there(&self.session, Some((&self.plan, &self.name)), sql).await,
            None => planned(&self.session, &self.seen()?, sql).await,
        }
    }

    /// The session, which sees the plan as a table.
    fn seen(&self) -> Result<Session> {
        let (over, relations) = self.session.over();
        relations.add(&self.name, Arc::new(ViewTable::new(self.plan.clone(), None)))?;
        Ok(over)
    }
}

fn bare(relations: Vec<Relation>) -> CommandPlan {
    CommandPlan { datafusion: plans::datafusion_version(), statement: String::new(), relations }
}

/// The command that runs a plan on a server.
///
/// # Errors
/// When the plan has a part that does not travel.
pub fn command(plan: &LogicalPlan) -> Result<CommandPlan> {
    let mut relations = brought(plan)?;
    let (plan, more) = safe(plan.clone())?;
    relations.extend(more);
    relations.push(Relation { name: name(), plan: plans::encode(&plan)?, query: String::new() });
    Ok(bare(relations))
}

/// A query on the server as a DataFrame here; it may name one plan.
pub async fn there(session: &Session, plan: Option<(&LogicalPlan, &str)>, sql: &str) -> Result<DataFrame> {
    let mut relations = match plan {
        Some((plan, name)) => with(session, plan, name)?,
        None => Vec::new(),
    };
    let name = name();
    relations.push(Relation { name: name.clone(), plan: bytes::Bytes::new(), query: sql.into() });
    let Some(remote) = session.remote() else {
        return Err(SinewError::Internal("a session without a server".into()));
    };
    let schema = remote.columns_of_plans(&bare(relations.clone())).await?;
    let table = Arc::new(Named { schema, frame: Some(Frame { relations }) });
    let plan = LogicalPlanBuilder::scan(name, provider_as_source(table), None)?.build()?;
    Ok(DataFrame::new(session.context().state(), plan))
}

/// The relations that a plan needs, and itself under a name.
fn with(session: &Session, plan: &LogicalPlan, name: &str) -> Result<Vec<Relation>> {
    let mut relations = brought(plan)?;
    let encoded = |plan: LogicalPlan| {
        let (plan, more) = safe(plan)?;
        Ok::<_, SinewError>((plans::encode(&plan)?, more))
    };
    let optimized = || encoded(session.context().state().optimize(plan)?);
    let (bytes, more) = match levels(plan) <= MOST_LEVELS {
        // A subquery travels as the join that the optimizer makes of it.
        true => encoded(plan.clone()).or_else(|_| optimized())?,
        false => optimized()?,
    };
    relations.extend(more);
    relations.push(Relation { name: name.into(), plan: bytes, query: String::new() });
    Ok(relations)
}

/// Levels of a plan that travels as it is; the optimizer makes one of several filters and projections.
const MOST_LEVELS: usize = 30;

/// How deeply a plan is nested, in nodes.
fn levels(plan: &LogicalPlan) -> usize {
    let mut most = 0;
    let mut level = vec![plan];
    while !level.is_empty() {
        most += 1;
        level = level.iter().flat_map(|node| node.inputs()).collect();
    }
    most
}

/// The relations that the scans of a plan stand for, each once.
fn brought(plan: &LogicalPlan) -> Result<Vec<Relation>> {
    let mut relations: Vec<Relation> = Vec::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Some(frame) =
                source_as_provider(&scan.source)?.downcast_ref::<Named>().and_then(|t| t.frame.as_ref())
        {
            for relation in &frame.relations {
                if !relations.iter().any(|other| other.name == relation.name) {
                    relations.push(relation.clone());
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(relations)
}
