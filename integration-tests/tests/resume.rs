//! A scheduler that dies or is stopped while a training runs: the next one finishes it, to the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sinew_integration_tests::Engine;
use sinew_integration_tests::cluster::Cluster;

/// Longer than any wait of a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

/// The weights of the only model; none while there is no version.
fn weights(warehouse: &Path) -> Option<Vec<u8>> {
    let files = files(&warehouse.join("models"));
    files.iter().find(|path| path.parent().is_some_and(|folder| folder.ends_with("versions")))?;
    let all: Vec<_> = files.iter().filter(|path| path.ends_with("weights.safetensors")).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    Some(std::fs::read(all[0]).unwrap())
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The highest number of a checkpoint.
fn checkpoints(warehouse: &Path) -> u64 {
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".ckpt")?.parse().ok();
    files(&warehouse.join("runs")).iter().filter_map(number).max().unwrap_or(0)
}

/// A training of many steps over `rows`.
fn training(rows: &str) -> String {
    format!(
        "TRAIN MODEL m USING logistic_regression PREDICT y SPLIT RANDOM 0.1 SEED 3 \
         OPTIONS(solver = 'adam', max_iter = 120, tol = 0) AS \
         SELECT value % 7 AS x, value % 11 AS z, CASE WHEN value % 3 = 0 THEN 1 ELSE 0 END AS y FROM {rows}"
    )
}

/// Starts the training on the cluster and returns when it has stored some checkpoints.
async fn train_a_while(cluster: &Cluster, sql: &str) -> tokio::task::JoinHandle<Result<(), String>> {
    let session = cluster.session().await;
    session.sql("SET sinew.checkpoint_interval = 0").collect().await.unwrap();
    let mut statements = session.sql(sql);
    let training = tokio::spawn(async move {
        let execution = statements.next().await.unwrap().map_err(|e| e.to_string())?;
        execution.collect().await.map(|_| ()).map_err(|e| e.to_string())
    });
    let warehouse = cluster.warehouse();
    let wait = move || until("no checkpoints came", || checkpoints(&warehouse) >= 5);
    tokio::task::spawn_blocking(wait).await.unwrap();
    assert!(!training.is_finished() && weights(&cluster.warehouse()).is_none());
    training
}

/// The same, undisturbed and in one process.
async fn expected(sql: &str) -> Vec<u8> {
    let engine = Engine::new(2);
    engine.run(sql).await;
    weights(&engine.warehouse()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_scheduler_s_training_appears_after_its_restart() {
    let rows = tempfile::tempdir().unwrap();
    let table = rows.path().join("rows.parquet").display().to_string();
    let copy = format!("COPY (SELECT value FROM generate_series(1, 100000) t(value)) TO '{table}'");
    Engine::new(2).run(&copy).await;
    // A file, and rows that are stored for the run because they cannot be read in parts.
    for rows in [format!("'{table}'"), "generate_series(1, 100000) t(value)".into()] {
        let sql = training(&rows);
        let expected = expected(&sql).await;
        let mut cluster = Cluster::start(2);
        let training = train_a_while(&cluster, &sql).await;
        cluster.kill_scheduler();
        let error = training.await.unwrap().unwrap_err();
        assert!(error.contains("SINEW-3302"), "{error}");
        assert!(weights(&cluster.warehouse()).is_none(), "nothing was published");
        cluster.start_scheduler();
        let warehouse = cluster.warehouse();
        until("the training did not go on", || weights(&warehouse).is_some());
        assert!(weights(&warehouse).unwrap() == expected, "other weights over {rows}\n{}", cluster.logs());
        let log = "SELECT count(*) AS steps, max(iteration) AS last FROM ML.TRAINING_INFO(MODEL m)";
        let mut engine = Engine::new(1);
        engine.session = cluster.session().await;
        assert_eq!(engine.numbers(log).await, [121.0, 120.0], "the log is that of the whole training");
        until("runs were left behind", || files(&warehouse.join("runs")).is_empty());
        let logs = cluster.logs();
        assert!(!logs.contains("Fail to update"), "what Ballista repeats is not for people: {logs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_that_is_stopped_leaves_its_training_to_the_next() {
    let sql = training("generate_series(1, 100000) t(value)");
    let mut cluster = Cluster::with(1, &["--drain", "0"]);
    let training = train_a_while(&cluster, &sql).await;
    assert!(cluster.stop_scheduler(), "{}", cluster.logs());
    training.await.unwrap().unwrap_err();
    assert!(checkpoints(&cluster.warehouse()) >= 5, "they are kept");
    cluster.start_scheduler();
    let warehouse = cluster.warehouse();
    until("the training did not go on", || weights(&warehouse).is_some());
    assert!(weights(&warehouse).unwrap() == expected(&sql).await, "other weights");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduler_may_be_told_to_leave_it_to_people() {
    let sql = training("generate_series(1, 100000) t(value)");
    let mut cluster = Cluster::with(1, &["--resume", "false"]);
    let training = train_a_while(&cluster, &sql).await;
    cluster.kill_scheduler();
    training.await.unwrap().unwrap_err();
    cluster.start_scheduler();
    cluster.wait_for(1);
    let stored = checkpoints(&cluster.warehouse());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(checkpoints(&cluster.warehouse()), stored, "nothing goes on by itself");
    cluster.session().await.sql("RETRAIN MODEL m RESUME").collect().await.unwrap();
    assert!(weights(&cluster.warehouse()).unwrap() == expected(&sql).await, "other weights");
}
