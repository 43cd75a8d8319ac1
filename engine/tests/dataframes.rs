//! DataFrames of Rust programs: the same here and over a connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::dataframe::{DataFrame, DataFrameWriteOptions};
use datafusion::functions_aggregate::expr_fn::sum;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::prelude::{col, lit};
use futures::StreamExt;
use sinew::flight::{ServeOptions, serve};
use sinew::frame::Split;
use sinew::{Learn, Session, SessionOptions};
use tokio::net::TcpListener;

#[allow(dead_code)]
#[path = "../examples/dataframe.rs"]
mod example;

/// A session in this process, and one on a server.
async fn both() -> [Session; 2] {
    let embedded = || Session::embedded(SessionOptions::in_memory()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpc://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(embedded(), listener, ServeOptions::default(), std::future::pending()));
    [embedded(), Session::connect(&url).await.unwrap()]
}

async fn run(session: &Session, sql: &str) -> Vec<RecordBatch> {
    session.sql(sql).collect().await.unwrap_or_else(|e| panic!("{sql}\n{e}"))
}

async fn integers(frame: DataFrame) -> Vec<i64> {
    let batches = frame.collect().await.unwrap();
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

const TABLE: &str = "CREATE TABLE t AS SELECT value AS x, value % 3 AS g, 2 * value AS y FROM range(0, 60)";

#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs_here_and_there() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/data");
    let mut trained = Vec::new();
    for session in both().await {
        trained.push(example::program(&session, data).await.unwrap());
    }
    let [here, there] = trained.try_into().unwrap();
    assert_eq!((here.version, &here.metrics), (there.version, &there.metrics));
    let losses = |t: &sinew::Trained| t.iterations.iter().map(|i| i.loss.to_bits()).collect::<Vec<_>>();
    assert_eq!(losses(&here), losses(&there), "the same rows give the same bits");
    assert!(here.metrics["accuracy"] > 0.9 && here.iterations.len() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_run_where_the_tables_are() {
    for session in both().await {
        run(&session, TABLE).await;
        let t = session.table("t").await.unwrap();
        let large = t.clone().filter(col("x").gt(lit(54))).unwrap().select_columns(&["x"]).unwrap();
        let sorted = large.clone().sort_by(vec![col("x")]).unwrap();
        assert_eq!(integers(sorted).await, [55, 56, 57, 58, 59]);
        let sums = t.clone().aggregate(vec![col("g")], vec![sum(col("x")).alias("s")]).unwrap();
        let sums = sums.sort_by(vec![col("g")]).unwrap().select_columns(&["s"]).unwrap();
        assert_eq!(integers(sums).await, [570, 590, 610]);
        // DataFusion's own SQL, subqueries among it, and queries with functions of models.
        let sql = "SELECT count(*) AS n FROM t WHERE x IN (SELECT y FROM t)";
        assert_eq!(integers(session.context().sql(sql).await.unwrap()).await, [30]);
        assert_eq!(integers(session.query(sql).await.unwrap()).await, [30]);
        let named = session.query("SELECT x AS k FROM t WHERE x < 3").await.unwrap();
        assert_eq!(large.clone().union(named.clone()).unwrap().count().await.unwrap(), 8);
        let joined = t.clone().join(named, datafusion::prelude::JoinType::Inner, &["x"], &["k"], None).unwrap();
        assert_eq!(joined.count().await.unwrap(), 3);
        // Names that need quotes.
        run(&session, "CREATE TABLE \"Mixed Case\" AS SELECT x AS \"X\" FROM t").await;
        let mixed = session.table(datafusion::common::TableReference::bare("Mixed Case")).await.unwrap();
        let sums = mixed.aggregate(vec![], vec![sum(datafusion::prelude::ident("X"))]).unwrap();
        let name = sums.schema().field(0).name().clone();
        assert_eq!(integers(sums.filter(datafusion::prelude::ident(name).gt(lit(0))).unwrap()).await, [1770]);
        // Rows of this process travel with the plan.
        let rows: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 77]));
        let rows = RecordBatch::try_from_iter([("k", rows)]).unwrap();
        let rows = session.context().read_batch(rows).unwrap();
        let joined = t.join(rows, datafusion::prelude::JoinType::LeftSemi, &["x"], &["k"], None).unwrap();
        assert_eq!(joined.count().await.unwrap(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_frame_go_into_a_table() {
    for session in both().await {
        run(&session, TABLE).await;
        run(&session, "CREATE TABLE kept (x BIGINT, \"Twice\" DOUBLE)").await;
        let small = session.table("t").await.unwrap().filter(col("x").lt(lit(3))).unwrap();
        let small = small.select_columns(&["x", "y"]).unwrap();
        let count = small.clone().write_table("kept", DataFrameWriteOptions::new()).await.unwrap();
        assert_eq!(count[0].column(0).as_primitive::<datafusion::arrow::datatypes::UInt64Type>().value(0), 3);
        let rows: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let rows = RecordBatch::try_from_iter([("a", Arc::clone(&rows)), ("b", rows)]).unwrap();
        let rows = session.context().read_batch(rows).unwrap();
        rows.clone().write_table("kept", DataFrameWriteOptions::new()).await.unwrap();
        let sums = "SELECT count(*) * 1000 + sum(x) AS n FROM kept WHERE \"Twice\" >= 0";
        assert_eq!(integers(session.query(sums).await.unwrap()).await, [5018]);
        let over = DataFrameWriteOptions::new().with_insert_operation(InsertOp::Overwrite);
        rows.write_table("kept", over).await.unwrap();
        assert_eq!(integers(session.query(sums).await.unwrap()).await, [2015]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_trained_over_frames_and_recorded_as_sql() {
    for session in both().await {
        run(&session, TABLE).await;
        let frame = session.table("t").await.unwrap().filter(col("x").gt(lit(3))).unwrap();
        let frame = frame.select_columns(&["x", "y"]).unwrap();
        let line = || frame.clone().train("line").using("linear_regression").predict("y").split(&Split::None);
        let trained = line().await.unwrap();
        assert_eq!((trained.version, trained.model.as_str(), trained.iterations[0].rows), (1, "line", 56));
        assert!(trained.metrics.is_empty(), "no row was held out");
        let scored = frame.clone().predict("line@1").await.unwrap();
        let near = scored.filter((col("predicted_y") - col("y")).between(lit(-1e-6), lit(1e-6))).unwrap();
        assert_eq!(near.clone().count().await.unwrap(), 56);
        assert!(near.evaluate("line").await.unwrap()["r2_score"] > 0.999);
        let shown = run(&session, "SHOW CREATE MODEL line").await;
        let statement = shown[0].column(1).as_string::<i32>().value(0);
        assert!(!statement.contains("__dataframe"), "{statement}");
        run(&session, "RETRAIN MODEL line").await;
        // What has no SQL is recorded by its stand-in, and RETRAIN says so.
        let rows: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
        let rows = RecordBatch::try_from_iter([("x", Arc::clone(&rows)), ("y", rows)]).unwrap();
        let rows = session.context().read_batch(rows).unwrap();
        rows.train("own").using("linear_regression").predict("y").await.unwrap();
        let error = session.sql("RETRAIN MODEL own").collect().await.unwrap_err().to_string();
        assert!(error.contains("SINEW-3002") && error.contains("DataFrame"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_training_cancels_it() {
    for session in both().await {
        run(&session, "CREATE TABLE p AS SELECT value % 1000 AS a, value % 777 AS b FROM range(0, 50000)").await;
        let frame = session.table("p").await.unwrap();
        let slow = frame.train("slow").using("kmeans").option("k", 40).option("max_iter", 10_000).option("tol", 0.0);
        let mut training = slow.start().await.unwrap();
        assert!(training.next().await.unwrap().unwrap().rows > 30_000);
        let started = Instant::now();
        drop(training);
        assert!(started.elapsed() < Duration::from_secs(5));
        assert!(run(&session, "SHOW MODELS LIKE 'slow'").await.iter().all(|batch| batch.num_rows() == 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_told() {
    for (session, connected) in both().await.into_iter().zip([false, true]) {
        run(&session, TABLE).await;
        let t = session.table("t").await.unwrap();
        let told = |error: String, what: &str| assert!(error.contains("SINEW-") && error.contains(what), "{error}");
        told(session.table("nowhere").await.unwrap_err().to_string(), "not found");
        told(t.clone().predict("none").await.unwrap_err().to_string(), "SINEW-3102");
        told(session.query("DROP TABLE t").await.unwrap_err().to_string(), "SINEW-3304");
        let unknown = t.clone().train("m").using("linear_regresion").predict("y").await.unwrap_err();
        told(unknown.to_string(), "linear_regression");
        let stranger = datafusion::prelude::SessionContext::new().sql("SELECT 1").await.unwrap();
        told(stranger.evaluate("m").await.unwrap_err().to_string(), "no session");
        let (options, wide) = (DataFrameWriteOptions::new(), t.clone().with_column("z", lit(1)).unwrap());
        let misfit = sinew::SinewError::from(wide.write_table("t", options).await.unwrap_err()).to_string();
        assert!(misfit.starts_with("SINEW-3"), "{misfit}");
        if connected {
            let error = t.write_parquet("/nowhere/x.parquet", Default::default(), None).await.unwrap_err();
            let error = sinew::SinewError::from(error).to_string();
            told(error.clone(), "SINEW-3005");
            told(error, "write_table");
        }
    }
}
