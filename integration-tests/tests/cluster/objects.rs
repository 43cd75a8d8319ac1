//! A cluster whose warehouse and data lie in an object store: scheduler and executors are configured alike.

use sinew::{Session, SessionOptions};
use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::{run, servers};

use crate::support::one;

/// Rows that follow from their number.
const ROWS: &str = "SELECT value % 101 AS a, sin(value) AS b, 3.0 * sin(value) + value % 101 AS y \
    FROM generate_series(1, 20000) t(value)";
const TRAIN: &str = "USING linear_regression PREDICT y SPLIT NONE OPTIONS (reg_param = 0.01)";
const WEIGHTS: &str = "SELECT sum(weight) FROM ML.WEIGHTS(MODEL m)";

#[tokio::test(flavor = "multi_thread")]
async fn tables_models_and_files_lie_in_a_bucket() {
    let server = tokio::task::spawn_blocking(|| servers::s3(&["bucket"])).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sinew.conf");
    let lines = [
        format!("s3_endpoint = {}", server.url),
        "s3_access_key_id = AKIATEST".into(),
        // A secret has no flag.
        "s3_secret_access_key = verysecretkey".into(),
        "storage_allow_http = true".into(),
        "warehouse = s3://bucket/wh".into(),
    ];
    std::fs::write(&config, lines.join("\n")).unwrap();
    let flags = ["--config", config.to_str().unwrap(), "--warehouse", "s3://bucket/wh"];
    let mut cluster = Cluster::reached_at("127.0.0.1", &flags);
    for _ in 0..2 {
        cluster.add_executor_with(&flags);
    }
    cluster.wait_for(2);

    let session = cluster.session().await;
    run(&session, &format!("CREATE TABLE t AS {ROWS}")).await.unwrap();
    run(&session, "INSERT INTO t SELECT a, b, y FROM t WHERE a < 10").await.unwrap();
    for part in 0..3 {
        let copy = format!("COPY (SELECT * FROM t WHERE a % 3 = {part}) TO 's3://bucket/data/{part}.parquet'");
        run(&session, &copy).await.unwrap();
    }
    let rows = one(&session, "SELECT count(*) FROM t WHERE b < 2").await;
    assert_eq!(one(&session, "SELECT count(*) FROM 's3://bucket/data/' WHERE b < 2").await, rows);
    run(&session, &format!("TRAIN MODEL m {TRAIN} FROM 's3://bucket/data/'")).await.unwrap();
    let found = one(&session, WEIGHTS).await;
    run(&session, &format!("TRAIN MODEL m {TRAIN} FROM t")).await.unwrap();
    assert_eq!(one(&session, WEIGHTS).await.to_bits(), found.to_bits());

    let alone = Session::embedded(SessionOptions::in_memory()).unwrap();
    run(&alone, &format!("CREATE TABLE t AS {ROWS}")).await.unwrap();
    run(&alone, "INSERT INTO t SELECT a, b, y FROM t WHERE a < 10").await.unwrap();
    run(&alone, &format!("TRAIN MODEL m {TRAIN} FROM t")).await.unwrap();
    assert_eq!(one(&alone, WEIGHTS).await.to_bits(), found.to_bits());
    assert!(!cluster.logs().contains("verysecretkey"), "a secret is in a log");
}
