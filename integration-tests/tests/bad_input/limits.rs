//! More categories, parameters and rows than fit.

use sinew_integration_tests::Engine;

use super::refused;

const MB: u64 = 1 << 20;

#[tokio::test]
async fn categories() {
    let engine = Engine::new(2);
    let train = |n: usize, label: &str, family: &str, options: &str| {
        format!(
            "TRAIN MODEL m USING {family} PREDICT y SPLIT NONE {options} AS SELECT 'c' || value AS c, {label} AS y FROM generate_series(1, {n}) t(value)"
        )
    };
    engine.run(&train(10_000, "value::double", "linear_regression", "")).await;
    let found = engine.column("SELECT PREDICT(m, *) AS p FROM (VALUES ('c1'), ('c10000')) t(c)", "p").await;
    assert!((found[0] - 1.0).abs() < 1.0 && (found[1] - 10_000.0).abs() < 1.0, "{found:?}");
    let many = |column: &'static str, what: &'static str| ["SINEW-2007: ", column, "more than 65536", what];
    refused(&engine, &[
        (&train(66_000, "value::double", "linear_regression", ""), &many("'c'", "categories")),
        ("TRAIN MODEL m USING logistic_regression PREDICT y AS SELECT value % 7 AS x, value AS y FROM generate_series(1, 66000) t(value)", &many("'y'", "classes")),
        (&train(2_000, "value::double", "linear_regression", "OPTIONS(solver = 'normal')"), &["SINEW-2012: ", "normal", "lbfgs"]),
    ]).await;
}

#[tokio::test]
async fn parameters_beyond_the_memory_limit_are_refused_at_once() {
    let engine = Engine::with_memory(2, 512 * MB);
    refused(
        &engine,
        &[(
            "TRAIN MODEL m USING logistic_regression PREDICT y SPLIT NONE AS \
         SELECT 'c' || value AS c, 'd' || (value % 100) AS y FROM generate_series(1, 65000) t(value)",
            &["SINEW-2012: ", "100 x 65001 parameters", "bytes", "group rare categories"],
        )],
    )
    .await;
    assert_eq!(engine.run("SHOW MODELS").await.iter().map(|b| b.num_rows()).sum::<usize>(), 0);
}

#[tokio::test]
async fn rows_beyond_the_memory_limit_go_to_disk() {
    let train = "TRAIN MODEL m USING linear_regression PREDICT y SPLIT NONE AS \
         SELECT (value * 7919) % 10007 AS a, (value * 104729) % 9973 AS b, value % 17 AS c, (value * 31) % 101 AS y \
         FROM generate_series(1, 200000) t(value)";
    let mut weights = Vec::new();
    for limit in [4 * MB, 1024 * MB] {
        let engine = Engine::with_memory(2, limit);
        engine.run(train).await;
        weights.push(engine.column("SELECT weight FROM ML.WEIGHTS(MODEL m)", "weight").await);
    }
    assert_eq!(weights[0], weights[1], "the same to the last bit");
    // the rows' memory is given up for the parameters'
    let wide = "TRAIN MODEL m USING linear_regression PREDICT y SPLIT NONE OPTIONS(max_iter = 3) AS \
         SELECT 'c' || (value % 3000) AS c, value % 17 AS x, (value * 31) % 101 AS y FROM generate_series(1, 200000) t(value)";
    Engine::with_memory(2, 4 * MB).run(wide).await;
}
