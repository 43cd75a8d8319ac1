//! What is too large for a message or for the driver, made small enough to test.

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::{run, weights};

use crate::support::{FAMILIES, Rows, expected};

/// Trains the model `m` of a statement on a cluster, under another name, and in one process.
async fn same(cluster: &Cluster, name: &str, training: &str) {
    let session = cluster.session().await;
    let renamed = training.replace("MODEL m ", &format!("MODEL {name} "));
    run(&session, &renamed).await.unwrap_or_else(|e| panic!("{renamed}\n{e}"));
    assert!(weights(&cluster.warehouse(), name) == expected(training).await, "{training}");
}

#[tokio::test(flavor = "multi_thread")]
async fn partials_that_executors_merge_come_to_the_same_model() {
    let rows = Rows::new(6_000, 6).await;
    let cluster = Cluster::with(4, &["--merge-bytes", "1"]);
    for (family, name) in [(FAMILIES[1], "two_classes"), (FAMILIES[2], "three_classes")] {
        let label = family.split(" PREDICT ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let training = format!("TRAIN MODEL m USING {family} AS SELECT a, b, c, d, {label} FROM ({})", rows.query());
        same(&cluster, name, &training).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_travel_by_their_address() {
    let rows = Rows::new(2_000, 2).await;
    let cluster = Cluster::start(2);
    // Some 42,000 parameters: more than a plan carries.
    let options = "OPTIONS (hidden_units = [256, 160], max_iter = 2, shards = 2, batch_size = 500)";
    let network = format!("mlp_classifier PREDICT class SPLIT NONE {options}");
    let training = format!("TRAIN MODEL m USING {network} AS SELECT a, b, c, d, class FROM ({})", rows.query());
    same(&cluster, "large", &training).await;
    crate::support::no_runs(&cluster).await;
}
