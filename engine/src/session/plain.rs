//! Statements that DataFusion has, with table definitions kept in the warehouse.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use sinew_sql::{QueryStatement, plan_query};

use super::Session;
use super::execution::{Execution, ExecutionKind};
use super::models::load_models;
use crate::error::{Result, SinewError};

/// Plans and starts a statement of DataFusion's, whose functions may refer to models.
pub async fn run(session: &Session, query: &QueryStatement) -> Result<Execution> {
    let plan = plan(session, query).await?;
    run_plan(session, plan, &query.text).await
}

/// Plans a statement of DataFusion's.
pub async fn plan(session: &Session, query: &QueryStatement) -> Result<LogicalPlan> {
    let state = session.context().state();
    let references = state.resolve_table_references(&query.statement)?;
    not_yet(&references)?;
    session.tables().refresh(session.context(), &references).await?;
    let models = load_models(session, &query.models).await?;
    Ok(plan_query(&state, query, models).await?)
}

/// Views over models that come later.
const LATER_VIEWS: [&str; 5] = ["models", "model_versions", "training_runs", "training_iterations", "model_features"];

fn not_yet(references: &[TableReference]) -> Result<()> {
    let later =
        references.iter().find(|r| r.schema() == Some("information_schema") && LATER_VIEWS.contains(&r.table()));
    match later {
        None => Ok(()),
        Some(view) => Err(SinewError::NotAvailable {
            what: format!("information_schema.{}", view.table()),
            hint: "SHOW MODELS, SHOW VERSIONS OF MODEL m, DESCRIBE MODEL m and ML.TRAINING_INFO(MODEL m) show it"
                .into(),
        }),
    }
}

/// Starts a plan; `text` is how the statement was written.
pub async fn run_plan(session: &Session, plan: LogicalPlan, text: &str) -> Result<Execution> {
    let context = session.context();
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(command)) => {
            session.tables().create(context, *command, text).await?;
            Ok(Execution::done())
        }
        LogicalPlan::Ddl(DdlStatement::DropTable(command)) => {
            session.tables().drop(context, command).await?;
            Ok(Execution::done())
        }
        plan => {
            let silent = matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_));
            let executed = matches!(&plan, LogicalPlan::Statement(datafusion::logical_expr::Statement::Execute(_)));
            let frame = context.execute_logical_plan(plan).await?;
            if silent && !executed {
                // What a definition or setting does, it has done by now.
                return match frame.schema().fields().is_empty() {
                    true => Ok(Execution::done()),
                    false => Err(SinewError::Internal("a definition returned rows".into())),
                };
            }
            let task = Arc::new(frame.task_ctx());
            let plan = frame.create_physical_plan().await?;
            let stream = execute_stream(Arc::clone(&plan), task)?;
            let execution = Execution::of_plan(plan, stream);
            debug_assert_eq!(execution.kind(), ExecutionKind::Rows);
            Ok(execution)
        }
    }
}
