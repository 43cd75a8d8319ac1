//! The commit of a write, stopped after each of its steps, raced, and cancelled.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;

use super::commit::Run;
use super::{Target, WriteExec, target};
use crate::warehouse::columns::columns;
use crate::warehouse::records::Records;
use crate::warehouse::table_records::Change;
use crate::warehouse::{DataFile, Manifest, StoredTable};
use crate::{Session, SessionOptions, SinewError};

fn open(folder: &Path) -> Session {
    let options = SessionOptions::new().with_warehouse(folder.to_str().unwrap()).unwrap();
    Session::embedded(options.with_threads(2).unwrap()).unwrap()
}

async fn count(session: &Session, sql: &str) -> i64 {
    let batches = session.sql(sql).collect().await.unwrap();
    batches.iter().find(|b| b.num_rows() > 0).unwrap().column(0).as_primitive::<Int64Type>().value(0)
}

async fn rows(session: &Session) -> i64 {
    count(session, "SELECT count(*) FROM t").await
}

async fn query(session: &Session, sql: &str) -> LogicalPlan {
    session.context().state().create_logical_plan(sql).await.unwrap()
}

async fn manifest(session: &Session) -> Manifest {
    match session.tables().find("t").await.unwrap() {
        Some(StoredTable::Managed(manifest)) => manifest,
        other => panic!("{other:?}"),
    }
}

fn data_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.join("tables/t/data")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The change that an INSERT makes.
fn add(files: Vec<DataFile>) -> impl Fn(Option<StoredTable>) -> crate::Result<Change> + Send {
    move |there| match there {
        Some(StoredTable::Managed(mut there)) => {
            there.files.extend(files.iter().cloned());
            Ok(Change::Write(Some(StoredTable::Managed(there))))
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_write_that_stops_after_any_step_leaves_the_table_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let session = open(folder.path());
    session.sql("CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 10)").collect().await.unwrap();
    let manifests = folder.path().join("tables/t/manifests");

    // While the data are written: a file that is not whole yet has another name.
    std::fs::write(folder.path().join("tables/t/data/x.parquet#1"), b"PAR1").unwrap();
    assert_eq!(rows(&open(folder.path())).await, 10);

    // All data are written, the record is not.
    let mut run = Run::new(&session, "t", manifest(&session).await.columns).unwrap();
    let files = run.write(query(&session, "SELECT value FROM generate_series(1, 5)").await).await.unwrap();
    assert_eq!(files.iter().map(|f| f.rows).sum::<u64>(), 5);
    assert_eq!(data_files(folder.path()).len(), 2 + files.len());
    assert_eq!(rows(&open(folder.path())).await, 10);

    // The record is being created: the file has its name once it is whole.
    std::fs::write(manifests.join("00000002.json#1"), b"{\"sha256\":\"").unwrap();
    assert_eq!(rows(&open(folder.path())).await, 10);

    // The record is there: everything is.
    assert!(run.commit(add(files)).await.unwrap());
    assert_eq!(rows(&open(folder.path())).await, 15);
    assert_eq!(rows(&session).await, 15);
    session.sql("INSERT INTO t VALUES (1)").collect().await.unwrap();
    assert_eq!(rows(&open(folder.path())).await, 16);
}

#[tokio::test]
async fn a_file_that_is_missing_or_another_is_an_error_and_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let session = open(folder.path());
    session.sql("CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 10)").collect().await.unwrap();
    session.sql("INSERT INTO t SELECT value FROM generate_series(1, 5)").collect().await.unwrap();
    assert_eq!(rows(&open(folder.path())).await, 15);
    let file = data_files(folder.path()).pop().unwrap();
    let whole = std::fs::read(&file).unwrap();
    for damage in [None, Some(&whole[..whole.len() - 1])] {
        match damage {
            None => std::fs::remove_file(&file).unwrap(),
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
        }
        for sql in ["SELECT count(*) FROM t", "SELECT a FROM t LIMIT 1", "SELECT a FROM t WHERE a > 100"] {
            let error = open(folder.path()).sql(sql).collect().await.unwrap_err().to_string();
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(error.contains(name) && error.contains("the table 't'"), "{sql}: {error}");
        }
    }
    std::fs::write(&file, whole).unwrap();
    assert_eq!(rows(&open(folder.path())).await, 15);
}

#[tokio::test]
async fn sizes_and_rows_in_a_manifest_are_those_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let session = open(folder.path());
    session.sql("CREATE TABLE t AS SELECT value AS a FROM generate_series(1, 300000)").collect().await.unwrap();
    for file in manifest(&session).await.files {
        let path = folder.path().join("tables/t").join(&file.path);
        assert_eq!(std::fs::metadata(path).unwrap().len(), file.bytes);
    }
}

#[tokio::test]
async fn a_write_that_fails_or_is_dropped_takes_its_files_away() {
    let folder = tempfile::tempdir().unwrap();
    let session = open(folder.path());
    session.sql("CREATE TABLE t (a BIGINT)").collect().await.unwrap();
    let failing = "INSERT INTO t SELECT 1 / (value - 250000) FROM generate_series(1, 300000)";
    let error = session.sql(failing).collect().await.unwrap_err();
    assert!(error.to_string().contains("Divide by zero"), "{error}");
    assert_eq!(data_files(folder.path()), Vec::<PathBuf>::new());

    let mut run = Run::new(&session, "t", manifest(&session).await.columns).unwrap();
    run.write(query(&session, "SELECT 1").await).await.unwrap();
    assert_eq!(data_files(folder.path()).len(), 1);
    drop(run);
    settles(|| data_files(folder.path()), 0).await;

    // A table that another statement replaced meanwhile takes no rows of the one before.
    let mut run = Run::new(&session, "t", manifest(&session).await.columns).unwrap();
    let files = run.write(query(&session, "SELECT 1").await).await.unwrap();
    let refused = run.commit(|_| Err(SinewError::Internal("no".into()))).await.unwrap_err();
    assert!(refused.to_string().contains("no") && files.len() == 1);
    assert_eq!(data_files(folder.path()), Vec::<PathBuf>::new());
}

/// Waits until a folder holds only these files: what is taken away goes in the background.
async fn settles(files: impl Fn() -> Vec<PathBuf>, left: usize) {
    for _ in 0..400 {
        if files().len() == left {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{:?}", files());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_in_parts_are_ended_or_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let session = open(folder.path());
    let small = "SET datafusion.execution.objectstore_writer_buffer_size = 1000; \
        SET datafusion.execution.parquet.max_row_group_size = 1000; CREATE TABLE t (a VARCHAR)";
    session.sql(small).collect().await.unwrap();
    let rows_of = |last: u32| {
        format!("SELECT md5((1 / (value - {last}))::varchar || value::varchar) AS a FROM generate_series(1, 40000)")
    };
    for statement in ["INSERT INTO t", "CREATE OR REPLACE TABLE t AS"] {
        session.sql(&format!("{statement} {}", rows_of(39_000))).collect().await.unwrap_err();
        settles(|| data_files(folder.path()), 0).await;
    }
    session.sql(&format!("INSERT INTO t {}", rows_of(50_000))).collect().await.unwrap();
    assert_eq!(rows(&session).await, 40_000);

    let out = tempfile::tempdir().unwrap();
    let listed = || std::fs::read_dir(out.path()).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    for kind in ["csv", "json", "parquet"] {
        let to = |name: &str| format!("TO '{}/{name}.{kind}'", out.path().display());
        session.sql(&format!("COPY ({}) {}", rows_of(39_000), to("bad"))).collect().await.unwrap_err();
        settles(listed, 0).await;
        session.sql(&format!("COPY ({}) {}", rows_of(50_000), to("good"))).collect().await.unwrap();
        let good = out.path().join(format!("good.{kind}"));
        assert_eq!(listed(), std::slice::from_ref(&good));
        assert_eq!(count(&session, &format!("SELECT count(*) FROM '{}'", good.display())).await, 40_000);
        std::fs::remove_file(good).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_write_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let session = open(folder.path());
    session.sql("CREATE TABLE t (a BIGINT)").collect().await.unwrap();
    let endless = "SELECT a.value FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b";
    for statement in ["INSERT INTO t", "CREATE OR REPLACE TABLE t AS"] {
        let running = session.sql(&format!("{statement} {endless}")).collect();
        assert!(tokio::time::timeout(std::time::Duration::from_millis(300), running).await.is_err());
        settles(|| data_files(folder.path()), 0).await;
        assert_eq!(rows(&session).await, 0);
    }
}

#[tokio::test]
async fn external_tables_of_earlier_versions_are_still_there() {
    let folder = tempfile::tempdir().unwrap();
    let csv = folder.path().join("x.csv");
    std::fs::write(&csv, "a\n1\n2\n").unwrap();
    let session = open(&folder.path().join("w"));
    let records = Records::new(Arc::clone(session.tables().records().store()), {
        session.tables().location().root.clone().join("catalog").join("t")
    });
    let table = serde_json::json!({
        "statement": "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x.csv' OPTIONS ('format.has_header' 'true')",
        "locations": [csv],
    });
    records.append(&serde_json::json!({ "format": 1, "table": table })).await.unwrap();
    assert_eq!(rows(&session).await, 2);
    assert!(session.names().await.contains(&"t".to_string()));
    let exists = session.sql("CREATE TABLE t (a INT)").collect().await.unwrap_err();
    assert!(exists.to_string().contains("it exists"), "{exists}");
    session.sql("DROP TABLE t").collect().await.unwrap();
    session.sql("CREATE TABLE t AS SELECT 1 AS a").collect().await.unwrap();
    assert_eq!(rows(&open(&folder.path().join("w"))).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn inserts_that_race_are_all_kept() {
    for address in ["memory://", "folder"] {
        let folder = tempfile::tempdir().unwrap();
        let first = match address {
            "folder" => open(folder.path()),
            memory => Session::embedded(SessionOptions::new().with_warehouse(memory).unwrap()).unwrap(),
        };
        first.sql("CREATE TABLE t (a BIGINT)").collect().await.unwrap();
        let writers = (0..20).map(|n| {
            // Each has a session of its own, and one session has several statements at a time.
            let session = if n % 4 == 0 { first.clone() } else { first.sibling() };
            tokio::spawn(async move {
                session.sql(&format!("INSERT INTO t SELECT {n} FROM generate_series(1, 10)")).collect().await
            })
        });
        for writer in futures::future::join_all(writers).await {
            writer.unwrap().unwrap();
        }
        assert_eq!(rows(&first).await, 200);
        assert_eq!(count(&first, "SELECT count(DISTINCT a) FROM t").await, 20);
        let files: BTreeSet<String> = manifest(&first).await.files.into_iter().map(|f| f.path).collect();
        assert_eq!(files.len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_creators_wins() {
    let session = Session::embedded(SessionOptions::in_memory()).unwrap();
    let creators = (0..10).map(|n| {
        let session = session.sibling();
        tokio::spawn(async move { session.sql(&format!("CREATE TABLE t AS SELECT {n} AS a")).collect().await })
    });
    let mut won = 0;
    for creator in futures::future::join_all(creators).await {
        match creator.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert!(error.to_string().starts_with("SINEW-3111: table 't' cannot be used: it exists")),
        }
    }
    assert_eq!((won, rows(&session).await), (1, 1));
}

#[tokio::test]
async fn a_partition_that_is_long_becomes_several_files() {
    let session = Session::embedded(SessionOptions::in_memory()).unwrap();
    let input = query(&session, "SELECT value AS a, md5(value::varchar) AS b FROM generate_series(1, 100000)").await;
    let input = session.context().execute_logical_plan(input).await.unwrap();
    let columns = columns(input.schema().as_arrow());
    let target = Target {
        table: "t".into(),
        store: "memory://warehouse/".into(),
        folder: "warehouse/tables/t".into(),
        run: "r".into(),
        columns,
        file_bytes: 1 << 20,
    };
    let task = Arc::new(input.task_ctx());
    let write = Arc::new(WriteExec::new(Arc::new(target), input.create_physical_plan().await.unwrap()));
    assert!(write.metrics().is_some());
    let batches = execute_stream(write, task).unwrap().try_collect::<Vec<_>>().await.unwrap();
    let files = target::files(&batches).unwrap();
    assert!(files.len() > 2 && files.len() < 10, "{files:?}");
    assert_eq!(files.iter().map(|f| f.rows).sum::<u64>(), 100_000);
}
