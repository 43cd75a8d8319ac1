//! Processes that are asked to stop end in order.

use std::net::TcpListener;

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::{run, weights};

use crate::support::{Rows, expected, long, start, steps};

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_drains() {
    let rows = Rows::new(20_000, 4).await;
    let train = long("m", 150, &rows.query());
    let expected = expected(&train).await;
    let mut cluster = Cluster::start(2);
    let session = cluster.session().await;
    let training = start(&session, &train);
    steps(&cluster, 10).await;
    assert!(!training.is_finished());
    assert!(cluster.stop_executor(0), "it ends with 0");
    training.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "m") == expected);
    cluster.wait_for(1);
    assert_eq!(std::fs::read_dir(cluster.work()).unwrap().count(), 1, "its work folder is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_frees_its_ports() {
    let rows = Rows::new(2_000, 2).await;
    let mut cluster = Cluster::start(1);
    let session = cluster.session().await;
    run(&session, &rows.counting()).await.unwrap();
    let (door, private) = (cluster.url().replace("grpc://", ""), cluster.private().to_string());
    drop(session);
    assert!(cluster.stop_scheduler(), "it ends with 0");
    for address in [door, private] {
        TcpListener::bind(&address).unwrap_or_else(|e| panic!("{address}: {e}"));
    }
    // The next one at the same address is found by the executor that is still there.
    cluster.start_scheduler();
    cluster.wait_for(1);
    run(&cluster.session().await, &long("m", 5, &rows.query())).await.unwrap();
}
