//! Statements that DataFusion has, with table definitions kept in the warehouse.

use std::sync::Arc;

use datafusion::logical_expr::{DdlStatement, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;

use super::Session;
use super::execution::{Execution, ExecutionKind};
use super::split::Piece;
use crate::error::{Result, SinewError};

/// Runs one statement as DataFusion reads it.
pub async fn run(session: &Session, piece: &Piece) -> Result<Execution> {
    let mut parsed =
        DFParserBuilder::new(piece.in_place().as_str()).with_dialect(&GenericDialect {}).build()?.parse_statements()?;
    match parsed.pop_front() {
        Some(statement) => run_statement(session, statement, &piece.text).await,
        None => Ok(Execution::done()),
    }
}

/// Plans and starts a parsed statement; `text` is how it was written.
pub async fn run_statement(session: &Session, statement: Statement, text: &str) -> Result<Execution> {
    let state = session.context().state();
    session.tables().refresh(session.context(), &state.resolve_table_references(&statement)?).await?;
    let plan = state.statement_to_plan(statement).await?;
    run_plan(session, plan, text).await
}

async fn run_plan(session: &Session, plan: LogicalPlan, text: &str) -> Result<Execution> {
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
