//! What a training is, once its names have been looked up.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use sinew_ml::MlError;
use sinew_ml::device::Device;
use sinew_ml::error::did_you_mean;
use sinew_ml::family::{Family, Task, find};
use sinew_ml::params::{ParamValue, Params};
use sinew_ml::split::SplitSpec;

use super::{Models, plan_statement};
use crate::ast::{Spelling, TrainStatement};
use crate::error::{Result, SqlError, listed};

/// Name of the column that an expression after WEIGHT BY becomes; errors show it.
pub const WEIGHT_INPUT: &str = "WEIGHT BY";

/// The label where the statement names none.
const DEFAULT_LABEL: &str = "label";

/// A training whose family, options and columns are known to be there.
#[derive(Clone, Debug)]
pub struct PlannedTrain {
    /// The training query; with [`WEIGHT_INPUT`] as its last column if the weight is an expression.
    pub query: LogicalPlan,
    /// The model's name.
    pub name: String,
    /// Which of the two spellings.
    pub spelling: Spelling,
    /// The family.
    pub family: &'static dyn Family,
    /// All its options.
    pub params: Params,
    /// The device that the statement asks for, if it does.
    pub device: Option<Device>,
    /// The label columns: one, or none for a clustering.
    pub labels: Vec<String>,
    /// The weight column.
    pub weight: Option<String>,
    /// How rows are held out.
    pub split: SplitSpec,
    /// The statement as written.
    pub statement: String,
    /// The training query alone, as SQL.
    pub query_text: String,
}

/// Looks up a training's names and plans its query.
///
/// # Errors
/// When the family, an option, a column, a table or a model is not there, or columns contradict each other.
pub async fn plan_train(state: &SessionState, train: &TrainStatement, models: Arc<dyn Models>) -> Result<PlannedTrain> {
    let Some(family) = &train.family else {
        let reason = format!(
            "TRAIN MODEL {} does not say which family; add USING <family>; SHOW MODEL FAMILIES lists all of them",
            train.name
        );
        return Err(SqlError::Conflict { reason });
    };
    later(family)?;
    let family = find(family)?;
    let (device, options) = device(&train.options)?;
    let params = Params::resolve(family.name(), family.params(), &options)?;
    let uses_models = !train.query.models.is_empty();
    let query = plan_statement(state, train.query.statement.clone(), uses_models, models).await?;
    unique(&query)?;
    let labels = labels(family, train, &query)?;
    let split = train.split.clone().unwrap_or_default();
    if let SplitSpec::By { column } = &split {
        let held_out = column_type(&query, column)?;
        if held_out != DataType::Boolean {
            return Err(MlError::ColumnType {
                column: column.clone(),
                data_type: held_out.to_string(),
                hint: "SPLIT BY needs a boolean column, true where a row is held out; write the condition in the query"
                    .into(),
            }
            .into());
        }
    }
    let (query, weight) = weigh(state, train, query)?;
    distinct(&labels, weight.as_deref(), &split)?;
    let used = labels.len() + usize::from(weight.is_some()) + usize::from(matches!(split, SplitSpec::By { .. }));
    if query.schema().fields().len() <= used {
        let reason = "the training query has no column left to learn from; select the features too".into();
        return Err(MlError::Data { reason }.into());
    }
    Ok(PlannedTrain {
        query,
        name: train.name.clone(),
        spelling: train.spelling,
        family,
        params,
        device,
        labels,
        weight,
        split,
        statement: train.text.clone(),
        query_text: train.query.sql.clone(),
    })
}

/// The option that every family has, and the others.
#[allow(clippy::type_complexity)]
fn device(options: &[(String, ParamValue)]) -> Result<(Option<Device>, Vec<(String, ParamValue)>)> {
    let (given, rest): (Vec<_>, Vec<_>) = options.iter().cloned().partition(|(name, _)| name == "device");
    let device = match given.as_slice() {
        [] => None,
        [(_, ParamValue::Text(text))] => Some(Device::parse(text)?),
        [(_, value)] => {
            let expected = "write 'auto', 'cpu', 'gpu' or the name of an adapter; SHOW DEVICES lists them".into();
            return Err(MlError::BadOption { name: "device".into(), value: value.to_string(), expected }.into());
        }
        _ => return Err(SqlError::Conflict { reason: "option device is given twice; keep one".into() }),
    };
    Ok((device, rest))
}

/// Families of the language that this version does not have, by prefix, with what to use instead.
const LATER: &[(&str, &str)] = &[
    ("generalized_linear_regression", "linear_regression and logistic_regression are the gaussian and binomial ones"),
    ("glm", "linear_regression and logistic_regression are the gaussian and binomial ones"),
    ("linear_svc", CLASSIFIER),
    ("naive_bayes", CLASSIFIER),
    ("decision_tree_", TREES),
    ("random_forest_", TREES),
    ("decision_tree", TREES),
    ("random_forest", TREES),
    ("gradient_boosting", TREES),
    ("xgboost", TREES),
    ("lightgbm", TREES),
    ("catboost", TREES),
    ("svm", CLASSIFIER),
    ("svc", CLASSIFIER),
    ("gbt", TREES),
    ("gbt_", TREES),
    ("boosted_tree_", TREES),
    ("dnn_linear_combined_", "mlp_classifier and mlp_regressor are networks"),
    ("isotonic_regression", "linear_regression predicts a number"),
    ("gaussian_mixture", "kmeans finds clusters"),
    ("pca", OTHERS),
    ("als", OTHERS),
    ("matrix_factorization", OTHERS),
    ("transform_only", OTHERS),
];
const CLASSIFIER: &str = "logistic_regression predicts a class";
const TREES: &str = "logistic_regression predicts a class, linear_regression a number";
const OTHERS: &str = "SHOW MODEL FAMILIES lists what there is";

/// Refuses by name a family that comes later.
fn later(family: &str) -> Result<()> {
    let is = |name: &str| family == name || (name.ends_with('_') && family.starts_with(name));
    match LATER.iter().find(|(name, _)| is(name)) {
        None => Ok(()),
        Some((_, hint)) => Err(SqlError::NotYet { what: format!("model family {family}"), hint: (*hint).into() }),
    }
}

/// Two columns of one name could not be told apart.
fn unique(query: &LogicalPlan) -> Result<()> {
    let mut names: Vec<_> = query.schema().fields().iter().map(|f| f.name().as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => {
            let reason = format!("the training query has two columns named '{}'; rename one or leave it out", pair[0]);
            Err(SqlError::Conflict { reason })
        }
    }
}

/// The column's type.
fn column_type(query: &LogicalPlan, name: &str) -> Result<DataType> {
    let fields = query.schema().fields();
    match fields.iter().find(|f| f.name() == name) {
        Some(field) => Ok(field.data_type().clone()),
        None => {
            let names = || fields.iter().map(|f| f.name().as_str());
            let mut hint = did_you_mean(name, names());
            if let Some(same) = names().find(|known| known.eq_ignore_ascii_case(name)) {
                hint = format!("; a name keeps its case in double quotes: \"{same}\"");
            }
            Err(MlError::UnknownColumn { name: name.into(), hint, known: listed(names()) }.into())
        }
    }
}

fn labels(family: &'static dyn Family, train: &TrainStatement, query: &LogicalPlan) -> Result<Vec<String>> {
    let conflict = |reason: String| Err(SqlError::Conflict { reason });
    if family.task() == Task::Clustering {
        return match train.labels.first() {
            None => Ok(Vec::new()),
            Some(label) => conflict(format!("{} takes no label; leave out PREDICT {label}", family.name())),
        };
    }
    match train.labels.as_slice() {
        [] if query.schema().fields().iter().any(|f| f.name() == DEFAULT_LABEL) => Ok(vec![DEFAULT_LABEL.into()]),
        [] => {
            let known = listed(query.schema().fields().iter().map(|f| f.name().as_str()));
            conflict(format!(
                "{} needs a label: add PREDICT <column>; no column is named '{DEFAULT_LABEL}', the query has {known}",
                family.name()
            ))
        }
        [label] => column_type(query, label).map(|_| vec![label.clone()]),
        several => {
            for label in several {
                column_type(query, label)?;
            }
            conflict(format!("{} learns one label, and PREDICT names {}", family.name(), several.join(", ")))
        }
    }
}

/// The weight's column; an expression becomes one.
fn weigh(state: &SessionState, train: &TrainStatement, query: LogicalPlan) -> Result<(LogicalPlan, Option<String>)> {
    let Some(weight) = &train.weight else { return Ok((query, None)) };
    if let datafusion::sql::sqlparser::ast::Expr::Identifier(name) = &weight.expr {
        let name = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() };
        let data_type = column_type(&query, &name)?;
        numeric(&name, &data_type)?;
        return Ok((query, Some(name)));
    }
    let parsed = ExprWithAlias { expr: weight.expr.clone(), alias: None };
    let expr = state.create_logical_expr_from_sql_expr(parsed, query.schema())?;
    numeric(&weight.sql, &expr.get_type(query.schema())?)?;
    if let Expr::Column(column) = &expr {
        return Ok((query, Some(column.name.clone())));
    }
    let all: Vec<_> = query.schema().columns().into_iter().map(Expr::Column).collect();
    let query = LogicalPlanBuilder::from(query).project(all.into_iter().chain([expr.alias(WEIGHT_INPUT)]))?.build()?;
    Ok((query, Some(WEIGHT_INPUT.into())))
}

fn numeric(name: &str, data_type: &DataType) -> Result<()> {
    if data_type.is_numeric() || *data_type == DataType::Null {
        return Ok(());
    }
    let hint = "WEIGHT BY needs a number that is not negative".into();
    Err(MlError::ColumnType { column: name.into(), data_type: data_type.to_string(), hint }.into())
}

/// A column has one role.
fn distinct(labels: &[String], weight: Option<&str>, split: &SplitSpec) -> Result<()> {
    let mut roles: Vec<(&str, &str)> = labels.iter().map(|label| ("PREDICT", label.as_str())).collect();
    roles.extend(weight.map(|weight| ("WEIGHT BY", weight)));
    if let SplitSpec::By { column } = split {
        roles.push(("SPLIT BY", column));
    }
    for (i, (role, name)) in roles.iter().enumerate() {
        if let Some((other, _)) = roles[..i].iter().find(|(_, earlier)| earlier == name) {
            let reason = format!("column '{name}' is named by {other} and by {role}; a column has one role");
            return Err(SqlError::Conflict { reason });
        }
    }
    Ok(())
}
