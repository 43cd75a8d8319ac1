//! A statement that is parsed, and planned where that tells what it returns; it is started later, and one
//! that only reads may be started many times.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use sinew_sql::Statement;

use super::execution::Execution;
use super::template::Template;
use super::{Session, plain, resume, train};
use crate::error::{Result, SinewError};

/// Scans, filters, joins and so on of one plan.
pub(crate) const MOST_PARTS: usize = 200_000;
/// The highest number of a parameter.
const MOST_PARAMETERS: usize = 10_000;

/// A statement that was not started yet.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    /// Only reads: its plan may run any number of times.
    Query(LogicalPlan),
    /// DataFusion plans it, and running it twice is not running it once; with what only its text says.
    Plan(LogicalPlan, plain::Said),
    /// One of ours.
    Ours(Box<Statement>),
    /// A training that lacks values.
    Template(Box<Template>),
    /// There is no statement in the text.
    Nothing,
}

impl Prepared {
    /// Parses and plans.
    pub(super) async fn new(session: &Session, text: &str) -> Result<Self> {
        if let Some(template) = Template::of(session, text).await? {
            return Ok(Self::Template(Box::new(template)));
        }
        let Some(statement) = sinew_sql::parse(text)?.pop() else { return Ok(Self::Nothing) };
        let Statement::Query(query) = statement else { return Ok(Self::Ours(Box::new(statement))) };
        let (plan, said) = plain::plan(session, &query).await?;
        match only_reads(&plan)? {
            true => Ok(Self::Query(plan)),
            false => Ok(Self::Plan(plan, said.later())),
        }
    }

    /// The type of each parameter, where the statement tells; none for statements that take no parameters.
    ///
    /// # Errors
    /// When a parameter is not written as `$1`, `$2` and so on.
    pub(crate) fn parameters(&self) -> Result<Vec<Option<DataType>>> {
        let plan = match self {
            Self::Template(template) => return Ok(template.types.clone()),
            // What EXECUTE gives to PREPARE is theirs.
            Self::Plan(LogicalPlan::Statement(_), _) | Self::Ours(_) | Self::Nothing => return Ok(Vec::new()),
            Self::Query(plan) | Self::Plan(plan, _) => plan,
        };
        by_number(plan.get_parameter_types()?.into_iter())
    }

    /// The statement with values in place of its parameters.
    ///
    /// # Errors
    /// When they do not fit.
    pub(crate) fn bind(&self, values: Vec<ScalarValue>) -> Result<Self> {
        Ok(match self {
            Self::Query(plan) => Self::Query(plan.clone().with_param_values(values)?),
            Self::Plan(plan, said) => Self::Plan(plan.clone().with_param_values(values)?, said.clone()),
            Self::Template(template) => Self::Ours(Box::new(template.fill(&values)?)),
            other => other.clone(),
        })
    }

    /// The columns that its result will have, before anything runs; none where it returns no rows to speak of.
    pub(crate) async fn schema(&self, session: &Session) -> Result<SchemaRef> {
        let planned = match self {
            Self::Query(plan) => return Ok(Arc::clone(plan.schema().inner())),
            Self::Template(template) => return Ok(Arc::clone(&template.schema)),
            Self::Ours(statement) => match &**statement {
                Statement::Train(statement) => return train::schema(session, statement).await,
                Statement::Retrain { name, resume } => {
                    return train::schema(session, &resume::statement(session, name, *resume).await?).await;
                }
                Statement::ExplainTrain { analyze, train } => train::explain(session, train, *analyze).await?,
                Statement::DropModel { .. } | Statement::CancelTraining { .. } => return Ok(Arc::new(Schema::empty())),
                // The rest shows what is in the warehouse, and is done at once.
                _ => return Ok(session.start((**statement).clone()).await?.schema()),
            },
            Self::Plan(..) | Self::Nothing => return Ok(Arc::new(Schema::empty())),
        };
        Ok(Arc::clone(planned.schema().inner()))
    }

    /// Starts the statement.
    pub(crate) async fn start(&self, session: &Session) -> Result<Execution> {
        match self {
            Self::Query(plan) => plain::run_plan(session, plan.clone(), "").await,
            Self::Plan(plan, said) => plain::start(session, plan.clone(), said).await,
            Self::Ours(statement) => session.start((**statement).clone()).await,
            Self::Template(_) => Err(SinewError::Internal("a training has no values".into())),
            Self::Nothing => Ok(Execution::done()),
        }
    }
}

/// The types of parameters in the order of their numbers.
///
/// # Errors
/// When a parameter is not written as `$1`, `$2` and so on.
pub(super) fn by_number(types: impl Iterator<Item = (String, Option<DataType>)>) -> Result<Vec<Option<DataType>>> {
    let mut found = Vec::new();
    for (name, data_type) in types {
        let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
        let Some(at) = number.filter(|n| (1..=MOST_PARAMETERS).contains(n)) else {
            return Err(SinewError::Request {
                what: format!("'{name}' cannot be a parameter"),
                hint: format!("write parameters as ?, or as $1 to ${MOST_PARAMETERS}"),
            });
        };
        found.resize(found.len().max(at), None);
        found[at - 1] = data_type;
    }
    Ok(found)
}

/// Whether a plan changes nothing, in the session or outside.
///
/// # Errors
/// When it has more parts than anyone writes: a name that stands twice in each of sixty views is a small text.
pub(crate) fn only_reads(plan: &LogicalPlan) -> Result<bool> {
    let (mut reads, mut parts) = (true, 0);
    plan.apply_with_subqueries(|node| {
        parts += 1;
        if parts > MOST_PARTS {
            return datafusion::common::plan_err!(
                "the statement has more than {MOST_PARTS} parts, its views written out"
            );
        }
        use LogicalPlan::{Copy, Ddl, Dml, Extension, Statement};
        reads &= !matches!(node, Ddl(_) | Dml(_) | Copy(_) | Statement(_) | Extension(_));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(reads)
}
