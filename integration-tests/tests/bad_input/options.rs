//! Options that do not exist, do not fit, or contradict each other; statements cut short.

use sinew_integration_tests::Engine;

use super::{predicted, refused, train};

#[tokio::test]
async fn options() {
    let engine = Engine::new(2);
    let with = |options: &str| {
        train("linear_regression", &format!("OPTIONS({options})"), "x, y", "(1.0, 2.0), (2.0, 3.0), (3.0, 4.5)")
    };
    let bad = |part: &'static str, allowed: &'static str| ["SINEW-2003: ", part, allowed];
    let twice = ["SINEW-1004: ", "twice", "keep one"];
    refused(
        &engine,
        &[
            (&with("reg_parm = 0.1"), &["SINEW-2002: ", "'reg_parm'", "did you mean 'reg_param'", "its options are"]),
            (&with("reg_param = -1"), &bad("reg_param = -1", "at least 0")),
            (&with("reg_param = 'abc'"), &bad("reg_param = 'abc'", "a number")),
            (&with("max_iter = 1.5"), &bad("max_iter = 1.5", "a whole number")),
            (&with("tol = -1"), &bad("tol = -1", "from 0 to 1")),
            (&with("elastic_net_param = 2"), &bad("elastic_net_param = 2", "from 0 to 1")),
            (&with("solver = 'foo'"), &bad("solver = 'foo'", "'lbfgs'")),
            (&with("fit_intercept = 3"), &bad("fit_intercept = 3", "true or false")),
            (&with("reg_param = abc"), &["SINEW-1001: ", "'abc'", "single quotes"]),
            (&with("reg_param = 1e400"), &["SINEW-1001: ", "1e400", "too large"]),
            (&with("reg_param = 1, reg_param = 2"), &twice),
            (&with("reg_param = 1, regParam = 2"), &["SINEW-2004: ", "reg_param", "keep one"]),
            (&with("l1_reg = 1, reg_param = 2"), &["SINEW-2004: ", "l1_reg", "use one pair"]),
            (&with("model_type = 'LINEAR_REG'"), &twice),
            (&with("input_label_cols = ['x']"), &twice),
            (&with("data_split_method = 'RANDOM'"), &twice),
        ],
    )
    .await;
    // a penalty beyond all bounds leaves the mean, no iterations leave a direct solution
    engine.run(&with("reg_param = 1e308")).await;
    assert!((predicted(&engine, "m", "x", "(50.0)").await[0] - 9.5 / 3.0).abs() < 1e-9);
    engine.run(&with("max_iter = 0")).await;
}

#[tokio::test]
async fn more_clusters_than_rows() {
    let engine = Engine::new(2);
    let with = |k: &str| {
        format!("TRAIN MODEL k USING kmeans OPTIONS(k = {k}) AS SELECT * FROM (VALUES (1.0), (1.0), (1.0), (2.0)) t(x)")
    };
    refused(
        &engine,
        &[
            (&with("0"), &["SINEW-2003: ", "k = 0", "from 1"]),
            (&with("-1"), &["SINEW-2003: ", "k = -1"]),
            (&with("1000000"), &["SINEW-2003: ", "k = 1000000"]),
            (&with("3"), &["SINEW-2007: ", "k = 3", "2 distinct rows", "smaller k"]),
            (&with("5"), &["SINEW-2007: ", "k = 5", "4 training rows", "smaller k"]),
        ],
    )
    .await;
    engine.run(&with("2")).await;
}

#[tokio::test]
async fn statements_cut_short() {
    let engine = Engine::new(2);
    let whole = "TRAIN MODEL m USING linear_regression PREDICT y SPLIT NONE AS SELECT";
    let words: Vec<&str> = whole.split(' ').collect();
    for n in 1..=words.len() {
        let error = engine.error(&words[..n].join(" ")).await;
        assert!(error.starts_with("SINEW-"), "{error}");
    }
    refused(
        &engine,
        &[
            ("TRAIN MODEL \"\" USING kmeans FROM t", &["SINEW-1005: ", "empty"]),
            ("TRAIN MODEL \"../../x\" USING kmeans FROM t", &["SINEW-1005: ", "'/' is not allowed"]),
            ("TRAIN MODEL \"a b\" USING kmeans FROM t", &["SINEW-1005: ", "not allowed"]),
            (&format!("TRAIN MODEL {} USING kmeans FROM t", "a".repeat(65_536)), &["SINEW-1005: ", "128 are allowed"]),
            ("TRAIN MODEL m USING linear_regression PREDICT y AS DROP TABLE t", &["SINEW-1001: ", "'DROP'"]),
            (
                "TRAIN MODEL m USING linear_regression PREDICT y AS SELECT 1 / 0 AS x, 2.0 AS y",
                &["SINEW-3003: ", "NULLIF"],
            ),
            ("DROP MODEL nope", &["SINEW-3102: ", "'nope'", "SHOW MODELS"]),
        ],
    )
    .await;
}
