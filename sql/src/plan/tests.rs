#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::displayable;
use datafusion::prelude::{SessionConfig, SessionContext};
use sinew_ml::family::{Tensor, Weights, find};
use sinew_ml::model::{DataSummary, FORMAT, IterationRecord, Manifest, Model};
use sinew_ml::params::{ParamValue, Params};
use sinew_ml::split::SplitSpec;
use sinew_ml::transform::{Encoding, FittedFeature, FittedLabel, FittedTransform, OnMissing};

use super::*;
use crate::Statement;

fn number(name: &str) -> FittedFeature {
    FittedFeature { name: name.into(), data_type: "Float64".into(), encoding: Encoding::Numeric { impute: 0.0 } }
}

fn text(name: &str, categories: &[&str], null: bool) -> FittedFeature {
    let categories = categories.iter().map(ToString::to_string).collect();
    FittedFeature { name: name.into(), data_type: "Utf8".into(), encoding: Encoding::OneHot { categories, null } }
}

fn label(name: &str, data_type: &str, classes: &[&str]) -> FittedLabel {
    let classes = classes.iter().map(ToString::to_string).collect();
    FittedLabel { name: name.into(), data_type: data_type.into(), classes }
}

fn model(
    family: &str,
    features: Vec<FittedFeature>,
    label: Option<FittedLabel>,
    weights: &[(&str, &[usize], &[f64])],
    metrics: &[(&str, Option<f64>)],
) -> Arc<Model> {
    let family = find(family).unwrap();
    let iteration = |iteration| IterationRecord {
        iteration,
        loss: 0.5,
        eval_loss: None,
        learning_rate: 1.0,
        gradient_norm: 0.25,
        duration_ms: 1.5,
    };
    let weights: Weights = weights
        .iter()
        .map(|(name, shape, data)| ((*name).to_string(), Tensor { shape: shape.to_vec(), data: data.to_vec() }))
        .collect();
    Arc::new(Model {
        manifest: Manifest {
            format: FORMAT,
            run: "run".into(),
            engine_version: "0".into(),
            statement: String::new(),
            query: String::new(),
            family: family.name().into(),
            params: Params::resolve(family.name(), family.params(), &[]).unwrap(),
            solver: "none".into(),
            seed: 0,
            split: SplitSpec::Auto,
            transform: FittedTransform { features, label, on_missing: OnMissing::Impute },
            weight_column: None,
            data: DataSummary::default(),
            iterations: vec![iteration(0), iteration(1)],
            converged: true,
            stop_reason: String::new(),
            metrics: metrics.iter().map(|(name, value)| ((*name).to_string(), *value)).collect(),
            processor: None,
            device: None,
            gpus: Vec::new(),
            warnings: Vec::new(),
            notes: Vec::new(),
        },
        weights,
    })
}

/// churn: yes when x is above 0, more so on plan b. price: 1 + 2 x. groups: centres -1 and 1 of x.
fn models() -> Arc<dyn Models> {
    let churn = model(
        "logistic_regression",
        vec![text("plan", &["a", "b"], true), number("x")],
        Some(label("churned", "Utf8", &["no", "yes"])),
        &[("coefficients", &[4], &[0.0, 0.5, 0.0, 2.0]), ("intercept", &[1], &[0.0])],
        &[("roc_auc", Some(0.75)), ("log_loss", Some(0.5))],
    );
    let price = model(
        "linear_regression",
        vec![number("x")],
        Some(label("price", "Float64", &[])),
        &[("coefficients", &[1], &[2.0]), ("intercept", &[1], &[1.0])],
        &[],
    );
    let kind = model(
        "logistic_regression",
        vec![number("x")],
        Some(label("kind", "Int64", &["1", "2", "3"])),
        &[("coefficients", &[3, 1], &[-1.0, 0.0, 1.0]), ("intercept", &[3], &[0.0, 0.5, 0.0])],
        &[],
    );
    let models = [("churn", Arc::clone(&churn)), ("churn@3", churn), ("price", price), ("kind", kind)];
    let models: BTreeMap<ModelRef, Arc<Model>> =
        models.into_iter().map(|(name, m)| (name.parse().unwrap(), m)).collect();
    Arc::new(models)
}

fn session() -> SessionContext {
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3]))),
        ("plan", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]))),
        ("x", Arc::new(Float32Array::from(vec![1.0, -1.0, 0.5]))),
        ("churned", Arc::new(StringArray::from(vec!["yes", "no", "yes"]))),
        ("held", Arc::new(BooleanArray::from(vec![true, false, false]))),
        ("w", Arc::new(Float64Array::from(vec![1.0, 2.0, 3.0]))),
        ("Group", Arc::new(Int64Array::from(vec![1, 1, 2]))),
    ];
    ctx.register_batch("t", RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    ctx
}

async fn plan(sql: &str) -> Result<LogicalPlan> {
    match crate::parse(sql)?.remove(0) {
        Statement::Query(query) => plan_query(&session().state(), &query, models()).await,
        other => panic!("{sql}\n{other:?}"),
    }
}

async fn answer(sql: &str) -> String {
    let plan = plan(sql).await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    let ctx = session();
    let batches =
        ctx.execute_logical_plan(plan).await.unwrap().collect().await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    pretty_format_batches(&batches).unwrap().to_string()
}

/// The rows alone, cells separated by one space.
async fn rows(sql: &str) -> Vec<String> {
    let table = answer(sql).await;
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" ");
    table.lines().filter(|line| line.starts_with('|')).skip(1).map(cells).collect()
}

async fn header(sql: &str) -> String {
    let plan = plan(sql).await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    plan.schema().fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn predictions_as_a_relation() {
    assert_eq!(
        header("SELECT * FROM ML.PREDICT(MODEL price, (SELECT id, x FROM t))").await,
        "id:Int64 x:Float32 predicted_price:Float64"
    );
    assert_eq!(
        rows("SELECT * FROM ML.PREDICT(MODEL price, (SELECT id, x FROM t)) ORDER BY id").await,
        ["1 1.0 3.0", "2 -1.0 -1.0", "3 0.5 2.0"]
    );
    assert_eq!(
        rows("SELECT p.id, p.predicted_churned FROM ml.predict(MODEL churn@3, TABLE t) AS p WHERE x > -5 ORDER BY 1")
            .await,
        ["1 yes", "2 no", "3 yes"]
    );
    let probs = "SELECT id, predicted_churned, predicted_churned_probs[1]['label'] AS l FROM \
                 ML.PREDICT(MODEL churn, (SELECT * FROM t), STRUCT(0.8 AS threshold)) ORDER BY id";
    assert_eq!(rows(probs).await, ["1 yes yes", "2 no no", "3 no yes"]);
    let chained = "SELECT * FROM ML.PREDICT(MODEL price, (SELECT id, x FROM ML.PREDICT(MODEL churn, TABLE t) WHERE predicted_churned = 'no'))";
    assert_eq!(rows(chained).await, ["2 -1.0 -1.0"]);
    assert_eq!(
        rows("WITH n AS (SELECT 2.5 AS x) SELECT predicted_price FROM ML.PREDICT(MODEL price, TABLE n)").await,
        ["6.0"]
    );
    assert_eq!(rows("SELECT predicted_price FROM ML.PREDICT(MODEL price, (SELECT x FROM t)) LIMIT 0").await, [""; 0]);
}

#[tokio::test]
async fn a_row_is_scored_once() {
    for sql in [
        "SELECT * FROM ML.PREDICT(MODEL churn, TABLE t)",
        "SELECT predicted_churned, predicted_churned_probs FROM ML.PREDICT(MODEL churn, TABLE t) WHERE predicted_churned = 'yes'",
        "SELECT id, PREDICT(churn, *) AS p, PREDICT(churn, *) || '!' AS q FROM t",
    ] {
        let plan = plan(sql).await.unwrap();
        let physical = session().state().create_physical_plan(&plan).await.unwrap();
        let shown = displayable(physical.as_ref()).indent(false).to_string();
        let calls = shown.matches("predict[").count() + shown.matches("predict_label[").count();
        assert_eq!(calls, 1, "{shown}");
    }
}

#[tokio::test]
async fn predictions_as_a_function() {
    assert_eq!(header("SELECT id, PREDICT(churn, *) FROM t").await, "id:Int64 predict(churn,*):Utf8");
    assert_eq!(rows("SELECT id, PREDICT(churn, *) FROM t ORDER BY id").await, ["1 yes", "2 no", "3 yes"]);
    assert_eq!(rows("SELECT PREDICT(price, x) FROM t ORDER BY id").await, ["3.0", "-1.0", "2.0"]);
    assert_eq!(rows("SELECT predict(churn@3, x, plan, id) FROM t ORDER BY id").await, ["yes", "no", "yes"]);
    assert_eq!(rows("SELECT predict(kind, t.*) AS k FROM t ORDER BY id").await, ["3", "1", "2"]);
    let proba = "SELECT round(PREDICT_PROBA(churn, 'yes', *) + PREDICT_PROBA(churn, 'no', *), 6) AS one, \
                 PREDICT_PROBA(churn, *) > 0.8 AS sure FROM t ORDER BY id";
    assert_eq!(rows(proba).await, ["1.0 true", "1.0 false", "1.0 false"]);
    assert_eq!(rows("SELECT PREDICT_PROBA(kind, 3, *) > 0.5 FROM t WHERE id = 1").await, ["true"]);
    assert_eq!(rows("SELECT id FROM t WHERE PREDICT(churn, *) = 'no'").await, ["2"]);
    assert_eq!(rows("SELECT avg(PREDICT(price, *)) AS a FROM t WHERE id < 3").await, ["1.0"]);
    assert_eq!(
        rows("SELECT PREDICT(churn, *), count(*) FROM t GROUP BY PREDICT(churn, *) ORDER BY 2").await,
        ["no 1", "yes 2"]
    );
    assert_eq!(
        rows("SELECT id, PREDICT(churn, *) FROM t ORDER BY PREDICT(churn, *), id").await,
        ["2 no", "1 yes", "3 yes"]
    );
    assert_eq!(
        rows("SELECT PREDICT(price, x) FROM (SELECT id * 1.5 AS x FROM t) ORDER BY 1").await,
        ["4.0", "7.0", "10.0"]
    );
    assert_eq!(rows("SELECT id FROM t WHERE x < (SELECT max(PREDICT(price, *)) FROM t) ORDER BY id").await.len(), 3);
    assert_eq!(
        rows("SELECT CASE WHEN PREDICT(churn, *) = 'yes' THEN 1 ELSE 0 END AS c FROM t ORDER BY id").await,
        ["1", "0", "1"]
    );
}

#[tokio::test]
async fn metrics_of_a_model() {
    let names = "precision:Float64 recall:Float64 accuracy:Float64 f1_score:Float64 log_loss:Float64 roc_auc:Float64";
    assert_eq!(header("SELECT * FROM ML.EVALUATE(MODEL churn, TABLE t)").await, names);
    assert_eq!(header("SELECT * FROM ML.EVALUATE(MODEL churn)").await, names);
    assert_eq!(rows("SELECT accuracy, roc_auc FROM ML.EVALUATE(MODEL churn, TABLE t)").await, ["1.0 1.0"]);
    assert_eq!(
        rows("SELECT accuracy FROM ML.EVALUATE(MODEL churn, (SELECT * FROM t), STRUCT(0.8 AS threshold))").await.len(),
        1
    );
    assert_eq!(
        rows("SELECT accuracy, log_loss, roc_auc FROM ML.EVALUATE(MODEL churn)").await,
        ["0.5 0.75"].map(|s| format!(" {s}"))
    );
    assert_eq!(
        rows("SELECT r2_score FROM ML.EVALUATE(MODEL price, (SELECT x, 1 + 2 * x AS price FROM t))").await,
        ["1.0"]
    );
}

#[tokio::test]
async fn what_a_model_has_learnt() {
    assert_eq!(
        rows("SELECT * FROM ML.WEIGHTS(MODEL churn)").await,
        [
            " plan  [{category: a, weight: 0.0}, {category: b, weight: 0.5}, {category: , weight: 0.0}]",
            " x 2.0 ",
            " __INTERCEPT__ 0.0 "
        ]
    );
    assert_eq!(
        rows("SELECT class_label, processed_input, weight FROM ML.WEIGHTS(MODEL kind)").await,
        ["1 x -1.0", "1 __INTERCEPT__ 0.0", "2 x 0.0", "2 __INTERCEPT__ 0.5", "3 x 1.0", "3 __INTERCEPT__ 0.0"]
    );
    assert_eq!(
        header("SELECT * FROM ML.TRAINING_INFO(MODEL price)").await,
        "training_run:Int64 iteration:Int64 loss:Float64 eval_loss:Float64 learning_rate:Float64 duration_ms:Float64 \
         gradient_norm:Float64"
    );
    assert_eq!(rows("SELECT iteration, loss FROM ML.TRAINING_INFO(MODEL price)").await, ["0 0.5", "1 0.5"]);
}

#[tokio::test]
async fn errors_of_queries_over_models() {
    for (sql, text) in [
        (
            "SELECT * FROM ML.PREDICT(MODEL churm, TABLE t)",
            "SINEW-1010: there is no model 'churm'; did you mean 'churn'?; SHOW MODELS",
        ),
        ("SELECT PREDICT(churn@9, *) FROM t", "SINEW-1010: there is no model 'churn@9'"),
        (
            "SELECT PREDICT(churn, id, plam) FROM (SELECT id, plan AS plam, x FROM t)",
            "SINEW-1011: model 'churn' needs column 'plan', and the input has none of that name; did you mean 'plam'?; it has id, plam",
        ),
        ("SELECT * FROM ML.PREDICT(MODEL price, (SELECT id FROM t))", "needs column 'x'"),
        (
            "SELECT * FROM ML.PREDICT(MODEL price, (SELECT 'a' AS x))",
            "SINEW-1012: column 'x' has type Utf8, and model 'price' was trained on Float64: give it as a number",
        ),
        ("SELECT PREDICT(churn, *) FROM (SELECT 1 AS plan, 2 AS x)", "give it as text"),
        ("SELECT PREDICT(price, x + 1) FROM t", "columns are matched by name, and 't.x + Int64(1)' has none"),
        ("SELECT PREDICT(price) FROM t", "it needs the columns: write * for all of them"),
        ("SELECT PREDICT(price, *) FROM t a JOIN t b ON a.id = b.id", "several columns named 'x'"),
        ("SELECT PREDICT_PROBA(price, *) FROM t", "SINEW-20"),
        ("SELECT PREDICT_PROBA(churn, 'maybe', *) FROM t", "maybe"),
        ("SELECT * FROM ML.PREDICT(MODEL churn)", "SINEW-1013: ML.PREDICT: it needs the rows"),
        (
            "SELECT * FROM ML.PREDICT(MODEL churn, TABLE t, STRUCT(2 AS threshold))",
            "threshold = 2 is not a number from 0 to 1",
        ),
        (
            "SELECT * FROM ML.PREDICT(MODEL churn, TABLE t, STRUCT(2 AS treshold))",
            "is no setting of it; write STRUCT(0.5 AS threshold, 'auto' AS device)",
        ),
        ("SELECT * FROM ML.PREDICT(MODEL churn, 3)", "'3' is no argument of it"),
        ("SELECT * FROM ML.PREDICT(MODEL churn, TABLE missing)", "missing"),
        (
            "SELECT * FROM ML.PREDICT(MODEL price, (SELECT x, 1 AS predicted_price FROM t))",
            "the input already has a column 'predicted_price'",
        ),
        (
            "SELECT * FROM ML.EVALUATE(MODEL price)",
            "no row was held out when 'price' was trained; write ML.EVALUATE(MODEL price, TABLE t)",
        ),
        ("SELECT * FROM ML.EVALUATE(MODEL price, TABLE t)", "needs column 'price'"),
        ("SELECT * FROM ML.WEIGHTS(MODEL price, TABLE t)", "it takes the model alone"),
        ("SELECT * FROM t TABLESAMPLE BERNOULLI (10)", "SINEW-1009: TABLESAMPLE is not available"),
        ("SELECT * FROM (SELECT * FROM t) TABLESAMPLE (10 PERCENT)", "SINEW-1009: TABLESAMPLE is not available"),
    ] {
        let found = match plan(sql).await {
            Err(e) => e.to_string(),
            Ok(plan) => panic!("{sql}\n{plan}"),
        };
        assert!(found.contains(text), "{sql}\n{found}\n{text}");
    }
}

async fn train(sql: &str) -> Result<PlannedTrain> {
    match crate::parse(sql)?.remove(0) {
        Statement::Train(train) => plan_train(&session().state(), &train, models()).await,
        other => panic!("{sql}\n{other:?}"),
    }
}

#[tokio::test]
async fn a_training_is_looked_up() {
    let planned = train(
        "TRAIN MODEL m USING LOGISTIC_REG PREDICT churned WEIGHT BY w SPLIT BY held OPTIONS(regParam=0.1, MAX_ITERATIONS=7) FROM t",
    )
    .await
    .unwrap();
    assert_eq!(planned.family.name(), "logistic_regression");
    assert_eq!(planned.params.get("reg_param"), &ParamValue::Float(0.1));
    assert_eq!(planned.params.get("max_iter"), &ParamValue::Int(7));
    assert_eq!(planned.labels, ["churned"]);
    assert_eq!(planned.weight.as_deref(), Some("w"));
    assert_eq!(planned.split, SplitSpec::By { column: "held".into() });
    assert_eq!(planned.query_text, "SELECT * FROM t");
    assert!(planned.statement.starts_with("TRAIN MODEL m"));
    assert_eq!(planned.query.schema().fields().len(), 7);

    let planned =
        train("TRAIN MODEL m USING linear_regression PREDICT \"Group\" WEIGHT BY w * 2 + id FROM t").await.unwrap();
    assert_eq!(planned.weight.as_deref(), Some(WEIGHT_INPUT));
    assert_eq!(planned.query.schema().fields().last().map(|f| f.name().as_str()), Some(WEIGHT_INPUT));
    assert_eq!(planned.split, SplitSpec::Auto);

    let planned = train("TRAIN MODEL m USING linear_regression WEIGHT BY t.w AS SELECT id AS label, w FROM t").await;
    assert!(planned.is_err_and(|e| e.to_string().contains("no column left to learn from")));
    let planned = train("TRAIN MODEL m USING linear_regression AS SELECT id AS label, x FROM t").await.unwrap();
    assert_eq!(planned.labels, ["label"]);
    let planned = train("TRAIN MODEL m USING kmeans AS SELECT x, PREDICT(price, *) AS p FROM t").await.unwrap();
    assert!(planned.labels.is_empty());
}

#[tokio::test]
async fn errors_of_trainings() {
    for (sql, text) in [
        ("TRAIN MODEL m FROM t", "SINEW-1007: TRAIN MODEL m does not say which family; add USING <family>"),
        (
            "TRAIN MODEL m USING logistic_regresion PREDICT churned FROM t",
            "SINEW-2001: unknown model family 'logistic_regresion'; did you mean 'logistic_regression'?",
        ),
        ("TRAIN MODEL m USING kmeans OPTIONS(kk=3) FROM t", "SINEW-2002: kmeans has no option 'kk'"),
        ("TRAIN MODEL m USING kmeans OPTIONS(k=-3) FROM t", "SINEW-2003: option k = -3 is not allowed"),
        ("TRAIN MODEL m USING kmeans PREDICT churned FROM t", "kmeans takes no label; leave out PREDICT churned"),
        (
            "TRAIN MODEL m USING linear_regression FROM t",
            "linear_regression needs a label: add PREDICT <column>; no column is named 'label'",
        ),
        (
            "TRAIN MODEL m USING linear_regression PREDICT chured FROM t",
            "SINEW-2005: the training query has no column 'chured'; did you mean 'churned'?",
        ),
        (
            "TRAIN MODEL m USING linear_regression PREDICT group FROM t",
            "a name keeps its case in double quotes: \"Group\"",
        ),
        ("TRAIN MODEL m USING linear_regression PREDICT id, x FROM t", "learns one label, and PREDICT names id, x"),
        ("TRAIN MODEL m USING linear_regression PREDICT x WEIGHT BY ww FROM t", "no column 'ww'; did you mean 'w'?"),
        (
            "TRAIN MODEL m USING linear_regression PREDICT x WEIGHT BY plan FROM t",
            "SINEW-2006: column 'plan' has type Utf8: WEIGHT BY needs a number",
        ),
        (
            "TRAIN MODEL m USING linear_regression PREDICT x WEIGHT BY x FROM t",
            "column 'x' is named by PREDICT and by WEIGHT BY",
        ),
        ("TRAIN MODEL m USING linear_regression PREDICT x SPLIT BY w FROM t", "SPLIT BY needs a boolean column"),
        (
            "TRAIN MODEL m USING linear_regression PREDICT x SPLIT BY held AS SELECT x, held FROM t",
            "no column left to learn from",
        ),
        ("TRAIN MODEL m USING linear_regression PREDICT x AS SELECT x, id, x + 1 AS id FROM t", "id"),
        ("TRAIN MODEL m USING linear_regression PREDICT x FROM missing", "missing"),
        ("TRAIN MODEL m USING kmeans AS SELECT PREDICT(nope, *) AS p, x FROM t", "there is no model 'nope'"),
    ] {
        let found = match train(sql).await {
            Err(e) => e.to_string(),
            Ok(planned) => panic!("{sql}\n{planned:?}"),
        };
        assert!(found.contains(text), "{sql}\n{found}\n{text}");
    }
}
