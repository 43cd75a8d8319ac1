//! A statement that nobody waits for any more stops everywhere.

use std::time::Duration;

use sinew_integration_tests::cluster::{Cluster, cpu_seconds};

use crate::support::{Rows, drop_when, long, one, steps, wait_until};

/// Executors soon do nothing after a statement was dropped; nothing of it is left.
async fn idle(cluster: &Cluster, executors: usize) {
    let used = || (0..executors).map(|number| cpu_seconds(cluster.executor(number))).collect::<Vec<_>>();
    let dropped = used();
    // Time of the processor, not of the clock: others use this machine, too.
    loop {
        let before = used();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = used();
        if before.iter().zip(&after).all(|(before, after)| after - before < 0.1) {
            break;
        }
        for (dropped, after) in dropped.iter().zip(after) {
            assert!(after - dropped < 2.0, "an executor works on: {} s\n{}", after - dropped, cluster.logs());
        }
    }
    wait_until("an empty list of jobs", async || cluster.get("/api/jobs").unwrap() == "[]").await;
}

/// Waits until executors have worked for a while.
async fn busy(cluster: &Cluster, executors: usize) {
    let used = || (0..executors).map(|number| cpu_seconds(cluster.executor(number))).sum::<f64>();
    let before = used();
    wait_until("work", async || used() > before + 0.5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_rows_are_read() {
    let rows = Rows::new(150_000, 2).await;
    rows.write("csv", 2, "CSV").await;
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    let query = rows.query().replace(&rows.files("rows"), &rows.files("csv"));
    drop_when(&session, &long("m", 500, &query), async || busy(&cluster, 2).await).await;
    idle(&cluster, 2).await;
    assert!(!cluster.warehouse().join("models/m/versions").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_steps_run() {
    let rows = Rows::new(20_000, 4).await;
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    drop_when(&session, &long("m", 100_000, &rows.query()), async || steps(&cluster, 30).await).await;
    idle(&cluster, 2).await;
    let done = cluster.metric("sinew_steps_total");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cluster.metric("sinew_steps_total"), done);
    assert!(!cluster.warehouse().join("models/m/versions").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_rows_are_joined() {
    let rows = Rows::new(20_000, 4).await;
    let files = rows.files("rows");
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    let query = format!("SELECT l.d, sum(sin(l.a * r.a)) FROM {files} l JOIN {files} r ON l.d = r.d GROUP BY l.d");
    drop_when(&session, &query, async || busy(&cluster, 2).await).await;
    idle(&cluster, 2).await;
    // The cluster is as it was.
    assert_eq!(one(&session, &rows.counting()).await, rows.count as f64);
}
