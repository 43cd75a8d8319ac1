//! Statements become logical plans.
//!
//! Planning is synchronous where DataFusion's is, so every model a statement refers to is loaded before:
//! the statement lists them, and [`Models`] hands them out.

mod columns;
mod headings;
mod layers;
mod relation;
mod scalar;
mod summary;
mod tables;
mod train;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DFStatement;
use sinew_ml::error::did_you_mean;
use sinew_ml::model::Model;

use crate::ast::QueryStatement;
use crate::error::{Result, SqlError};
use crate::name::ModelRef;

pub use train::{PlannedTrain, WEIGHT_INPUT, plan_train};

/// The models loaded for one statement.
pub trait Models: Send + Sync {
    /// The model a reference stands for, if it is loaded.
    fn model(&self, reference: &ModelRef) -> Option<Arc<Model>>;

    /// Names of all models there are, for the error about one that is not; none by default.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Models for BTreeMap<ModelRef, Arc<Model>> {
    fn model(&self, reference: &ModelRef) -> Option<Arc<Model>> {
        self.get(reference).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().map(|reference| reference.name.clone()).collect()
    }
}

/// [`Models`] in a plan: equal when they are the same ones.
#[derive(Clone)]
pub(crate) struct Loaded(Arc<dyn Models>);

impl Loaded {
    /// # Errors
    /// When the model is not loaded; the text names the nearest.
    pub fn get(&self, reference: &ModelRef) -> Result<Arc<Model>> {
        self.0.model(reference).ok_or_else(|| {
            let names = self.0.names();
            let known = names.iter().map(String::as_str).filter(|name| **name != *reference.name);
            SqlError::UnknownModel { name: reference.to_string(), hint: did_you_mean(&reference.name, known) }
        })
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaded")
    }
}

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Loaded {}

/// Plans a statement of DataFusion's whose functions may refer to models.
///
/// # Errors
/// When a model, table, column or function is not there, or a type does not fit.
pub async fn plan_query(state: &SessionState, query: &QueryStatement, models: Arc<dyn Models>) -> Result<LogicalPlan> {
    let mut statement = query.statement.clone();
    headings::keep(&mut statement);
    let plan = plan_statement(state, statement, !query.models.is_empty(), models).await?;
    if query.summarized { summary::of(plan) } else { Ok(plan) }
}

async fn plan_statement(
    state: &SessionState,
    statement: DFStatement,
    uses_models: bool,
    models: Arc<dyn Models>,
) -> Result<LogicalPlan> {
    let loaded = Loaded(models);
    let mut state = state.clone();
    state.register_relation_planner(Arc::new(relation::MlRelations::new(loaded.clone())))?;
    if !uses_models {
        return Ok(state.statement_to_plan(statement).await?);
    }
    scalar::register(&mut state, &loaded)?;
    let plan = state.statement_to_plan(statement).await?;
    scalar::resolve(plan, &loaded)
}

#[cfg(test)]
mod tests;
