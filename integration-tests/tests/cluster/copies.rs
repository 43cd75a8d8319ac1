//! COPY on a cluster: a file appears whole, or what was there stays.

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::run;

use crate::support::Rows;

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_leaves_the_file_that_was_there() {
    let rows = Rows::new(40_000, 2).await;
    let cluster = Cluster::start(1);
    let session = cluster.session().await;
    let files = rows.files("rows");
    for format in ["parquet", "csv", "json"] {
        let path = rows.folder().join(format!("copied.{format}"));
        let copy = |query: &str| format!("COPY ({query}) TO '{}'", path.display());
        run(&session, &copy(&format!("SELECT id, a FROM {files}"))).await.unwrap();
        let before = std::fs::read(&path).unwrap();
        // The last rows of one partition fail, when the file has been written for long.
        let failing = format!("SELECT 1 / (id - 39000) AS x FROM (SELECT id FROM {files} ORDER BY id LIMIT 40000)");
        let error = run(&session, &copy(&failing)).await.unwrap_err();
        assert!(error.contains("Divide by zero"), "{error}");
        assert!(std::fs::read(&path).unwrap() == before, "{format} was overwritten");
        let left = std::fs::read_dir(rows.folder()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("copied")).collect();
        assert_eq!(left, [std::ffi::OsString::from(format!("copied.{format}"))]);
        std::fs::remove_file(&path).unwrap();
    }
}
