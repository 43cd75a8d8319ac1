//! S3: moto.

use std::collections::BTreeSet;

use sinew_integration_tests::{file, servers};

use crate::{Place, keeps_the_contract, run, s3_options, whole_statements_work};

fn variables(url: &str) -> [(&str, &str); 5] {
    [
        ("AWS_ENDPOINT_URL", url),
        ("AWS_ACCESS_KEY_ID", "AKIATEST"),
        ("AWS_SECRET_ACCESS_KEY", "verysecretkey"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ALLOW_HTTP", "true"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_warehouse_keeps_the_contract() {
    let server = servers::s3(&["bucket"]);
    keeps_the_contract(s3_options(&server.url, &[]), "s3://bucket/some/wh").await;
    keeps_the_contract(s3_options(&server.url, &[]), "s3a://bucket").await;
}

#[test]
fn statements_work_as_a_user_runs_them() {
    let server = servers::s3(&["bucket"]);
    whole_statements_work(&Place::new(&variables(&server.url)), "s3://bucket/my folder");
}

#[test]
fn two_processes_get_their_own_versions() {
    let server = servers::s3(&["bucket"]);
    let place = Place::new(&variables(&server.url));
    let train = "TRAIN MODEL m USING linear_regression PREDICT y AS SELECT 1.0 * x AS x, 2.0 * x AS y \
                 FROM (VALUES (1), (2), (3), (4)) t(x);";
    let script = train.repeat(10);
    let mut running: Vec<_> = (0..2).map(|_| place.command("s3://bucket/wh", &script).spawn().unwrap()).collect();
    assert!(running.iter_mut().all(|process| process.wait().unwrap().success()));
    let shown = place.ok("s3://bucket/wh", "SHOW VERSIONS OF MODEL m");
    let column = shown.lines().next().unwrap().split(',').position(|name| name == "version").unwrap();
    let versions: BTreeSet<u64> =
        shown.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().parse().unwrap()).collect();
    assert_eq!(versions, (1..=20).collect(), "{shown}");
}

#[tokio::test]
async fn files_are_tables_by_folder_and_pattern() {
    let server = servers::s3(&["bucket"]);
    let options = || s3_options(&server.url, &[]);
    run(
        options(),
        "COPY (VALUES (1, 'a')) TO 's3://bucket/d/a.parquet'; COPY (VALUES (2, 'b')) TO 's3://bucket/d/b.parquet';
         COPY (VALUES (3, 'c')) TO 's3://bucket/e/c.csv'; COPY (VALUES (4, 'd')) TO 's3://bucket/e/d.json'",
    )
    .await;
    for (files, n) in
        [("d/", 2), ("d/a.parquet", 1), ("d/*.parquet", 2), ("d/?.parquet", 2), ("e/*.csv", 1), ("e/d.json", 1)]
    {
        let counted = run(options(), &format!("SELECT count(*) AS n FROM 's3://bucket/{files}'")).await;
        assert!(counted.contains(&format!("| {n} |")), "{files}: {counted}");
    }
}

/// DataFusion keeps footers by path, size and time; services count time in seconds.
#[tokio::test]
async fn equal_paths_of_two_buckets_and_quick_rewrites_are_told_apart() {
    let server = servers::s3(&["one", "two"]);
    let write = |bucket, x| format!("COPY (SELECT {x} AS x) TO 's3://{bucket}/x.parquet';");
    let read = "SELECT (SELECT max(x) FROM 's3://one/x.parquet') AS a, (SELECT max(x) FROM 's3://two/x.parquet') AS b";
    let session = sinew::Session::embedded(s3_options(&server.url, &[])).unwrap();
    for (one, two) in [(1, 2), (3, 4), (5, 6)] {
        let script = format!("{}{}{read}", write("one", one), write("two", two));
        let batches = session.sql(&script).collect().await.unwrap();
        let shown = datafusion::arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
        assert!(shown.contains(&format!("| {one} | {two} |")), "{shown}");
    }
}

#[tokio::test]
async fn what_lies_in_the_warehouse_of_a_bucket_is_found_again() {
    let server = servers::s3(&["bucket"]);
    let options = || s3_options(&server.url, &[("warehouse", "s3://bucket/wh")]);
    let iris = file("examples/data/iris.csv");
    run(options(), &format!("CREATE EXTERNAL TABLE iris STORED AS CSV LOCATION '{iris}'")).await;
    assert!(run(options(), "SELECT count(*) AS n FROM iris").await.contains("150"));
    run(options(), "DROP TABLE iris").await;
    assert!(crate::error(options(), "SELECT * FROM iris").await.starts_with("SINEW-3002"));
}
