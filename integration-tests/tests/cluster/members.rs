//! Executors that come late.

use sinew_integration_tests::cluster::{Cluster, cpu_seconds};
use sinew_integration_tests::weights;

use crate::support::{Rows, expected, long, start, steps};

#[tokio::test(flavor = "multi_thread")]
async fn a_late_executor_takes_its_part() {
    let rows = Rows::new(20_000, 4).await;
    let train = long("m", 300, &rows.query());
    let expected = expected(&train).await;
    let mut cluster = Cluster::start(1);
    let session = cluster.session().await;
    let training = start(&session, &train);
    steps(&cluster, 10).await;
    let late = cluster.add_executor();
    cluster.wait_for(2);
    assert_eq!(cluster.metric("sinew_slots"), Some(2.0));
    let loaded = cluster.metric("sinew_cache_loads_total").unwrap();
    let (seconds, done) = (cpu_seconds(cluster.executor(late)), cluster.metric("sinew_steps_total").unwrap());
    assert!(!training.is_finished(), "the training was over before the executor came");
    steps(&cluster, done as usize + 20).await;
    // It has read units of its own, and works.
    assert!(cluster.metric("sinew_cache_loads_total").unwrap() > loaded);
    assert!(cpu_seconds(cluster.executor(late)) > seconds);
    training.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "m") == expected);
}
