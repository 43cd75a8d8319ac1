#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use datafusion::logical_expr::Expr;
use datafusion::prelude::*;

use super::evaluate::Evaluate;
use super::scalar::ScalarFunction;
use super::*;
use crate::error::MlError;
use crate::family::Task;
use crate::fold::{Kernel, Loss};
use crate::model::testing::{label, model, number, text};
use crate::transform::{FittedLabel, OnMissing};

fn linear(weights: &[f64]) -> Kernel {
    Kernel::Linear { loss: Loss::Logistic, intercept: -1.0, weights: weights.to_vec() }
}

fn scorer(run: &str, task: Task, label: Option<FittedLabel>, kernel: Kernel) -> Result<Arc<Scorer>> {
    let model = model(run, vec![number("x", 2.0), text("c", &["a", "b"], true)], label);
    Ok(Arc::new(Scorer::with_kernel(Arc::new(model), task, kernel)?))
}

/// margin = -1 + x + {a: 0, b: 10, NULL: -10}
fn churn() -> Arc<Scorer> {
    let label = label("churned", "Utf8", &["no", "yes"]);
    scorer("run-1", Task::Classification, Some(label), linear(&[1.0, 0.0, 10.0, -10.0])).unwrap()
}

fn price() -> Arc<Scorer> {
    let label = label("price", "Int32", &[]);
    scorer("run-2", Task::Regression, Some(label), linear(&[1.0, 0.0, 10.0, -10.0])).unwrap()
}

fn three() -> Arc<Scorer> {
    let label = label("size", "Int64", &["1", "9", "10"]);
    let kernel = Kernel::Softmax {
        intercepts: vec![0.0, 1.0, 0.0],
        weights: vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
    };
    scorer("run-3", Task::Classification, Some(label), kernel).unwrap()
}

fn groups() -> Arc<Scorer> {
    let kernel = Kernel::Centroids {
        shift: vec![0.0; 4],
        scale: vec![1.0, 0.0, 0.0, 0.0],
        centers: vec![0.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 0.0],
    };
    scorer("run-4", Task::Clustering, None, kernel).unwrap()
}

fn scalar(spec: ModelFunction, scorer: &Arc<Scorer>) -> Result<Arc<ScalarUDF>> {
    Ok(Arc::new(ScalarUDF::new_from_impl(ScalarFunction::new(spec.into(), Arc::clone(scorer))?)))
}

fn aggregate(threshold: Option<f64>, scorer: &Arc<Scorer>) -> Result<Arc<AggregateUDF>> {
    let spec = ModelFunction::Evaluate { threshold };
    Ok(Arc::new(AggregateUDF::new_from_impl(Evaluate::new(spec.into(), Arc::clone(scorer))?)))
}

/// Rows over two partitions: `x`, `c`, `y` (text), `n` (number), `g`.
async fn table() -> DataFrame {
    let schema = Arc::new(Schema::new(vec![
        Field::new("x", DataType::Float64, true),
        Field::new("c", DataType::Utf8View, true),
        Field::new("y", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
        Field::new("g", DataType::Int32, false),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(vec![Some(0.0), Some(1.0), Some(3.0), None, Some(-1.0)])),
        Arc::new(StringViewArray::from(vec![Some("a"), Some("a"), Some("new"), Some("b"), None])),
        Arc::new(StringArray::from(vec![Some("no"), Some("yes"), Some("yes"), Some("no"), None])),
        Arc::new(Int64Array::from(vec![Some(1), Some(9), Some(10), Some(10), None])),
        Arc::new(Int32Array::from(vec![1, 1, 2, 2, 3])),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let parts = vec![vec![batch.slice(0, 2)], vec![batch.slice(2, 1), batch.slice(3, 2)]];
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    context.read_table(Arc::new(MemTable::try_new(schema, parts).unwrap())).unwrap()
}

async fn show(frame: DataFrame) -> Vec<String> {
    let batches = frame.collect().await.unwrap();
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let rows = table.lines().filter(|line| line.starts_with('|'));
    let mut rows: Vec<_> =
        rows.skip(1).map(|row| row.trim_matches(['|', ' ']).to_string()).map(|row| row.replace(" | ", "|")).collect();
    rows.sort();
    rows
}

async fn predicted(spec: ModelFunction, scorer: &Arc<Scorer>) -> Vec<String> {
    let call = scalar(spec, scorer).unwrap().call(vec![col("x"), col("c")]);
    show(table().await.select(vec![col("g"), call.alias("p")]).unwrap()).await
}

fn cells(rows: &[String]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.split('|').map(|cell| cell.trim().to_string()).collect()).collect()
}

#[tokio::test]
async fn labels_are_predicted_in_their_own_type() {
    let rows = cells(&predicted(ModelFunction::PredictLabel { threshold: None }, &churn()).await);
    let labels: Vec<_> = rows.iter().map(|r| (r[0].as_str(), r[1].as_str())).collect();
    // Margins -1, 0 (not above one half), 2, 11, -12.
    assert_eq!(labels, [("1", "no"), ("1", "no"), ("2", "yes"), ("2", "yes"), ("3", "no")]);
    let rows = cells(&predicted(ModelFunction::PredictLabel { threshold: Some(0.4) }, &churn()).await);
    assert_eq!(rows.iter().filter(|r| r[1] == "yes").count(), 3);
    let rows = cells(&predicted(ModelFunction::PredictLabel { threshold: None }, &price()).await);
    let numbers: Vec<_> = rows.iter().map(|r| r[1].as_str()).collect();
    assert_eq!(numbers, ["-1.0", "0.0", "11.0", "2.0", "-12.0"]);
    let rows = cells(&predicted(ModelFunction::PredictLabel { threshold: None }, &groups()).await);
    assert!(rows.iter().all(|r| r[1] == "1"));
    let udf = scalar(ModelFunction::PredictLabel { threshold: None }, &three()).unwrap();
    assert_eq!(udf.return_type(&[DataType::Float32, DataType::Utf8]).unwrap(), DataType::Int64);
}

#[tokio::test]
async fn structs_rank_classes_and_centres() {
    let rows = predicted(ModelFunction::Predict { threshold: None }, &three()).await;
    let first = rows.iter().find(|row| row.contains("[{label: 10, prob: 0.84")).unwrap();
    assert!(first.contains("{predicted_size: 10, predicted_size_probs: "), "{first}");
    // Margins 0, 1, 1: a tie goes to the earlier class.
    let tied = rows.iter().find(|row| row.contains("[{label: 9, prob: 0.42")).unwrap();
    assert!(tied.contains("predicted_size: 9") && tied.contains("{label: 10, prob: 0.42"), "{tied}");
    let rows = predicted(ModelFunction::Predict { threshold: None }, &groups()).await;
    let text = "{centroid_id: 1, nearest_centroids_distance: \
                [{centroid_id: 1, distance: 3.0}, {centroid_id: 2, distance: 7.0}]}";
    assert!(rows.iter().any(|row| row.contains(text)), "{rows:?}");
    let rows = predicted(ModelFunction::Predict { threshold: None }, &price()).await;
    assert!(rows.iter().any(|row| row.contains("{predicted_price: 11.0}")), "{rows:?}");
}

#[tokio::test]
async fn probabilities_of_named_classes() {
    let rows = cells(&predicted(ModelFunction::PredictProba { class: None }, &churn()).await);
    assert!(rows.iter().any(|r| r[1] == "0.5"));
    let rows = cells(&predicted(ModelFunction::PredictProba { class: Some("no".into()) }, &churn()).await);
    assert!(rows.iter().any(|r| r[1].starts_with("0.99999385")), "{rows:?}");
    let fails = |class: Option<&str>, scorer: &Arc<Scorer>| {
        scalar(ModelFunction::PredictProba { class: class.map(str::to_string) }, scorer).unwrap_err().to_string()
    };
    assert!(fails(Some("maybe"), &churn()).contains("'no', 'yes'"));
    assert!(fails(None, &three()).contains("'1', '9', '10'"));
    assert!(fails(None, &price()).contains("PREDICT"));
}

#[tokio::test]
async fn skipped_rows_predict_null_in_every_form() {
    let mut skipping = (**churn().model()).clone();
    skipping.manifest.transform.on_missing = OnMissing::Skip;
    let kernel = linear(&[1.0, 0.0, 10.0, -10.0]);
    let scorer = Arc::new(Scorer::with_kernel(Arc::new(skipping), Task::Classification, kernel).unwrap());
    for spec in [
        ModelFunction::Predict { threshold: None },
        ModelFunction::PredictLabel { threshold: None },
        ModelFunction::PredictProba { class: None },
    ] {
        let call = scalar(spec.clone(), &scorer).unwrap().call(vec![col("x"), col("c")]);
        let frame = table().await.filter(call.clone().is_null()).unwrap();
        assert_eq!(frame.count().await.unwrap(), 2, "{spec:?}");
        if matches!(spec, ModelFunction::Predict { .. }) {
            let field = datafusion::functions::core::expr_fn::get_field(call, "predicted_churned");
            assert_eq!(table().await.filter(field.is_null()).unwrap().count().await.unwrap(), 2);
        }
    }
    let metrics = table()
        .await
        .aggregate(vec![], vec![aggregate(None, &scorer).unwrap().call(vec![col("y"), col("x"), col("c")])]);
    assert!(show(metrics.unwrap()).await[0].contains("accuracy: 0.6666"));
}

#[tokio::test]
async fn constants_score_once_and_stay_constant() {
    let call = scalar(ModelFunction::PredictLabel { threshold: None }, &churn()).unwrap().call(vec![lit(3), lit("a")]);
    assert_eq!(cells(&show(table().await.select(vec![call.alias("p")]).unwrap()).await), vec![vec!["yes"]; 5]);
}

async fn metrics(scorer: &Arc<Scorer>, label: &[Expr], filter: Option<Expr>) -> Vec<Option<f64>> {
    let arguments = [label, &[col("x"), col("c")]].concat();
    let mut frame = table().await;
    if let Some(filter) = filter {
        frame = frame.filter(filter).unwrap();
    }
    let frame = frame.aggregate(vec![], vec![aggregate(None, scorer).unwrap().call(arguments).alias("m")]).unwrap();
    let batches = frame.collect().await.unwrap();
    let row = batches[0].column(0).as_struct().clone();
    let value = |c: &ArrayRef| match ScalarValue::try_from_array(c, 0).unwrap() {
        ScalarValue::Float64(value) => value,
        other => unreachable!("{other}"),
    };
    row.columns().iter().map(value).collect()
}

#[tokio::test]
async fn metrics_merge_over_partitions_and_leave_rows_without_label_out() {
    // Labels no, yes, yes, no; margins -1, 0, 2, 11.
    let found = metrics(&churn(), &[col("y")], None).await;
    assert_eq!(found[..4], [Some(0.5), Some(0.5), Some(0.5), Some(0.5)]);
    assert_eq!(found[5], Some(0.5));
    // Labels 1, 9, 10, 10; predictions -1, 0, 2, 11.
    let found = metrics(&price(), &[col("n")], None).await;
    assert_eq!(found[..4], [Some(5.0), Some((4.0 + 81.0 + 64.0 + 1.0) / 4.0), None, Some(5.0)]);
    let found = metrics(&groups(), &[], None).await;
    assert_eq!(found, [None, Some((0.0 + 1.0 + 9.0 + 4.0 + 1.0) / 5.0)]);
    let none = metrics(&churn(), &[col("y")], Some(col("g").gt(lit(2)))).await;
    assert_eq!(none, [None; 6]);
    let none = metrics(&price(), &[col("n")], Some(col("g").gt(lit(9)))).await;
    assert_eq!(none, [None; 6]);
}

#[tokio::test]
async fn metrics_by_group() {
    let call = aggregate(None, &price()).unwrap().call(vec![col("n"), col("x"), col("c")]).alias("m");
    let frame = table().await.aggregate(vec![col("g")], vec![call]).unwrap();
    let field = datafusion::functions::core::expr_fn::get_field(col("m"), "mean_absolute_error");
    let rows = cells(&show(frame.select(vec![col("g"), field.alias("mae")]).unwrap()).await);
    assert_eq!(rows, [vec!["1", "5.5"], vec!["2", "4.5"], vec!["3"]]);
}

#[tokio::test]
async fn two_models_in_one_query_are_not_confused() {
    let (a, b) = (churn(), {
        let label = label("churned", "Utf8", &["no", "yes"]);
        // The same run, other weights: only the artifact tells them apart.
        let mut model = model("run-1", vec![number("x", 2.0), text("c", &["a", "b"], true)], Some(label));
        model.weights.clear();
        Arc::new(Scorer::with_kernel(Arc::new(model), Task::Classification, linear(&[-1.0, 0.0, 0.0, 0.0])).unwrap())
    });
    let spec = || ModelFunction::PredictLabel { threshold: None };
    let (fa, fb) = (scalar(spec(), &a).unwrap(), scalar(spec(), &b).unwrap());
    assert_eq!(fa, scalar(spec(), &churn()).unwrap());
    assert_ne!(fa, fb);
    assert_ne!(fa, scalar(ModelFunction::PredictLabel { threshold: Some(0.5) }, &a).unwrap());
    assert_ne!(aggregate(None, &a).unwrap(), aggregate(None, &b).unwrap());
    let call = |f: &Arc<ScalarUDF>| f.call(vec![col("x"), col("c")]);
    let frame = table().await.select(vec![call(&fa).alias("a"), call(&fb).alias("b")]).unwrap();
    let rows = cells(&show(frame).await);
    assert!(rows.contains(&vec!["yes".to_string(), "no".to_string()]), "{rows:?}");
}

#[test]
fn types_and_thresholds_are_checked() {
    let udf = scalar(ModelFunction::Predict { threshold: None }, &churn()).unwrap();
    for x in [DataType::Int8, DataType::Boolean, DataType::Null, DataType::Decimal128(9, 2)] {
        udf.return_type(&[x, DataType::LargeUtf8]).unwrap();
    }
    let error = udf.return_type(&[DataType::Utf8, DataType::Utf8]).unwrap_err().to_string();
    assert!(error.contains("SINEW-2010") && error.contains("'x'") && error.contains("Float64"), "{error}");
    assert!(udf.return_type(&[DataType::Int8]).is_err());

    for threshold in [-0.1, 1.5, f64::NAN] {
        assert!(matches!(aggregate(Some(threshold), &churn()), Err(MlError::BadOption { .. })));
    }
    for scorer in [three(), price(), groups()] {
        assert!(matches!(
            scalar(ModelFunction::Predict { threshold: Some(0.4) }, &scorer),
            Err(MlError::Conflict { .. })
        ));
    }
    assert!(aggregate(Some(0.0), &churn()).is_ok() && aggregate(Some(1.0), &churn()).is_ok());

    let udf = aggregate(None, &churn()).unwrap();
    let error = udf.return_type(&[DataType::Int64, DataType::Int8, DataType::Utf8]).unwrap_err().to_string();
    assert!(error.contains("label 'churned'"), "{error}");
}

#[tokio::test]
async fn a_wrong_type_fails_when_the_query_is_planned() {
    let udf = scalar(ModelFunction::Predict { threshold: None }, &churn()).unwrap();
    let error = table().await.select(vec![udf.call(vec![col("c"), col("c")])]).unwrap_err().to_string();
    assert!(error.contains("feature 'x'"), "{error}");
}

#[test]
fn weights_that_do_not_fit_are_damage() {
    let label = || Some(label("y", "Utf8", &["no", "yes"]));
    let fails = |task, label, kernel| matches!(scorer("r", task, label, kernel), Err(MlError::Damaged { .. }));
    assert!(fails(Task::Classification, label(), linear(&[1.0])));
    assert!(fails(Task::Classification, None, linear(&[1.0; 4])));
    assert!(fails(Task::Regression, label(), linear(&[1.0; 4])));
    let softmax = |k: usize| Kernel::Softmax { intercepts: vec![0.0; k], weights: vec![0.0; k * 4] };
    assert!(fails(Task::Classification, label(), softmax(3)));
    let centres = Kernel::Centroids { shift: vec![0.0; 4], scale: vec![1.0; 4], centers: vec![0.0; 6] };
    assert!(fails(Task::Clustering, None, centres));
}

#[test]
fn a_function_gives_back_what_it_was_made_of() {
    let spec = ModelFunction::PredictProba { class: Some("yes".into()) };
    let udf = scalar(spec.clone(), &churn()).unwrap();
    let (found, model) = as_model_function(&udf).unwrap();
    assert_eq!((&found.function, found.function.kind()), (&spec, "predict_proba"));
    assert_eq!(model, churn().model());
    assert_eq!(serde_json::from_str::<ModelFunction>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    assert_eq!(udf.name(), "predict_proba[run-1, yes]");
    let udf = aggregate(Some(0.25), &churn()).unwrap();
    assert_eq!(as_model_aggregate(&udf).unwrap().0.function, ModelFunction::Evaluate { threshold: Some(0.25) });
    let upper = datafusion::functions::string::upper();
    assert!(as_model_function(&upper).is_none());
}
