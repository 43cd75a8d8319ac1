//! Bad input through SQL: each has a documented result, or an error that names the value and the next step.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bugs;
mod files;
mod limits;
mod options;
mod predict;
mod roles;
mod stored;
mod values;

use sinew_integration_tests::Engine;

/// A statement that must fail, and what its error must say: the code first.
type Refused<'a> = (&'a str, &'a [&'a str]);

/// Runs statements that must fail, and leave no model.
async fn refused(engine: &Engine, cases: &[Refused<'_>]) {
    for (sql, parts) in cases {
        let error = engine.error(sql).await;
        assert!(error.starts_with(parts[0]), "{sql}\n{error}\nshould start with {}", parts[0]);
        for part in *parts {
            assert!(error.contains(part), "{sql}\n{error}\nshould contain {part}");
        }
        assert!(!error.contains("internal error") && !error.contains('\n'), "{sql}\n{error}");
    }
}

/// `TRAIN MODEL m` of a linear regression on rows of VALUES.
fn linear(columns: &str, rows: &str) -> String {
    train("linear_regression", "", columns, rows)
}

/// `TRAIN MODEL m` of a logistic regression on rows of VALUES.
fn logistic(columns: &str, rows: &str) -> String {
    train("logistic_regression", "OPTIONS(reg_param = 0.1)", columns, rows)
}

fn train(family: &str, clauses: &str, columns: &str, rows: &str) -> String {
    format!("TRAIN MODEL m USING {family} PREDICT y SPLIT NONE {clauses} AS SELECT * FROM (VALUES {rows}) t({columns})")
}

/// What the model predicts for rows of VALUES; NULL is NaN.
async fn predicted(engine: &Engine, model: &str, columns: &str, rows: &str) -> Vec<f64> {
    engine.column(&format!("SELECT PREDICT({model}, *) AS p FROM (VALUES {rows}) t({columns})"), "p").await
}

fn assert_close(found: &[f64], expected: &[f64]) {
    let close = |(a, b): (&f64, &f64)| (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    assert!(found.len() == expected.len() && found.iter().zip(expected).all(close), "{found:?} is not {expected:?}");
}
