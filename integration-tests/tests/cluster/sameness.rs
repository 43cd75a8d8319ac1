//! One model, however it ran: the same bytes of weights on any number of executors and from any form of the rows.

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::{run, weights};

use crate::support::{FAMILIES, Rows, expected};

async fn same_on(executors: usize) {
    let rows = Rows::new(6_000, 1).await;
    rows.write("seven", 7, "PARQUET").await;
    rows.write("csv", 4, "CSV").await;
    let columns = |from: &str| rows.query().replace(&rows.files("rows"), from);
    let cluster = Cluster::start(executors);
    let session = cluster.session().await;
    run(&session, &format!("CREATE TABLE stored AS {}", rows.query())).await.unwrap();
    let queries =
        [rows.query(), columns(&rows.files("seven")), columns(&rows.files("csv")), columns("stored"), rows.joined()];
    for (number, family) in FAMILIES.iter().enumerate() {
        let expected = expected(&format!("TRAIN MODEL m USING {family} AS {}", used(family, &queries[0]))).await;
        for (form, query) in queries.iter().enumerate() {
            let model = format!("m{number}_{form}");
            let train = format!("TRAIN MODEL {model} USING {family} AS {}", used(family, query));
            run(&session, &train).await.unwrap_or_else(|e| panic!("{train}\n{e}"));
            assert!(weights(&cluster.warehouse(), &model) == expected, "{executors} executors: {train}");
        }
    }
}

/// The columns that a family takes.
fn used(family: &str, query: &str) -> String {
    let label = family.split(" PREDICT ").nth(1).and_then(|rest| rest.split(' ').next());
    let columns = ["a, b, c, d"].into_iter().chain(label).collect::<Vec<_>>().join(", ");
    format!("SELECT {columns} FROM ({query})")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_executor() {
    same_on(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors() {
    same_on(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_executors() {
    same_on(4).await;
}

/// A leaf that runs in full in every task would count rows twice.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_is_folded_once_in_a_step() {
    let rows = Rows::new(6_000, 5).await;
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    run(&session, &crate::support::long("m", 20, &rows.query())).await.unwrap();
    let steps = cluster.metric("sinew_steps_total").unwrap();
    assert!(steps >= 20.0);
    assert_eq!(cluster.metric("sinew_step_rows_total").unwrap(), steps * rows.count as f64);
}
