//! What trainings share, and what they must not: resident rows, listings, samples, imputed values.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;

use futures::StreamExt;
use sinew_integration_tests::Engine;

async fn weights(engine: &Engine, model: &str) -> Vec<f64> {
    let sql = format!("SELECT weight FROM ML.WEIGHTS(MODEL {model}) ORDER BY processed_input");
    engine.column(&sql, "weight").await
}

#[tokio::test]
async fn a_column_that_only_held_out_rows_have_is_constant() {
    let engine = Engine::new(2);
    let rows = "SELECT value * 1.0 AS a, CASE WHEN value % 4 = 0 THEN 5.0 + value % 3 END AS x, \
                value % 4 = 0 AS held, 3.0 * value + 1 AS y FROM generate_series(1, 5000)";
    engine.run(&format!("TRAIN MODEL m USING linear_regression PREDICT y SPLIT BY held AS {rows}")).await;
    let found = weights(&engine, "m").await;
    assert_eq!(found.len(), 3);
    for (found, expected) in found.iter().zip([1.0, 3.0, 0.0]) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }
}

#[tokio::test]
async fn many_rows_of_few_kinds_train_whatever_the_sample_takes() {
    let engine = Engine::new(2);
    let rows = "SELECT concat('k', value % 3) AS kind, CASE WHEN value % 7 < 3 THEN 1 ELSE 0 END AS y \
                FROM generate_series(1, 400000)";
    for seed in 0..6 {
        let options = format!("OPTIONS (seed = {seed}, reg_param = 0.01)");
        engine.run(&format!("TRAIN MODEL m USING logistic_regression PREDICT y SPLIT NONE {options} AS {rows}")).await;
        let loss = engine.numbers(&format!("SELECT log_loss FROM ML.EVALUATE(MODEL m, ({rows}))")).await[0];
        assert!((loss - 0.6829).abs() < 1e-3, "seed {seed}: {loss}");
    }
}

#[tokio::test]
async fn a_table_that_is_defined_anew_is_read_anew() {
    let engine = Engine::new(2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.csv");
    let line = |i: u32| format!("{},{},{}\n", i, i * i % 17, 2 * i + 5 * (i * i % 17));
    fs::write(&path, format!("p,q,y\n{}", (1..200).map(line).collect::<String>())).unwrap();
    let define = |columns: &str| {
        format!("CREATE OR REPLACE EXTERNAL TABLE t ({columns}, y DOUBLE) STORED AS CSV LOCATION '{}'", path.display())
    };
    let train = "TRAIN MODEL m USING linear_regression PREDICT y SPLIT NONE AS SELECT a, b, y FROM t";
    engine.run(&format!("{}; {train}", define("a DOUBLE, b DOUBLE"))).await;
    let first = weights(&engine, "m").await;
    engine.run(&format!("{}; {train}", define("b DOUBLE, a DOUBLE"))).await;
    let second = weights(&engine, "m").await;
    assert!((first[1] - 2.0).abs() < 1e-6 && (first[2] - 5.0).abs() < 1e-6, "{first:?}");
    assert!((second[1] - 5.0).abs() < 1e-6 && (second[2] - 2.0).abs() < 1e-6, "{second:?}");
}

#[tokio::test]
async fn a_folder_is_listed_for_every_statement() {
    let engine = Engine::new(2);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, rows: u32| {
        let lines: String = (0..rows).map(|i| format!("{i},{}\n", 3 * i)).collect();
        fs::write(folder.path().join(name), format!("x,y\n{lines}")).unwrap();
    };
    write("a.csv", 10);
    let count = format!("SELECT count(*) FROM '{}/'", folder.path().display());
    assert_eq!(engine.numbers(&count).await, [10.0]);
    write("b.csv", 5);
    assert_eq!(engine.numbers(&count).await, [15.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_training_leaves_its_neighbour_alone() {
    let engine = Engine::new(2);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.parquet");
    let rows = "SELECT value % 101 AS a, CASE WHEN value % 5 > 0 THEN value % 17 END AS b, value % 29 AS y \
                FROM generate_series(1, 200000)";
    engine.run(&format!("COPY ({rows}) TO '{}' STORED AS PARQUET", path.display())).await;
    let train = |model: &str| {
        format!("TRAIN MODEL {model} USING linear_regression PREDICT y SPLIT NONE FROM '{}'", path.display())
    };
    let alone = Engine::new(1);
    alone.run(&train("m")).await;
    let expected = weights(&alone, "m").await;
    for round in 0..8 {
        let mut statements = engine.session.sql(&train("cancelled"));
        let mut doomed = statements.next().await.unwrap().unwrap();
        let neighbour = train("m");
        let (_, _) = tokio::join!(engine.run(&neighbour), async {
            tokio::time::sleep(std::time::Duration::from_millis(3 * round)).await;
            drop(doomed.next());
            drop(doomed);
        });
        assert_eq!(weights(&engine, "m").await, expected, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_or_eight_cold_or_warm_any_threads() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "SELECT value % 101 AS a, CASE WHEN value % 5 > 0 THEN sin(value) END AS b, \
                concat('k', value % 7) AS c, value % 3 AS y, value FROM generate_series(1, 80000)";
    let writer = Engine::new(1);
    let path = |name: &str| folder.path().join(name).display().to_string();
    writer.run(&format!("COPY ({rows}) TO '{}' STORED AS PARQUET", path("one/0.parquet"))).await;
    for part in 0..8 {
        let some = format!("SELECT * FROM ({rows}) WHERE value % 8 = {part}");
        writer.run(&format!("COPY ({some}) TO '{}' STORED AS PARQUET", path(&format!("eight/{part}.parquet")))).await;
    }
    let bits = |model: Vec<f64>| model.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    let mut expected = None;
    for threads in [1, 2, 3, 8] {
        for files in ["one", "eight"] {
            let engine = Engine::new(threads);
            // The second training finds the rows of the first.
            for _ in 0..2 {
                let train = "TRAIN MODEL m USING logistic_regression PREDICT y OPTIONS (reg_param = 0.001)";
                engine.run(&format!("{train} AS SELECT * EXCEPT (value) FROM '{}/'", path(files))).await;
                let sql = "SELECT PREDICT_PROBA(m, '1', *) AS p FROM (SELECT 7 AS a, 0.5 AS b, 'k3' AS c)";
                let mut found = bits(weights(&engine, "m").await);
                found.extend(bits(engine.numbers(sql).await));
                assert_eq!(*expected.get_or_insert(found.clone()), found, "{threads} threads, {files}");
            }
        }
    }
}
