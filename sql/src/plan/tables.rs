//! What is known of a model, as a relation.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Float64Array, Float64Builder, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    StructBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use sinew_ml::metrics;
use sinew_ml::model::Model;
use sinew_ml::transform::Encoding;

use super::layers;
use crate::error::{Result, SqlError};

/// The intercept's name among the inputs.
pub(super) const INTERCEPT: &str = "__INTERCEPT__";

pub(super) fn relation(name: &str, columns: Vec<(&str, ArrayRef)>) -> Result<LogicalPlan> {
    let fields: Fields =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(datafusion::error::DataFusionError::from)?;
    let table = MemTable::try_new(schema, vec![vec![batch]])?;
    Ok(LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.build()?)
}

/// `ML.EVALUATE(MODEL m)`: the metrics on the rows held out at training.
///
/// # Errors
/// When no row was held out, or a threshold is given, which needs rows.
pub(crate) fn metrics(name: &str, model: &Model, threshold: Option<f64>) -> Result<LogicalPlan> {
    let wrong = |reason: String| Err(SqlError::Arguments { function: "ML.EVALUATE".into(), reason });
    if threshold.is_some() {
        return wrong("a threshold needs rows: add TABLE t or (SELECT ..) after the model".into());
    }
    let known = &model.manifest.metrics;
    if known.is_empty() {
        return wrong(format!(
            "no row was held out when '{name}' was trained; write ML.EVALUATE(MODEL {name}, TABLE t), or train with SPLIT RANDOM 0.2"
        ));
    }
    let value = |wanted: &str| known.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| *value);
    let columns = metrics::names(model.task()?)
        .iter()
        .map(|name| (*name, Arc::new(Float64Array::from(vec![value(name)])) as ArrayRef))
        .collect();
    relation("ml_evaluate", columns)
}

/// `ML.TRAINING_INFO(MODEL m)`: a row for each iteration.
pub(crate) fn training_info(model: &Model) -> Result<LogicalPlan> {
    let all = &model.manifest.iterations;
    let float = |of: fn(&sinew_ml::model::IterationRecord) -> Option<f64>| {
        Arc::new(all.iter().map(of).collect::<Float64Array>()) as ArrayRef
    };
    relation(
        "ml_training_info",
        vec![
            ("training_run", Arc::new(Int64Array::from(vec![0; all.len()]))),
            ("iteration", Arc::new(all.iter().map(|i| Some(i64::from(i.iteration))).collect::<Int64Array>())),
            ("loss", float(|i| Some(i.loss))),
            ("eval_loss", float(|i| i.eval_loss)),
            ("learning_rate", float(|i| Some(i.learning_rate))),
            ("duration_ms", float(|i| Some(i.duration_ms))),
            ("gradient_norm", float(|i| Some(i.gradient_norm))),
        ],
    )
}

/// `ML.WEIGHTS(MODEL m)`: a row for each class, feature and the intercept; for a network, for each connection.
///
/// # Errors
/// When the model has no coefficients, or they do not fit its features.
pub(crate) fn weights(name: &str, model: &Model) -> Result<LogicalPlan> {
    if !layers::layers(model).is_empty() {
        return layers::weights(model);
    }
    let missing = || SqlError::Arguments {
        function: "ML.WEIGHTS".into(),
        reason: format!(
            "model '{name}' is a {} and has no weights; DESCRIBE MODEL {name} shows what it is",
            model.manifest.family
        ),
    };
    let coefficients = model.weights.get("coefficients").ok_or_else(missing)?;
    let intercepts = model.weights.get("intercept").ok_or_else(missing)?;
    let transform = &model.manifest.transform;
    let layout = transform.layout();
    let width = layout.width();
    let sets = intercepts.data.len();
    if coefficients.data.len() != sets * width {
        let reason = format!("{} coefficients for {sets} x {width} coordinates", coefficients.data.len());
        return Err(sinew_ml::MlError::Damaged { reason }.into());
    }
    let classes = transform.label.as_ref().map_or(&[][..], |label| &label.classes);
    let mut labels: Vec<Option<&str>> = Vec::new();
    let mut inputs: Vec<&str> = Vec::new();
    let mut values: Vec<Option<f64>> = Vec::new();
    let mut categories = categories_builder();
    for set in 0..sets {
        let class = if sets > 1 { classes.get(set).map(String::as_str) } else { None };
        let row = &coefficients.data[set * width..(set + 1) * width];
        for (feature, span) in transform.features.iter().zip(layout.spans()) {
            let of_feature = &row[span.offset..span.offset + span.width];
            labels.push(class);
            inputs.push(&feature.name);
            match &feature.encoding {
                Encoding::Numeric { .. } => {
                    values.push(of_feature.first().copied());
                    categories.append_null();
                }
                Encoding::OneHot { categories: known, null } => {
                    values.push(None);
                    let names = known.iter().map(|c| Some(c.as_str())).chain(null.then_some(None));
                    for (category, weight) in names.zip(of_feature) {
                        append(&mut categories, category, *weight);
                    }
                    categories.append(true);
                }
            }
        }
        labels.push(class);
        inputs.push(INTERCEPT);
        values.push(intercepts.data.get(set).copied());
        categories.append_null();
    }
    relation(
        "ml_weights",
        vec![
            ("class_label", Arc::new(StringArray::from(labels))),
            ("processed_input", Arc::new(StringArray::from(inputs))),
            ("weight", Arc::new(Float64Array::from(values))),
            ("category_weights", Arc::new(categories.finish())),
        ],
    )
}

fn categories_builder() -> ListBuilder<StructBuilder> {
    let fields = vec![Field::new("category", DataType::Utf8, true), Field::new("weight", DataType::Float64, true)];
    ListBuilder::new(StructBuilder::new(fields, vec![Box::new(StringBuilder::new()), Box::new(Float64Builder::new())]))
}

fn append(to: &mut ListBuilder<StructBuilder>, category: Option<&str>, weight: f64) {
    let entry = to.values();
    if let Some(names) = entry.field_builder::<StringBuilder>(0) {
        names.append_option(category);
    }
    if let Some(weights) = entry.field_builder::<Float64Builder>(1) {
        weights.append_value(weight);
    }
    entry.append(true);
}
