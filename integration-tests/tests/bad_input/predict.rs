//! Data a model does not fit, and models that are not there.

use sinew_integration_tests::Engine;

use super::{assert_close, predicted, refused};

/// `line`, `binary` and `strict` over (age, plan), `three` and `clusters` over (age).
async fn models() -> Engine {
    let engine = Engine::new(2);
    engine.run(
        "TRAIN MODEL line USING linear_regression PREDICT y SPLIT NONE AS
           SELECT * FROM (VALUES (1.0, 'a', 2.0), (2.0, 'b', 3.0), (3.0, 'a', 4.0)) t(age, plan, y);
         TRAIN MODEL strict USING linear_regression PREDICT y SPLIT NONE OPTIONS(on_missing = 'error') AS
           SELECT * FROM (VALUES (1.0, 'a', 2.0), (2.0, 'b', 3.0), (3.0, 'a', 4.0)) t(age, plan, y);
         TRAIN MODEL binary USING logistic_regression PREDICT y SPLIT NONE OPTIONS(reg_param = 0.1) AS
           SELECT * FROM (VALUES (1.0, 'a', 'no'), (2.0, 'b', 'yes'), (3.0, 'a', 'yes'), (0.5, 'b', 'no')) t(age, plan, y);
         TRAIN MODEL three USING logistic_regression PREDICT y SPLIT NONE OPTIONS(reg_param = 0.1) AS
           SELECT * FROM (VALUES (1.0, 'a'), (2.0, 'b'), (3.0, 'c')) t(age, y);
         TRAIN MODEL clusters USING kmeans OPTIONS(k = 2) AS SELECT * FROM (VALUES (1.0), (1.0), (2.0)) t(age)",
    ).await;
    engine
}

#[tokio::test]
async fn data_that_does_not_fit() {
    let engine = models().await;
    let of = |model: &str, columns: &str, row: &str| {
        format!("SELECT PREDICT({model}, *) FROM (VALUES ({row})) t({columns})")
    };
    let rows =
        |function: &str, model: &str, input: &str| format!("SELECT * FROM ML.{function}(MODEL {model}, ({input}))");
    let missing = ["SINEW-1011: ", "'line'", "'age'", "did you mean 'agee'"];
    let kind = |column: &'static str, found: &'static str, trained: &'static str| {
        ["SINEW-1012: ", column, found, trained, "CAST"]
    };
    refused(
        &engine,
        &[
            (&of("line", "agee, plan", "1.0, 'a'"), &missing),
            (&rows("PREDICT", "line", "SELECT 1.0 AS agee, 'a' AS plan"), &missing),
            (
                &rows("EVALUATE", "line", "SELECT 1.0 AS age, 'a' AS plan, 2.0 AS yy"),
                &["SINEW-1011: ", "'y'", "did you mean 'yy'"],
            ),
            (&of("line", "age, plan", "'x', 'a'"), &kind("'age'", "Utf8", "Float64")),
            (&of("line", "age, plan", "1.0, 5"), &kind("'plan'", "Int64", "Utf8")),
            (
                &of("line", "age, plan", "DATE '2020-01-01', 'a'"),
                &["SINEW-2010: ", "'age'", "Date32", "Float64", "CAST"],
            ),
            (&of("line", "age, plan", "'Infinity'::double, 'a'"), &["SINEW-2008: ", "'age'", "Infinity", "NULL"]),
            (
                &of("strict", "age, plan", "NULL::double, 'a'"),
                &["SINEW-2008: ", "'age'", "1 missing", "on_missing = 'error'"],
            ),
            (
                &rows(
                    "PREDICT",
                    "line",
                    "SELECT a.age, b.age, 'a' AS plan FROM (VALUES (1.0)) a(age), (VALUES (2.0)) b(age)",
                ),
                &["SINEW-1007: ", "'age'", "select the one"],
            ),
            ("SELECT PREDICT(line, 1.0, 'a')", &["SINEW-1013: ", "matched by name"]),
            ("SELECT PREDICT(line)", &["SINEW-1013: ", "*"]),
            ("SELECT * FROM ML.PREDICT(MODEL line)", &["SINEW-1013: ", "TABLE t"]),
            ("SELECT * FROM ML.PREDICT(MODEL line, TABLE nowhere)", &["SINEW-3002: ", "nowhere", "SHOW TABLES"]),
            (
                &rows("EVALUATE", "line", "SELECT 1.0 AS age, 'a' AS plan, 'x' AS y"),
                &["SINEW-2010: ", "'y'", "Utf8", "Float64"],
            ),
            (
                &rows("EVALUATE", "binary", "SELECT 1.0 AS age, 'a' AS plan, 3 AS y"),
                &["SINEW-2010: ", "'y'", "Int64", "Utf8"],
            ),
            (
                &rows("EVALUATE", "line", "SELECT 1.0 AS age, 'a' AS plan, 'Infinity'::double AS y"),
                &["SINEW-2008: ", "'y'", "Infinity"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn data_that_fits_after_all() {
    let engine = models().await;
    assert_close(&predicted(&engine, "line", "age, plan, more", "(1.0, 'a', DATE '2020-01-01')").await, &[2.0]);
    assert_close(&predicted(&engine, "line", "plan, age", "('a', 1::tinyint), ('b', 2)").await, &[2.0, 3.0]);
    // a missing number is the mean, a missing or unseen category is none of the known
    assert_close(&predicted(&engine, "line", "age, plan", "(NULL, 'a'), ('NaN'::double, 'a')").await, &[3.0, 3.0]);
    assert_close(
        &predicted(&engine, "line", "age, plan", "(1.0, NULL), (1.0, 'zzz'), (1.0, '')").await,
        &[2.0, 2.0, 2.0],
    );
    assert_close(&predicted(&engine, "line", "age, plan", "(NULL, NULL), (NULL, NULL)").await, &[3.0, 3.0]);
    for empty in [
        "SELECT PREDICT(line, *) FROM (SELECT 1.0 AS age, 'a' AS plan WHERE false)",
        "SELECT * FROM ML.PREDICT(MODEL binary, (SELECT 1.0 AS age, 'a' AS plan WHERE false))",
        "SELECT * FROM ML.PREDICT(MODEL clusters, (SELECT 1.0 AS age WHERE false))",
    ] {
        assert_eq!(engine.run(empty).await.iter().map(|b| b.num_rows()).sum::<usize>(), 0, "{empty}");
    }
    let evaluate =
        |model: &str, rows: &str| format!("SELECT * FROM ML.EVALUATE(MODEL {model}, (SELECT * FROM {rows}))");
    let none = engine.numbers(&evaluate("line", "(SELECT 1.0 AS age, 'a' AS plan, 2.0 AS y WHERE false)")).await;
    assert!(none.len() == 6 && none.iter().all(|v| v.is_nan()), "{none:?}");
    let unknown =
        engine.numbers(&evaluate("binary", "(VALUES (1.0, 'a', 'maybe'), (1.0, 'a', NULL)) t(age, plan, y)")).await;
    assert!(unknown.iter().all(|v| v.is_nan()), "{unknown:?}");
    // rows without a label, or with a class the model does not know, are left out
    let some = engine.numbers(&evaluate("line", "(VALUES (1.0, 'a', NULL), (2.0, 'b', 4.0)) t(age, plan, y)")).await;
    assert_close(&some[..2], &[1.0, 1.0]);
    let some =
        engine.numbers(&evaluate("binary", "(VALUES (3.0, 'a', 'maybe'), (3.0, 'a', 'yes')) t(age, plan, y)")).await;
    assert_close(&some[2..3], &[1.0]);
}

#[tokio::test]
async fn settings_and_models_that_are_not_there() {
    let engine = models().await;
    let threshold = |model: &str, value: &str| {
        format!("SELECT * FROM ML.PREDICT(MODEL {model}, (SELECT 1.0 AS age, 'a' AS plan), STRUCT({value}))")
    };
    let range = |value: &'static str| ["SINEW-1013: ", "threshold", value, "from 0 to 1"];
    let needs_two = ["SINEW-2004: ", "threshold", "two classes", "leave it out"];
    let rows = |function: &str, model: &str| {
        format!("SELECT * FROM ML.{function}(MODEL {model}, (SELECT 1.0 AS age, 'a' AS plan))")
    };
    refused(
        &engine,
        &[
            (&threshold("binary", "1.5 AS threshold"), &range("1.5")),
            (&threshold("binary", "-0.1 AS threshold"), &range("-0.1")),
            (&threshold("binary", "'x' AS threshold"), &range("'x'")),
            (&threshold("binary", "0.5 AS treshold"), &["SINEW-1013: ", "treshold", "AS threshold"]),
            (&threshold("line", "0.5 AS threshold"), &needs_two),
            (&threshold("three", "0.5 AS threshold"), &needs_two),
            (&rows("PREDICT", "binry"), &["SINEW-3102: ", "'binry'", "did you mean 'binary'", "SHOW MODELS"]),
            (&rows("EVALUATE", "nothing"), &["SINEW-3102: ", "'nothing'", "SHOW MODELS"]),
            (&rows("PREDICT", "binary@7"), &["SINEW-3103: ", "'7'", "it has 1"]),
            (&rows("PREDICT", "binary@prod"), &["SINEW-3103: ", "'prod'", "it has 1"]),
            (&rows("PREDCT", "binary"), &["SINEW-1008: ", "did you mean 'ML.PREDICT'"]),
            ("SELECT PREDICT(lin, *) FROM (VALUES (1.0, 'a')) t(age, plan)", &["SINEW-3102: ", "did you mean 'line'"]),
            (
                "SELECT PREDICT_PROBA(line, *) FROM (VALUES (1.0, 'a')) t(age, plan)",
                &["SINEW-2010: ", "linear_regression", "use PREDICT"],
            ),
            (
                "SELECT PREDICT_PROBA(clusters, *) FROM (VALUES (1.0)) t(age)",
                &["SINEW-2010: ", "kmeans", "use PREDICT"],
            ),
            (
                "SELECT PREDICT_PROBA(binary, 'maybe', *) FROM (VALUES (1.0, 'a')) t(age, plan)",
                &["SINEW-2010: ", "'maybe'", "'no', 'yes'"],
            ),
            (
                "SELECT PREDICT_PROBA(three, *) FROM (VALUES (1.0)) t(age)",
                &["SINEW-2010: ", "3 classes", "'a', 'b', 'c'"],
            ),
            ("DROP MODEL binary VERSION 9", &["SINEW-3103: ", "'9'", "it has 1"]),
            ("DESCRIBE MODEL binry", &["SINEW-3102: ", "did you mean 'binary'"]),
            (
                "CREATE MODEL line OPTIONS(model_type = 'KMEANS') AS SELECT 1.0 AS x",
                &["SINEW-3104: ", "'line'", "OR REPLACE"],
            ),
        ],
    )
    .await;
}
