//! `ML.F(..)` in FROM, and what DataFusion would ignore there.

use std::sync::Arc;

use datafusion::common::{Column, DFSchema};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, ObjectName, Query, TableFactor, UnaryOperator, Value,
};
use sinew_ml::device::Device;
use sinew_ml::functions::{Called, ModelFunction};
use sinew_ml::model::Model;

use super::columns::{candidates, features, find};
use super::{Loaded, tables};
use crate::error::{Position, Result, SqlError};
use crate::name::ModelRef;
use crate::rewrite::model_of;

/// Name of the struct that a prediction is before its fields become columns.
const PREDICTION: &str = "__prediction";

/// Plans relations over models.
#[derive(Debug)]
pub(crate) struct MlRelations {
    models: Loaded,
}

impl MlRelations {
    pub fn new(models: Loaded) -> Self {
        Self { models }
    }
}

impl RelationPlanner for MlRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        match relation {
            TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
                Err(SqlError::NotYet {
                    what: "TABLESAMPLE".into(),
                    hint: "keep a part of the rows with WHERE random() < 0.1, or the first ones with LIMIT".into(),
                }
                .into())
            }
            TableFactor::Table { name, args: Some(args), alias, .. } if function(&name).is_some() => {
                let function = function(&name).unwrap_or_default();
                let plan = self.plan(&function, args.args, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

/// The arguments of `ML.F`.
#[derive(Debug)]
struct Arguments {
    model: ModelRef,
    query: Option<Box<Query>>,
    settings: Settings,
}

/// What `STRUCT(..)` says.
#[derive(Debug, Default)]
struct Settings {
    threshold: Option<f64>,
    device: Option<Device>,
}

impl MlRelations {
    fn plan(
        &self,
        name: &str,
        args: Vec<FunctionArg>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let function = crate::functions::resolve(name, Position::default())??;
        let args = arguments(function, args)?;
        let model = self.models.get(&args.model)?;
        let shown = args.model.to_string();
        let data = |context: &mut dyn RelationPlannerContext, query: Box<Query>| {
            context.plan(TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None })
        };
        match (function, args.query) {
            ("PREDICT", Some(query)) => predict(&shown, &model, data(context, query)?, args.settings),
            ("PREDICT", None) => Err(wrong(function, "it needs the rows: add TABLE t or (SELECT ..) after the model")),
            ("EVALUATE", Some(query)) => evaluate(&shown, &model, data(context, query)?, args.settings),
            ("EVALUATE", None) => tables::metrics(&shown, &model, args.settings.threshold),
            ("WEIGHTS", None) => tables::weights(&shown, &model),
            ("TRAINING_INFO", None) => tables::training_info(&model),
            _ => Err(wrong(function, "it takes the model alone")),
        }
    }
}

fn wrong(function: &str, reason: impl Into<String>) -> SqlError {
    SqlError::Arguments { function: format!("ML.{function}"), reason: reason.into() }
}

/// The `F` of `ML.F`.
fn function(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [schema, function] => {
            let (schema, function) = (schema.as_ident()?, function.as_ident()?);
            schema.value.eq_ignore_ascii_case("ML").then(|| function.value.clone())
        }
        _ => None,
    }
}

fn arguments(function: &str, args: Vec<FunctionArg>) -> Result<Arguments> {
    let mut exprs = Vec::with_capacity(args.len());
    for arg in args {
        match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => exprs.push(expr),
            other => return Err(wrong(function, format!("'{other}' is no argument of it"))),
        }
    }
    let mut exprs = exprs.into_iter();
    let model = match exprs.next() {
        Some(SqlExpr::Value(value)) => match &value.value {
            Value::SingleQuotedString(text) => model_of(text),
            _ => None,
        },
        _ => None,
    };
    let Some(model) = model else { return Err(wrong(function, "its first argument is MODEL and a model's name")) };
    let (mut query, mut given) = (None, None);
    for expr in exprs {
        match expr {
            SqlExpr::Subquery(rows) if query.is_none() && given.is_none() => query = Some(rows),
            SqlExpr::Struct { values, .. } if given.is_none() => given = Some(settings(function, values)?),
            other => {
                let reason =
                    format!("'{other}' is no argument of it; it takes (SELECT ..) or TABLE t, then STRUCT(..)");
                return Err(wrong(function, reason));
            }
        }
    }
    Ok(Arguments { model, query, settings: given.unwrap_or_default() })
}

/// Reads `STRUCT(0.4 AS threshold, 'gpu' AS device)`.
fn settings(function: &str, values: Vec<SqlExpr>) -> Result<Settings> {
    let mut settings = Settings::default();
    for value in values {
        let SqlExpr::Named { expr, name } = &value else { return Err(no_setting(function, &value)) };
        if name.value.eq_ignore_ascii_case("threshold") && settings.threshold.is_none() {
            let number = number(expr).filter(|v| (0.0..=1.0).contains(v));
            if number.is_none() {
                return Err(wrong(function, format!("threshold = {expr} is not a number from 0 to 1")));
            }
            settings.threshold = number;
        } else if name.value.eq_ignore_ascii_case("device") && settings.device.is_none() {
            let text = match expr.as_ref() {
                SqlExpr::Value(value) => value.value.clone().into_string(),
                _ => None,
            };
            let Some(text) = text else {
                return Err(wrong(
                    function,
                    format!("device = {expr} is no text; write 'auto', 'cpu', 'gpu' or a name"),
                ));
            };
            settings.device = Some(Device::parse(&text)?);
        } else if ["threshold", "device"].iter().any(|known| name.value.eq_ignore_ascii_case(known)) {
            return Err(wrong(function, format!("{} is given twice; keep one", name.value.to_lowercase())));
        } else {
            return Err(no_setting(function, &value));
        }
    }
    Ok(settings)
}

fn no_setting(function: &str, value: &SqlExpr) -> SqlError {
    wrong(function, format!("'{value}' is no setting of it; write STRUCT(0.5 AS threshold, 'auto' AS device)"))
}

fn number(expr: &SqlExpr) -> Option<f64> {
    match expr {
        SqlExpr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.to_string().parse().ok(),
            _ => None,
        },
        SqlExpr::UnaryOp { op: UnaryOperator::Minus, expr } => number(expr).map(|v| -v),
        _ => None,
    }
}

/// All columns of a relation as they are.
fn all(schema: &DFSchema) -> impl Iterator<Item = Expr> + '_ {
    schema.iter().map(|(qualifier, field)| Expr::Column(Column::new(qualifier.cloned(), field.name())))
}

/// The fields of the struct column [`PREDICTION`] as columns, after the columns `before`.
///
/// Unnesting splits the struct after it was computed; field accesses in a projection would be moved below
/// by the optimizer, one computation of the struct for each.
fn spread(plan: LogicalPlan, before: Vec<Expr>) -> Result<LogicalPlan> {
    let plan = LogicalPlanBuilder::from(plan).unnest_column(Column::from_name(PREDICTION))?.build()?;
    let mut exprs = before;
    for (qualifier, field) in plan.schema().iter() {
        if let Some(name) = field.name().strip_prefix(PREDICTION).and_then(|rest| rest.strip_prefix('.')) {
            exprs.push(Expr::Column(Column::new(qualifier.cloned(), field.name())).alias(name));
        }
    }
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// The input's columns and the prediction's; a row is scored once however many of the fields are read.
fn predict(name: &str, model: &Arc<Model>, input: LogicalPlan, settings: Settings) -> Result<LogicalPlan> {
    let args = features(name, model, &candidates(input.schema(), None))?;
    let Settings { threshold, device } = settings;
    let call = Called { function: ModelFunction::Predict { threshold }, device }.scalar(model)?.call(args);
    let columns: Vec<_> = all(input.schema()).collect();
    let scored = LogicalPlanBuilder::from(input.clone())
        .project(columns.iter().cloned().chain([call.alias(PREDICTION)]))?
        .build()?;
    let field = scored.schema().field_with_unqualified_name(PREDICTION)?.clone();
    if let datafusion::arrow::datatypes::DataType::Struct(fields) = field.data_type() {
        for field in fields {
            if input.schema().has_column_with_unqualified_name(field.name()) {
                let reason = format!("the input already has a column '{}'; rename it or leave it out", field.name());
                return Err(wrong("PREDICT", reason));
            }
        }
    }
    spread(scored, columns)
}

/// One row of metrics.
fn evaluate(name: &str, model: &Arc<Model>, input: LogicalPlan, settings: Settings) -> Result<LogicalPlan> {
    let columns = candidates(input.schema(), None);
    let mut args = Vec::new();
    if let Some(label) = &model.manifest.transform.label {
        args.push(find(name, &label.name, &columns)?.expr.clone());
    }
    args.extend(features(name, model, &columns)?);
    let Settings { threshold, device } = settings;
    let call = Called { function: ModelFunction::Evaluate { threshold }, device }.aggregate(model)?.call(args);
    let metrics = LogicalPlanBuilder::from(input).aggregate(Vec::<Expr>::new(), [call.alias(PREDICTION)])?.build()?;
    spread(metrics, Vec::new())
}
