//! Rows that cannot train, or only just.

use sinew_integration_tests::Engine;

use super::{assert_close, linear, logistic, predicted, refused, train};

#[tokio::test]
async fn too_few_rows() {
    let engine = Engine::new(2);
    let none = |family: &str, label: &str| {
        format!("TRAIN MODEL m USING {family} {label} AS SELECT * FROM (VALUES (1.0, 2.0)) t(x, y) WHERE x > 5")
    };
    for (family, label) in [("linear_regression", "PREDICT y"), ("logistic_regression", "PREDICT y"), ("kmeans", "")] {
        refused(&engine, &[(&none(family, label), &["SINEW-2007: ", "no rows", "WHERE"])]).await;
    }
    let one_class = ["SINEW-2007: ", "at least two classes", "have 1"];
    refused(
        &engine,
        &[
            (&logistic("x, y", "(1.0, 'a')"), &one_class),
            (&logistic("x, y", "(1.0, 'a'), (2.0, 'a'), (3.0, NULL)"), &one_class),
            (&linear("x, y", "(1.0, NULL::double), (2.0, NULL)"), &["SINEW-2007: ", "'y'", "all 2 rows"]),
            (&logistic("x, y", "(1.0, NULL), (2.0, NULL)"), &["SINEW-2007: ", "'y'", "all 2 rows"]),
        ],
    )
    .await;
    assert_eq!(engine.run("SHOW MODELS").await.iter().map(|b| b.num_rows()).sum::<usize>(), 0);

    // One row fixes the intercept alone; fewer rows than features are fitted exactly.
    engine.run(&linear("x, y", "(1.0, 2.0)")).await;
    assert_close(&predicted(&engine, "m", "x", "(1.0), (9.0)").await, &[2.0, 2.0]);
    engine.run(&linear("a, b, c, y", "(1.0, 2.0, 3.0, 5.0), (2.0, 1.0, 7.0, 9.0)")).await;
    assert_close(&predicted(&engine, "m", "a, b, c", "(1.0, 2.0, 3.0), (2.0, 1.0, 7.0)").await, &[5.0, 9.0]);
    for clauses in ["", "OPTIONS(reg_param = 0.1)", "OPTIONS(reg_param = 0.1, elastic_net_param = 1.0)"] {
        engine
            .run(&train("logistic_regression", clauses, "a, b, c, y", "(1.0, 2.0, 3.0, 0), (2.0, 1.0, 7.0, 1)"))
            .await;
        assert_close(&predicted(&engine, "m", "a, b, c", "(1.0, 2.0, 3.0), (2.0, 1.0, 7.0)").await, &[0.0, 1.0]);
    }
}

#[tokio::test]
async fn columns_that_say_nothing_new() {
    let engine = Engine::new(2);
    // constant, duplicate and twice another: predictions are exact and the constant has no weight
    let rows =
        "(7.0, 1.0, 1.0, 2.0, 3.0), (7.0, 2.0, 2.0, 4.0, 5.0), (7.0, 3.5, 3.5, 7.0, 8.0), (7.0, 4.0, 4.0, 8.0, 9.0)";
    for solver in ["auto", "normal", "newton", "lbfgs"] {
        let sql =
            train("linear_regression", &format!("OPTIONS(solver = '{solver}', tol = 1e-12)"), "k, a, b, c, y", rows);
        engine.run(&sql).await;
        let found = predicted(&engine, "m", "k, a, b, c", "(7.0, 1.0, 1.0, 2.0), (7.0, 10.0, 10.0, 20.0)").await;
        assert_close(&found, &[3.0, 21.0]);
        let weight = "SELECT weight FROM ML.WEIGHTS(MODEL m) WHERE processed_input = 'k'";
        assert_eq!(engine.numbers(weight).await, [0.0], "{solver}");
    }
    engine.run(&linear("x, y", "(2.0, 2.0), (3.0, 3.0), (4.5, 4.5)")).await;
    assert_close(&predicted(&engine, "m", "x", "(100.0)").await, &[100.0]);
}

#[tokio::test]
async fn values_that_are_no_numbers() {
    let engine = Engine::new(2);
    let (plus, minus) = ("'Infinity'::double", "'-Infinity'::double");
    let with = |x: &str, y: &str| linear("x, y", &format!("({x}, {y}), (2.0, 3.0), (3.0, 4.0)"));
    let weighted =
        |w: &str| train("linear_regression", "WEIGHT BY w", "x, y, w", &format!("(1.0, 2.0, {w}), (2.0, 3.0, 1.0)"));
    let weight = |shown: &'static str| ["SINEW-2008: ", "'w'", shown, "finite number, 0 or above"];
    refused(
        &engine,
        &[
            (&with(plus, "1.0"), &["SINEW-2008: ", "'x'", "Infinity", "NULL"]),
            (&with(minus, "1.0"), &["SINEW-2008: ", "'x'", "-Infinity"]),
            (&with("1.0", plus), &["SINEW-2008: ", "'y'", "Infinity", "filter"]),
            (&with("1.0", minus), &["SINEW-2008: ", "'y'", "-Infinity"]),
            (&logistic("x, y", &format!("(1.0, {plus}), (2.0, 1.5)")), &["SINEW-2008: ", "'y'", "Infinity"]),
            (&weighted("-1.0"), &weight("-1")),
            (&weighted("NULL"), &weight("1 missing")),
            (&weighted("'NaN'::double"), &weight("1 missing")),
            (&weighted(plus), &weight("Infinity")),
            (
                &train("linear_regression", "WEIGHT BY w", "x, y, w", "(1.0, 2.0, 0.0)"),
                &["SINEW-2007: ", "weights", "are 0"],
            ),
            (
                &train("linear_regression", "WEIGHT BY w", "x, y, w", "(1.0, 2.0, 'a')"),
                &["SINEW-2006: ", "'w'", "Utf8"],
            ),
        ],
    )
    .await;
    // NULL and NaN: rows without a label are left out, features take the mean of the others
    for missing in ["NULL", "'NaN'::double"] {
        engine.run(&with("1.0", missing)).await;
        assert_close(&predicted(&engine, "m", "x", "(5.0)").await, &[6.0]);
        engine.run(&with(missing, "1.0")).await;
        assert_close(&predicted(&engine, "m", "x", "(2.5), (NULL)").await, &[8.0 / 3.0, 8.0 / 3.0]);
        let skip = train(
            "linear_regression",
            "OPTIONS(on_missing = 'skip')",
            "x, y",
            &format!("({missing}, 1.0), (2.0, 3.0), (3.0, 4.0)"),
        );
        engine.run(&skip).await;
        assert_close(&predicted(&engine, "m", "x", &format!("(5.0), ({missing})")).await, &[6.0, f64::NAN]);
        let strict = skip.replace("skip", "error");
        refused(&engine, &[(&strict, &["SINEW-2008: ", "'x'", "1 missing", "'impute'"])]).await;
    }
    let all = "(NULL::double, 2.0), (NULL, 3.0)";
    let skip = train("linear_regression", "OPTIONS(on_missing = 'skip')", "x, y", all);
    refused(&engine, &[(&skip, &["SINEW-2007: ", "none of the 2 rows", "fill in"])]).await;
    engine.run(&linear("x, y", all)).await;
    assert_close(&predicted(&engine, "m", "x", "(1.0), (NULL)").await, &[2.5, 2.5]);
}

#[tokio::test]
async fn categories_empty_missing_and_unseen() {
    let engine = Engine::new(2);
    engine.run(&linear("c, y", "('a', 1.0), (NULL, 3.0), ('', 4.0), ('b', 5.0)")).await;
    assert_close(&predicted(&engine, "m", "c", "('a'), (NULL), (''), ('b')").await, &[1.0, 3.0, 4.0, 5.0]);
    let unseen = predicted(&engine, "m", "c", "('zzz')").await[0];
    assert!((1.0..=5.0).contains(&unseen), "{unseen}");
    // a category that only held-out rows have gets no weight
    engine
        .run(
            "TRAIN MODEL m USING linear_regression PREDICT y SPLIT BY h AS SELECT * FROM \
         (VALUES ('a', 1.0, false), ('b', 2.0, false), ('c', 9.0, true)) t(c, y, h)",
        )
        .await;
    assert_close(&predicted(&engine, "m", "c", "('a'), ('b')").await, &[1.0, 2.0]);
    assert!(predicted(&engine, "m", "c", "('c')").await[0].is_finite());
}

#[tokio::test]
async fn very_large_and_very_small_numbers() {
    let engine = Engine::new(2);
    let weighted = |w: &str| {
        train(
            "linear_regression",
            "WEIGHT BY w",
            "x, y, w",
            &format!("(1.0, 2.0, {w}), (2.0, 3.0, {w}), (3.0, 4.0, {w})"),
        )
    };
    refused(
        &engine,
        &[
            (&linear("x, y", "(1e300, 1.0), (2.0, 3.0)"), &["SINEW-2008: ", "'x'", "1e300", "scale the column down"]),
            (&linear("x, y", "(1.0, -1e300), (2.0, 3.0)"), &["SINEW-2008: ", "'y'", "1e300", "scale the column down"]),
            (
                &linear("x, y", "(1e-300, 1.0), (2e-300, 3.0)"),
                &["SINEW-2008: ", "'x'", "2e-300", "scale the column up"],
            ),
            (
                &linear("x, y", "(1.0, 1e-300), (2.0, 2e-300)"),
                &["SINEW-2008: ", "'y'", "2e-300", "scale the column up"],
            ),
            (&weighted("1e300"), &["SINEW-2008: ", "'w'", "1e300", "one factor"]),
            (&weighted("1e-300"), &["SINEW-2008: ", "'w'", "1e-300", "one factor"]),
        ],
    )
    .await;
    for (rows, at, expected) in [
        ("(1e120, 1.0), (2e120, 3.0), (3e120, 5.0)", "(4e120)", 7.0),
        ("(1e-120, 1.0), (2e-120, 3.0), (3e-120, 5.0)", "(4e-120)", 7.0),
        ("(1e-300, 1.0), (0.5, 2.0), (1.0, 3.0)", "(2.0)", 5.0),
        ("(9223372036854775807, 1.0), (-9223372036854775808, 2.0), (0, 1.5)", "(0)", 1.5),
        ("(1.10::decimal(10, 2), 2.20::decimal(38, 10)), (2.2, 4.4), (3.5, 7.0)", "(10.0)", 20.0),
        ("(1::tinyint, 2::smallint), (2, 4)", "(5)", 10.0),
    ] {
        engine.run(&linear("x, y", rows)).await;
        assert_close(&predicted(&engine, "m", "x", at).await, &[expected]);
    }
    for w in ["1e120", "1e-120"] {
        engine.run(&weighted(w)).await;
        assert_close(&predicted(&engine, "m", "x", "(10.0)").await, &[11.0]);
    }
}

#[tokio::test]
async fn classes_of_any_number_are_learnt() {
    let engine = Engine::new(2);
    for (rows, classes) in [
        ("(1.0, 1e300), (2.0, -1e300), (3.0, 0)", 3),
        ("(1.0, 0.1::float), (2.0, 0.3::float), (3.0, 0.1::float)", 2),
        ("(1.0, 9007199254740993), (2.0, 9007199254740992), (3.0, 9223372036854775807)", 3),
        (
            "(1.0, '0.10'::decimal(30, 20)), (2.0, '0.10000000000000000001'::decimal(30, 20)), (3.0, '0.1'::decimal(30, 20))",
            2,
        ),
        ("(1.0, true), (2.0, false), (3.0, NULL)", 2),
        ("(1.0, ''), (2.0, 'a'), (3.0, 'NULL')", 3),
    ] {
        engine.run(&logistic("x, y", rows)).await;
        let labels = "SELECT cardinality(predicted_y_probs) FROM ML.PREDICT(MODEL m, (SELECT 1.0 AS x))";
        assert_eq!(engine.numbers(labels).await, [f64::from(classes)], "{rows}");
        let metrics = format!("SELECT accuracy FROM ML.EVALUATE(MODEL m, (SELECT * FROM (VALUES {rows}) t(x, y)))");
        assert!(engine.numbers(&metrics).await[0] > 0.0, "{rows}");
    }
}
