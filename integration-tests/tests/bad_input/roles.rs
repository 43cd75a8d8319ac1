//! Columns: their types, their names, and what they are named for.

use sinew_integration_tests::Engine;

use super::{assert_close, linear, refused, train};

#[tokio::test]
async fn types_no_model_can_use() {
    let engine = Engine::new(2);
    let except = |kind: &'static str| ["SINEW-2006: ", "'x'", kind, "EXCEPT (x)"];
    let number = ["SINEW-2006: ", "'y'", "predicts a number", "logistic_regression"];
    refused(
        &engine,
        &[
            (&linear("x, y", "(DATE '2020-01-01', 1.0)"), &except("Date32")),
            (&linear("x, y", "(TIMESTAMP '2020-01-01T00:00:00', 1.0)"), &except("Timestamp")),
            (&linear("x, y", "([1.0], 1.0)"), &except("List")),
            (&linear("x, y", "(1.0, 'a'), (2.0, 'b')"), &number),
            (&linear("x, y", "(1.0, DATE '2020-01-01')"), &number),
            (
                &train("linear_regression", "WEIGHT BY w", "x, w, y", "(1.0, 'a', 2.0)"),
                &["SINEW-2006: ", "'w'", "not negative"],
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn names_of_every_kind() {
    let engine = Engine::new(2);
    engine
        .run(
            r#"TRAIN MODEL m USING linear_regression PREDICT "The Label" AS
           SELECT x AS "select", x * x AS "a b""c", -x AS "Größe 數", 2 * x AS "UPPER", 3 * x + 1 AS "The Label"
           FROM (VALUES (1.0), (2.0), (3.5)) t(x)"#,
        )
        .await;
    let inputs = engine.run("SELECT processed_input FROM ML.WEIGHTS(MODEL m)").await;
    assert_eq!(inputs.iter().map(|b| b.num_rows()).sum::<usize>(), 5);
    let found = engine.column(
        r#"SELECT PREDICT(m, *) AS p FROM (SELECT 2.0 AS "select", 4.0 AS "a b""c", -2.0 AS "Größe 數", 4.0 AS "UPPER")"#,
        "p",
    ).await;
    assert_close(&found, &[7.0]);
}

#[tokio::test]
async fn columns_that_are_not_there() {
    let engine = Engine::new(2);
    engine.run("CREATE TABLE customers AS SELECT 1.0 AS age, 2.0 AS spent, 1.0 AS weight, true AS held").await;
    let with = |clauses: &str| format!("TRAIN MODEL m USING linear_regression {clauses} FROM customers");
    let missing = |near: &'static str| ["SINEW-2005: ", near, "it has age, spent, weight, held"];
    refused(&engine, &[
        (&with("PREDICT spend"), &missing("did you mean 'spent'")),
        (&with("PREDICT spent WEIGHT BY wieght"), &missing("did you mean 'weight'")),
        (&with("PREDICT spent SPLIT BY hold"), &missing("did you mean 'held'")),
        (&with("PREDICT spent SPLIT BY age"), &["SINEW-2006: ", "'age'", "Float64", "boolean"]),
        (&with("PREDICT spent WEIGHT BY spent"), &["SINEW-1007: ", "'spent'", "one role"]),
        (&with("PREDICT age, spent"), &["SINEW-1007: ", "one label", "age, spent"]),
        (&with(""), &["SINEW-1007: ", "PREDICT <column>", "age, spent"]),
        ("TRAIN MODEL m USING linear_regression PREDICT spent AS SELECT spent FROM customers", &["SINEW-2007: ", "select the features"]),
        ("TRAIN MODEL m USING linear_regression PREDICT spent AS SELECT a.age, b.age, a.spent FROM customers a, customers b", &["SINEW-1007: ", "two columns named 'age'", "rename one"]),
        ("TRAIN MODEL m USING linear_regression PREDICT spent AS SELECT agee, spent FROM customers", &["SINEW-3002: ", "agee", "age"]),
        ("TRAIN MODEL m USING linear_regression PREDICT spent FROM custmers", &["SINEW-3002: ", "custmers", "SHOW TABLES"]),
        ("TRAIN MODEL m USING linear_regression PREDICT spent FROM 'custmers.csv'", &["SINEW-3008: ", "custmers.csv", "check the path"]),
        ("TRAIN MODEL m USING linear_regresion PREDICT spent FROM customers", &["SINEW-2001: ", "did you mean 'linear_regression'", "SHOW MODEL FAMILIES"]),
        ("TRAIN MODEL m PREDICT spent FROM customers", &["SINEW-1007: ", "USING <family>"]),
        ("TRAIN MODEL m USING kmeans PREDICT spent FROM customers", &["SINEW-1007: ", "no label"]),
    ]).await;
}

#[tokio::test]
async fn splits_that_leave_nothing() {
    let engine = Engine::new(2);
    let with = |split: &str| {
        format!(
            "TRAIN MODEL m USING linear_regression PREDICT y SPLIT {split} AS SELECT * FROM (VALUES (1.0, 2.0, true), (2.0, 3.0, true)) t(x, y, h)"
        )
    };
    let fraction = |value: &'static str| ["SINEW-1006: ", value, "above 0 and below 1"];
    let none = ["SINEW-2007: ", "none of the 2 rows can train (2 held out", "hold fewer"];
    refused(
        &engine,
        &[
            (&with("RANDOM 0"), &fraction("= 0 ")),
            (&with("RANDOM 1"), &fraction("= 1 ")),
            (&with("RANDOM 1.5"), &fraction("= 1.5 ")),
            (&with("RANDOM -0.1"), &fraction("= -0.1 ")),
            (&with("RANDOM x"), &["SINEW-1001: ", "'x'", "fraction"]),
            (&with("RANDOM 0.9999999"), &none),
            (&with("BY h"), &none),
        ],
    )
    .await;
    // NULL in the split column means: not held out
    engine.run("TRAIN MODEL m USING linear_regression PREDICT y SPLIT BY h AS SELECT * FROM (VALUES (1.0, 2.0, NULL::boolean), (2.0, 3.0, NULL)) t(x, y, h)").await;
    assert_eq!(engine.column("SHOW MODELS", "rows").await, [2.0]);
}
