//! The fixed cost of a statement in a warm session: `cargo bench -p sinew-integration-tests --bench session`.
//!
//! A table of 2,000 rows and 10 features lies in memory; each training goes from its text to a published
//! model in a warehouse on disk.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use sinew_integration_tests::Engine;

fn percentile(times: &mut [Duration], part: f64) -> f64 {
    times.sort();
    times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(2);
        let features: Vec<_> = (1..=10).map(|j| format!("sin(value * {j}.37 + {j}) * {j} AS x{j}")).collect();
        let label = "CASE WHEN sin(value * 1.37 + 1) + sin(value * 3.37 + 3) + sin(value * 77.7) > 0 THEN 1 ELSE 0 END";
        let table =
            format!("CREATE TABLE t AS SELECT {}, {label} AS y FROM generate_series(1, 2000)", features.join(", "));
        engine.run(&table).await;
        println!("2,000 rows x 10 features, in milliseconds       p50     p95");
        for (name, sql) in [
            ("SELECT 1", "SELECT 1"),
            ("linear_regression", "TRAIN MODEL m USING linear_regression PREDICT y SPLIT NONE FROM t"),
            ("logistic_regression", "TRAIN MODEL m USING logistic_regression PREDICT y SPLIT NONE FROM t"),
            ("logistic_regression, rows held out", "TRAIN MODEL m USING logistic_regression PREDICT y FROM t"),
            ("kmeans, k = 5", "TRAIN MODEL c USING kmeans OPTIONS(k = 5) AS SELECT * EXCEPT (y) FROM t"),
            ("ML.PREDICT", "SELECT count(*) FROM ML.PREDICT(MODEL m, TABLE t)"),
            ("ML.EVALUATE", "SELECT * FROM ML.EVALUATE(MODEL m, TABLE t)"),
        ] {
            let mut times = Vec::new();
            for round in 0..110 {
                let start = Instant::now();
                engine.run(sql).await;
                if round >= 10 {
                    times.push(start.elapsed());
                }
            }
            println!("{name:45} {:7.2} {:7.2}", percentile(&mut times, 0.5), percentile(&mut times, 0.95));
        }
    });
}
