//! What is kept about jobs, and jobs that cannot be run.

use std::path::Path;

use sinew_integration_tests::cluster::{Cluster, cpu_seconds};
use sinew_integration_tests::run;

use crate::support::{Rows, long, no_runs, one, wait_until};

/// Folders of jobs below a folder of executors' work folders.
fn left(work: &Path) -> Vec<String> {
    let executors = std::fs::read_dir(work).unwrap().map(|entry| entry.unwrap().path().join("files"));
    let inside = executors.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let jobs = inside.filter(|path| path.is_dir() && std::fs::read_dir(path).is_ok_and(|files| files.count() > 0));
    jobs.map(|path| path.display().to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_jobs_that_have_ended() {
    let rows = Rows::new(4_000, 4).await;
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    run(&session, &long("m", 200, &rows.query())).await.unwrap();
    run(&session, &long("n", 5, &rows.joined())).await.unwrap();
    let files = rows.files("rows");
    one(&session, &format!("SELECT count(*) FROM {files} l JOIN {files} r USING (id)")).await;
    run(&session, &format!("SELECT count(*) FROM {files} WHERE (id / (id - 7)) > 1")).await.unwrap_err();
    assert!(cluster.metric("sinew_steps_total").unwrap() >= 200.0);
    wait_until("an empty list of jobs", async || cluster.get("/api/jobs").unwrap() == "[]").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(left(&cluster.work()), Vec::<String>::new());
    no_runs(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_no_message_carries() {
    let rows = Rows::new(2_000, 2).await;
    let files = rows.files("rows");
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    let error = run(&session, &format!("SELECT count(*) FROM {files} WHERE d > repeat('x', 70000000)")).await;
    let error = error.unwrap_err();
    assert!(error.contains("SINEW-3401") && error.contains("bytes"), "{error}");
    assert_eq!(cluster.metric("sinew_executors"), Some(2.0), "they are not taken for dead");
    assert_eq!(one(&session, &rows.counting()).await, 2_000.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_of_its_statement() {
    let rows = Rows::new(2_000, 2).await;
    let files = rows.files("rows");
    let cluster = Cluster::start(1);
    let session = cluster.session().await;
    let before = (cluster.executor(0), cpu_seconds(cluster.executor(0)));
    // DataFusion takes one from the position without a look at what it is.
    let least = "c - c - 9223372036854775807 - 1";
    let sql = format!("SELECT sum(array_position([c, 2], 1, {least})) FROM {files}");
    let error = run(&session, &sql).await.unwrap_err();
    assert!(error.starts_with("SINEW-"), "{error}");
    assert!(cluster.log_of(0).contains("panicked"), "it was a panic\n{error}");
    assert_eq!(one(&session, &rows.counting()).await, 2_000.0);
    // The process is the same one.
    assert!(cpu_seconds(before.0) >= before.1);
    assert_eq!(cluster.metric("sinew_executors"), Some(1.0));
}
