//! Published numbers, reached through SQL. `data/conformance/cases.json` names the source of each.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use serde_json::Value;
use sinew_integration_tests::{Engine, file};

/// `[class][intercept, coefficient, ..]` of a model.
async fn coefficients(engine: &Engine, model: &str) -> Vec<Vec<f64>> {
    let sql = |what: &str| {
        format!(
            "SELECT weight FROM ML.WEIGHTS(MODEL {model}) WHERE processed_input {what} ORDER BY class_label, processed_input"
        )
    };
    let intercepts = engine.column(&sql("= '__INTERCEPT__'"), "weight").await;
    let weights = engine.column(&sql("<> '__INTERCEPT__'"), "weight").await;
    let width = weights.len() / intercepts.len();
    let rows = intercepts.iter().zip(weights.chunks(width));
    rows.map(|(b, w)| std::iter::once(*b).chain(w.iter().copied()).collect()).collect()
}

fn rows_of(value: &Value) -> Vec<Vec<f64>> {
    let row = |v: &Value| v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>();
    match value {
        Value::Array(items) if items[0].is_array() => items.iter().map(row).collect(),
        Value::Array(_) => vec![row(value)],
        Value::Object(o) if o.contains_key("coef") && o["coef"].as_array().unwrap().len() == 3 => vec![row(&o["coef"])],
        Value::Object(o) => {
            vec![std::iter::once(o["intercept"].as_f64().unwrap()).chain(row(&o["coef"])).collect()]
        }
        other => panic!("{other}"),
    }
}

fn train(case: &Value) -> String {
    let params = &case["params"];
    let data = case["data"].as_str().unwrap().trim_end_matches("+weight").to_lowercase();
    let weighted = params["weighted"].as_bool().unwrap_or(false);
    let logistic = params["model"] != "linear";
    let mut options = vec!["tol=1e-11".to_string(), "max_iter=1000".to_string()];
    for (theirs, ours) in [
        ("regParam", "regParam"),
        ("elasticNetParam", "elasticNetParam"),
        ("standardization", "standardization"),
        ("fitIntercept", "fitIntercept"),
    ] {
        if !params[theirs].is_null() {
            options.push(format!("{ours}={}", params[theirs]));
        }
    }
    if params["model"] == "logistic" && !params["family"].is_null() {
        options.push(format!("family='{}'", params["family"].as_str().unwrap()));
    }
    let path = file(&format!("integration-tests/data/conformance/data/{data}.csv"));
    let has_weights = fs::read_to_string(&path).unwrap().lines().next().unwrap().ends_with(",w");
    let columns = if has_weights && !weighted { "* EXCEPT (w)" } else { "*" };
    format!(
        "TRAIN MODEL m USING {} PREDICT y {} SPLIT NONE OPTIONS({}) AS SELECT {columns} FROM '{path}'",
        if logistic { "logistic_regression" } else { "linear_regression" },
        if weighted { "WEIGHT BY w" } else { "" },
        options.join(", "),
    )
}

/// The cases of squared error and logistic loss; the others belong to families that are still to come.
fn applies(case: &Value) -> bool {
    let params = &case["params"];
    let linear = params["model"] == "linear" && params["loss"].is_null();
    let logit = params["model"] == "glm" && params["family"] == "binomial" && params["link"] == "logit";
    linear || params["model"] == "logistic" || logit
}

#[tokio::test(flavor = "multi_thread")]
async fn published_linear_and_logistic_models() {
    let cases = fs::read_to_string(file("integration-tests/data/conformance/cases.json")).unwrap();
    let cases: Value = serde_json::from_str(&cases).unwrap();
    let mut checked = 0;
    for case in cases["cases"].as_array().unwrap().iter().filter(|c| applies(c)) {
        let id = case["id"].as_str().unwrap();
        let engine = Engine::new(2);
        engine.run(&train(case)).await;
        let found = coefficients(&engine, "m").await;
        let tolerance = if id.starts_with("softmax") { 1e-5 } else { 1e-6 };
        let expected = rows_of(&case["exact_optimum"]);
        assert_eq!(found.len(), expected.len(), "{id}");
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            let off = (found - expected).abs() / expected.abs().max(1.0);
            assert!(off <= tolerance, "{id}: {found} instead of {expected}");
        }
        println!("{id}: {} values within {tolerance:e}", expected.iter().map(Vec::len).sum::<usize>());
        checked += 1;
    }
    assert_eq!(checked, 44, "cases of squared error and logistic loss");
}

fn close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {found} instead of {expected}");
}

#[tokio::test]
async fn diabetes_by_least_squares() {
    let engine = Engine::new(2);
    let data = file("examples/data/diabetes.csv");
    engine.run(&format!("TRAIN MODEL m USING linear_regression PREDICT progression SPLIT NONE FROM '{data}'")).await;
    let names = ["__INTERCEPT__", "age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"];
    let values = [
        -334.5671385,
        -0.0363612,
        -22.8596481,
        5.6029621,
        1.1168080,
        -1.0899963,
        0.7464505,
        0.3720047,
        6.5338318,
        68.4831250,
        0.2801170,
    ];
    for (name, value) in names.iter().zip(values) {
        let sql = format!("SELECT weight FROM ML.WEIGHTS(MODEL m) WHERE processed_input = '{name}'");
        close(name, engine.numbers(&sql).await[0], value);
    }
    let sql = "SELECT r2_score, mean_squared_error FROM ML.EVALUATE(MODEL m, TABLE d)";
    engine.run(&format!("CREATE EXTERNAL TABLE d STORED AS CSV LOCATION '{data}'")).await;
    let metrics = engine.numbers(sql).await;
    close("R2", metrics[0], 0.5177484222);
    close("MSE", metrics[1], 2859.69634759);
}

#[tokio::test]
async fn breast_cancer_by_logistic_regression() {
    let engine = Engine::new(2);
    let data = file("examples/data/breast_cancer.csv");
    let header = fs::read_to_string(&data).unwrap().lines().next().unwrap().to_string();
    let scaled: Vec<_> = header
        .split(',')
        .filter(|c| *c != "diagnosis")
        .map(|c| format!("({c} - avg({c}) OVER ()) / stddev_pop({c}) OVER () AS {c}"))
        .collect();
    engine.run(&format!("CREATE VIEW scaled AS SELECT {}, diagnosis FROM '{data}'", scaled.join(", "))).await;
    let options = "reg_param=0.0017574692442882249, standardization=false, tol=1e-10";
    engine
        .run(&format!(
            "TRAIN MODEL m USING logistic_regression PREDICT diagnosis SPLIT NONE OPTIONS({options}) FROM scaled"
        ))
        .await;
    let metrics = engine.numbers("SELECT accuracy, log_loss, roc_auc FROM ML.EVALUATE(MODEL m, TABLE scaled)").await;
    close("accuracy", metrics[0], 0.9876977);
    close("log loss", metrics[1], 0.0533918578);
    close("AUC", metrics[2], 0.9974499234);
}

#[tokio::test]
async fn iris_by_softmax_and_by_k_means() {
    let engine = Engine::new(2);
    let data = file("examples/data/iris.csv");
    engine.run(&format!("CREATE EXTERNAL TABLE iris STORED AS CSV LOCATION '{data}'")).await;
    let options = "reg_param=0.006666666666666667, standardization=false, tol=1e-10";
    engine
        .run(&format!(
            "TRAIN MODEL m USING logistic_regression PREDICT species SPLIT NONE OPTIONS({options}) FROM iris"
        ))
        .await;
    let metrics = engine.numbers("SELECT accuracy, log_loss FROM ML.EVALUATE(MODEL m, TABLE iris)").await;
    close("accuracy", metrics[0], 0.9733333);
    close("log loss", metrics[1], 0.1196366955);

    let mut best = f64::INFINITY;
    for seed in 0..50 {
        let train = format!(
            "TRAIN MODEL c USING kmeans SPLIT NONE OPTIONS(k=3, seed={seed}, max_iter=300, tol=1e-9) AS SELECT * EXCEPT (species) FROM iris"
        );
        let losses = engine.column(&train, "loss").await;
        best = best.min(*losses.last().unwrap() * 150.0);
    }
    close("inertia, best of 50", best, 78.8514414261);
}

#[tokio::test]
async fn digits_by_softmax() {
    let engine = Engine::new(2);
    let data = file("examples/data/digits.csv");
    let header = fs::read_to_string(&data).unwrap().lines().next().unwrap().to_string();
    let scaled: Vec<_> = header.split(',').filter(|c| *c != "digit").map(|c| format!("{c} / 16.0 AS {c}")).collect();
    let select = format!("SELECT {}, digit FROM '{data}'", scaled.join(", "));
    let options = "reg_param=0.0011135857461024498, standardization=false, tol=1e-9";
    engine
        .run(&format!(
            "TRAIN MODEL m USING logistic_regression PREDICT digit SPLIT NONE OPTIONS({options}) AS {select} LIMIT 898"
        ))
        .await;
    let sql = format!("SELECT accuracy, log_loss FROM ML.EVALUATE(MODEL m, ({select} OFFSET 898))");
    let metrics = engine.numbers(&sql).await;
    close("test accuracy", metrics[0], 0.9343715);
    close("test log loss", metrics[1], 0.2770325644);
}
