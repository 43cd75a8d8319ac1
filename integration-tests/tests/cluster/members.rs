//! Executors that come late, and one that does not share the warehouse.

use std::process::Command;

use sinew_integration_tests::cluster::{Cluster, cpu_seconds};
use sinew_integration_tests::{run, weights};

use crate::support::{Rows, expected, long, one, start, steps, wait_until};

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

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_share_the_warehouse_gets_no_tasks() {
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a mount namespace needs the rights of root");
        return;
    }
    let rows = Rows::new(2_000, 2).await;
    let mut cluster = Cluster::start(0);
    cluster.add_executor_without_the_warehouse();
    wait_until("the verdict", async || cluster.scheduler_log().contains("does not share the warehouse")).await;
    assert_eq!(cluster.metric("sinew_executors"), Some(0.0));
    let session = cluster.session().await;
    let error = run(&session, &rows.counting()).await.unwrap_err();
    assert!(error.contains("SINEW-3401") && error.contains("does not share the warehouse"), "{error}");
    // One that does is enough.
    cluster.add_executor();
    cluster.wait_for(1);
    assert_eq!(one(&session, &rows.counting()).await, 2_000.0);
}
