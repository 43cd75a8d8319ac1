//! Executors that come late, or cannot be used.

use sinew_integration_tests::cluster::{Cluster, cpu_seconds};
use sinew_integration_tests::{run, weights};

use crate::support::{Rows, expected, long, one, start, steps};

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
async fn an_executor_with_a_warehouse_of_its_own_gets_no_tasks() {
    let rows = Rows::new(2_000, 2).await;
    let mut cluster = Cluster::with(0, &["--grace", "2"]);
    let other = tempfile::tempdir().unwrap();
    let elsewhere = other.path().display().to_string();
    let stranger = cluster.add_executor_with(&["--warehouse", &elsewhere]);
    let session = cluster.session().await;
    let count = rows.counting();
    crate::support::wait_until("a probe", async || cluster.scheduler_log().contains("it gets no tasks")).await;
    let error = run(&session, &count).await.unwrap_err();
    assert!(error.contains("SINEW-3401") && error.contains("does not share the warehouse"), "{error}");
    assert!(error.contains(&cluster.warehouse().display().to_string()), "{error}");
    // Beside one that can be used, it is left alone.
    cluster.add_executor();
    cluster.wait_for(1);
    let before = cluster.log_of(stranger).matches("Finished task").count();
    assert_eq!(one(&session, &count).await, 2_000.0);
    run(&session, &long("m", 5, &rows.joined())).await.unwrap();
    assert_eq!(cluster.log_of(stranger).matches("Finished task").count(), before);
}
