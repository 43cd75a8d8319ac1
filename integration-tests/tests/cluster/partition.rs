//! A network that comes apart and comes together again.

use std::time::Duration;

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::island::Island;
use sinew_integration_tests::{run, weights};

use crate::support::{Rows, expected, long, start, steps};

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_is_cut_off_while_a_model_trains_and_comes_back() {
    let Some(island) = Island::new() else {
        eprintln!("SKIPPED: a network namespace needs the rights of root");
        return;
    };
    let rows = Rows::new(20_000, 4).await;
    let train = long("m", 150, &rows.query());
    let expected = expected(&train).await;
    let mut cluster = Cluster::reached_at(&island.here, &[]);
    cluster.add_executor_with(&["--host", &island.here]);
    cluster.add_executor_on(&island);
    cluster.wait_for(2);
    let session = cluster.session().await;
    let training = start(&session, &train);
    steps(&cluster, 5).await;
    island.cut();
    assert!(!training.is_finished());
    training.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "m") == expected);
    assert_eq!(cluster.metric("sinew_executors"), Some(1.0), "it is given up");
    tokio::time::sleep(Duration::from_secs(3)).await;
    island.heal();
    cluster.wait_for(2);
    run(&session, &train.replace("MODEL m ", "MODEL n ")).await.unwrap();
    assert!(weights(&cluster.warehouse(), "n") == expected);
}
