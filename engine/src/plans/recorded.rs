//! What is recorded of a training over a DataFrame: SQL, where that says exactly the same.

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::unparser::plan_to_sql;
use sinew_sql::TrainStatement;

use super::{Over, query};
use crate::session::Session;

/// The training with its relation written as SQL, so that `RETRAIN MODEL` can run it again; as it is where the plan
/// has no SQL, or its SQL is another plan.
pub async fn as_sql(session: &Session, train: &TrainStatement) -> TrainStatement {
    let mut written = train.clone();
    let (Some(relations), Some(table)) = (session.relations(), &train.query.table) else { return written };
    if let Some(sql) = sql(relations, table).await {
        written.query.sql = sql;
        written.query.table = None;
        written.text = written.to_string();
    }
    written
}

async fn sql(relations: &Over, name: &str) -> Option<String> {
    let plan = relations.plan(name)?;
    let sql = plan_to_sql(&plan).ok()?.to_string();
    let session = relations.below();
    let again = query(session, &sql).await.ok()?;
    let state = session.context().state();
    let optimized = |plan: &LogicalPlan| state.optimize(plan).ok();
    let (one, other) = (optimized(&plan)?, optimized(&again)?);
    let shown = |plan: &LogicalPlan| plan.display_indent_schema().to_string().replace("sinew.public.", "");
    (shown(&one) == shown(&other)).then_some(sql)
}
