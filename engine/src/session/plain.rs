//! Statements that DataFusion has, with tables kept in the warehouse.

use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::logical_expr::{
    Analyze, CreateMemoryTable, DdlStatement, Explain, LogicalPlan, Statement as PlanStatement,
};
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast;
use futures::future::BoxFuture;
use sinew_sql::{QueryStatement, plan_query};

use super::execution::{Execution, ExecutionKind, name_files};
use super::models::load_models;
use super::{Session, bounds};
use crate::error::{Result, SinewError};
use crate::flight::Placed;
use crate::tables::copy::CopyNode;
use crate::tables::write;

/// Plans and starts a statement of DataFusion's, whose functions may refer to models.
pub async fn run(session: &Session, query: &QueryStatement) -> Result<Execution> {
    let (plan, said) = plan(session, query).await?;
    start(session, plan, &said).await
}

/// Plans a statement of DataFusion's.
pub async fn plan(session: &Session, query: &QueryStatement) -> Result<(LogicalPlan, Said)> {
    let mut query = query.clone();
    let mut said = Said::of(&mut query);
    let state = session.context().state();
    let references = state.resolve_table_references(&query.statement)?;
    not_yet(&references)?;
    session.tables().refresh(session.context(), &references).await?;
    let models = load_models(session, &query.models).await?;
    said.fresh = references.iter().filter_map(|r| session.tables().own_name(session.context(), r)).collect();
    match plan_query(&state, &query, models).await {
        Ok(plan) => {
            session.roots().admit_plan(&plan)?;
            bounds::functions(&plan)?;
            Ok((plan, said))
        }
        Err(error) => Err(write::with_columns(&state, &query.statement, error.into()).await),
    }
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

/// What a statement says that its plan does not.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The statement as written.
    text: String,
    /// Columns of a new table that take no NULL; a plan forgets them where there is a query.
    not_null: Vec<String>,
    /// Whether the table is for this session only.
    temporary: bool,
    /// Tables of the warehouse that were looked at for this statement.
    fresh: Vec<String>,
}

impl Said {
    /// The same for a plan that is started later: what was fresh when it was made may not be then.
    pub fn later(self) -> Self {
        Self { fresh: Vec::default(), ..self }
    }

    fn of(query: &mut QueryStatement) -> Self {
        let mut said = Self { text: query.text.clone(), ..Self::default() };
        let mut statement = &mut query.statement;
        while let DFStatement::Explain(explain) = statement {
            statement = &mut explain.statement;
        }
        if let DFStatement::Statement(statement) = statement
            && let ast::Statement::CreateTable(table) = statement.as_mut()
        {
            // DataFusion's tables are all temporary, and it refuses the word.
            said.temporary = std::mem::take(&mut table.temporary);
            let not_null = |c: &&ast::ColumnDef| c.options.iter().any(|o| o.option == ast::ColumnOption::NotNull);
            let name = |c: &ast::ColumnDef| match c.name.quote_style {
                Some(_) => c.name.value.clone(),
                None => c.name.value.to_lowercase(),
            };
            said.not_null = table.columns.iter().filter(not_null).map(name).collect();
        }
        said
    }
}

/// Starts a plan; `text` is how the statement was written.
pub async fn run_plan(session: &Session, plan: LogicalPlan, text: &str) -> Result<Execution> {
    start(session, plan, &Said { text: text.into(), ..Said::default() }).await
}

/// Runs a query whose result stays where it was made; `None`, and nothing was run, where this process makes it.
pub async fn place(session: &Session, plan: LogicalPlan) -> Result<Option<Arc<dyn Placed>>> {
    let Some(place) = session.inner.resources.place() else { return Ok(None) };
    session.tables().refresh_scans(&plan, &[]).await?;
    let frame = session.context().execute_logical_plan(plan).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    place.place(&plan, task).await.map_err(|e| name_files(e.into(), &plan))
}

/// Starts a plan of [`plan`]; what that takes lies on the heap.
pub fn start<'a>(session: &'a Session, plan: LogicalPlan, said: &'a Said) -> BoxFuture<'a, Result<Execution>> {
    Box::pin(started(session, plan, said))
}

async fn started(session: &Session, plan: LogicalPlan, said: &Said) -> Result<Execution> {
    let (context, tables) = (session.context(), session.tables());
    session.roots().admit_plan(&plan)?;
    bounds::functions(&plan)?;
    if let LogicalPlan::Statement(PlanStatement::SetVariable(set)) = &plan {
        bounds::setting(&set.variable, &set.value)?;
    }
    tables.refresh_scans(&plan, &said.fresh).await?;
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(command)) => {
            tables.create(context, *command, &said.text).await?;
            Ok(Execution::done())
        }
        LogicalPlan::Ddl(DdlStatement::DropTable(command)) => {
            tables.drop(context, command).await?;
            Ok(Execution::done())
        }
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(command)) if !said.temporary => {
            match tables.own_name(context, &command.name) {
                Some(name) => write::create(session, command, &name, &said.not_null).await?,
                // Tables of other schemas live as long as the session.
                None => drop(context.execute_logical_plan(ddl(command)).await?),
            }
            Ok(Execution::done())
        }
        LogicalPlan::Dml(dml) => match write::insert(session, &dml).await? {
            Some(execution) => Ok(execution),
            None => execute(session, LogicalPlan::Dml(dml)).await,
        },
        LogicalPlan::Explain(explain) => match write::explained(session, &explain.plan).await? {
            Some((plan, run)) => {
                run.discard().await;
                execute(session, LogicalPlan::Explain(Explain { plan: Arc::new(plan), ..explain })).await
            }
            None => {
                let plan = Arc::new(whole(Arc::unwrap_or_clone(explain.plan)));
                execute(session, LogicalPlan::Explain(Explain { plan, ..explain })).await
            }
        },
        LogicalPlan::Analyze(analyze) => match write::explained(session, &analyze.input).await? {
            Some((plan, run)) => {
                let plan = LogicalPlan::Analyze(Analyze { input: Arc::new(plan), ..analyze });
                Ok(execute(session, plan).await?.and_then_always(run.discard()))
            }
            None => {
                let input = Arc::new(whole(Arc::unwrap_or_clone(analyze.input)));
                execute(session, LogicalPlan::Analyze(Analyze { input, ..analyze })).await
            }
        },
        LogicalPlan::Statement(PlanStatement::Execute(_)) => {
            // The plan was made earlier, so nothing of it was looked at now.
            let prepared = context.execute_logical_plan(plan).await?.logical_plan().clone();
            start(session, prepared, &Said::default()).await
        }
        plan => execute(session, whole(plan)).await,
    }
}

fn ddl(command: CreateMemoryTable) -> LogicalPlan {
    LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(command))
}

/// A COPY that is all or nothing; other plans as they are.
fn whole(plan: LogicalPlan) -> LogicalPlan {
    match plan {
        LogicalPlan::Copy(_) => CopyNode::around(plan),
        other => other,
    }
}

/// Starts a plan of DataFusion's.
async fn execute(session: &Session, plan: LogicalPlan) -> Result<Execution> {
    let silent = matches!(plan, LogicalPlan::Ddl(_) | LogicalPlan::Statement(_));
    let frame = session.context().execute_logical_plan(plan).await?;
    if silent {
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

/// The physical plan that a statement which writes would run.
#[cfg(test)]
pub async fn physical(
    session: &Session,
    plan: LogicalPlan,
) -> Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
    let plan = match write::explained(session, &plan).await? {
        Some((plan, _)) => plan,
        None => whole(plan),
    };
    Ok(session.context().execute_logical_plan(plan).await?.create_physical_plan().await?)
}
