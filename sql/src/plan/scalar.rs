//! `PREDICT(m, ..)` and `PREDICT_PROBA(m, 'class', ..)`.
//!
//! DataFusion plans them as calls of a stand-in that knows the result's type; when the statement's plan is
//! there, and with it the columns a `*` stands for, each call becomes a function that carries the model.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use sinew_ml::functions;
use sinew_ml::model::Model;

use super::Loaded;
use super::columns::{Candidate, candidates, features};
use crate::error::{Result, SqlError};
use crate::name::ModelRef;
use crate::rewrite::model_of;

/// A call before the columns are known.
#[derive(Debug)]
struct StandIn {
    probability: bool,
    models: Loaded,
    signature: Signature,
}

impl PartialEq for StandIn {
    fn eq(&self, other: &Self) -> bool {
        self.probability == other.probability && self.models == other.models
    }
}

impl Eq for StandIn {}

impl Hash for StandIn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.probability.hash(state);
    }
}

/// Makes both functions known to a session's planner.
pub(crate) fn register(state: &mut SessionState, models: &Loaded) -> Result<()> {
    for probability in [false, true] {
        let signature = Signature::variadic_any(Volatility::Immutable);
        let function = StandIn { probability, models: models.clone(), signature };
        state.register_udf(Arc::new(ScalarUDF::from(function)))?;
    }
    Ok(())
}

impl StandIn {
    fn wrong(&self, reason: impl Into<String>) -> SqlError {
        SqlError::Arguments { function: self.name().to_uppercase(), reason: reason.into() }
    }

    fn data_type(&self, model: &Model) -> Result<DataType> {
        match &model.manifest.transform.label {
            _ if self.probability => Ok(DataType::Float64),
            None => Ok(DataType::Int32),
            Some(label) if label.classes.is_empty() => Ok(DataType::Float64),
            Some(label) => Ok(label.data_type.parse().map_err(DataFusionError::from)?),
        }
    }

    /// The call of the model's own function.
    fn call(&self, args: &[Expr], schema: &DFSchema) -> Result<Expr> {
        let (reference, args) = self.split(args)?;
        let model = self.models.get(&reference)?;
        let shown = reference.to_string();
        let (function, rest) = if self.probability {
            let (class, rest) = class(args);
            (functions::predict_proba(&model, class.as_deref())?, rest)
        } else {
            (functions::predict_label(&model, None)?, args)
        };
        let columns = self.columns(rest, schema)?;
        Ok(function.call(features(&shown, &model, &columns)?))
    }

    fn split<'a>(&self, args: &'a [Expr]) -> Result<(ModelRef, &'a [Expr])> {
        let first = args.first().and_then(|expr| match expr {
            Expr::Literal(value, _) => value.try_as_str().flatten().and_then(model_of),
            _ => None,
        });
        match first {
            Some(reference) => Ok((reference, &args[1..])),
            None => Err(self.wrong("its first argument is a model's name")),
        }
    }

    /// The columns that the arguments stand for, by name.
    #[allow(deprecated)]
    fn columns(&self, args: &[Expr], schema: &DFSchema) -> Result<Vec<Candidate>> {
        let mut columns = Vec::new();
        for arg in args {
            match arg {
                Expr::Wildcard { qualifier, .. } => columns.extend(candidates(schema, qualifier.as_ref())),
                other => columns.push(Candidate {
                    name: named(other).ok_or_else(|| {
                        self.wrong(format!(
                            "columns are matched by name, and '{other}' has none; name it in a subquery, or write * for all columns"
                        ))
                    })?,
                    data_type: other.get_type(schema)?,
                    expr: other.clone(),
                }),
            }
        }
        if args.is_empty() {
            return Err(self.wrong("it needs the columns: write * for all of them, or their names"));
        }
        Ok(columns)
    }
}

/// The name an argument goes by.
fn named(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(column.name.clone()),
        Expr::OuterReferenceColumn(_, column) => Some(column.name.clone()),
        Expr::Alias(alias) => Some(alias.name.clone()),
        Expr::Cast(cast) => named(&cast.expr),
        Expr::TryCast(cast) => named(&cast.expr),
        _ => None,
    }
}

/// The class a literal names, if the arguments start with one.
fn class(args: &[Expr]) -> (Option<String>, &[Expr]) {
    match args.first() {
        Some(Expr::Literal(value, _)) => (Some(value.to_string()), &args[1..]),
        Some(Expr::Negative(inner)) => match inner.as_ref() {
            Expr::Literal(value, _) => (Some(format!("-{value}")), &args[1..]),
            _ => (None, args),
        },
        _ => (None, args),
    }
}

impl ScalarUDFImpl for StandIn {
    fn name(&self) -> &str {
        if self.probability { "predict_proba" } else { "predict" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Err(self.wrong("its first argument is a model's name").into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let reference = args.scalar_arguments.first().copied().flatten().and_then(ScalarValue::try_as_str).flatten();
        let Some(reference) = reference.and_then(model_of) else {
            return Err(self.wrong("its first argument is a model's name").into());
        };
        let model = self.models.get(&reference)?;
        Ok(Arc::new(Field::new(self.name(), self.data_type(&model)?, true)))
    }

    fn display_name(&self, args: &[Expr]) -> DfResult<String> {
        self.schema_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> DfResult<String> {
        let shown = |expr: &Expr| match expr {
            Expr::Literal(value, _) => match value.try_as_str().flatten() {
                Some(text) => model_of(text).map_or_else(|| format!("'{text}'"), |model| model.to_string()),
                None => value.to_string(),
            },
            other => other.schema_name().to_string(),
        };
        Ok(format!("{}({})", self.name(), args.iter().map(shown).collect::<Vec<_>>().join(",")))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Err(self.wrong("it was not planned").into())
    }
}

/// Puts the models' own functions in the place of the stand-ins, in the whole plan.
pub(crate) fn resolve(plan: LogicalPlan, models: &Loaded) -> Result<LogicalPlan> {
    let _ = models;
    Ok(plan.transform_up_with_subqueries(resolve_node).map(|plan| plan.data)?)
}

fn stand_in(expr: &Expr) -> Option<(&StandIn, &[Expr])> {
    match expr {
        Expr::ScalarFunction(ScalarFunction { func, args }) => Some((func.inner().downcast_ref::<StandIn>()?, args)),
        _ => None,
    }
}

fn resolve_node(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let mut any = false;
    plan.apply_expressions(|expr| {
        any = any || expr.exists(|e| Ok(stand_in(e).is_some()))?;
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    })?;
    if !any {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| match stand_in(&expr) {
            None => Ok(Transformed::no(expr)),
            Some((function, args)) => Ok(Transformed::yes(function.call(args, &schema)?)),
        })?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    plan.map_data(LogicalPlan::recompute_schema)
}
