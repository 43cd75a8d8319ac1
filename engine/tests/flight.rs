//! Flight SQL as other clients speak it: the calls of a stock client, and what no client should send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_flight::FlightInfo;
use arrow_flight::sql::client::FlightSqlServiceClient;
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use sinew::flight::{ServeOptions, serve};
use sinew::{Session, SessionOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};

/// A server in this process.
struct Server {
    url: String,
    _stop: oneshot::Sender<()>,
}

type Client = FlightSqlServiceClient<Channel>;

impl Server {
    async fn start() -> Self {
        Self::with(ServeOptions::default()).await
    }

    async fn with(options: ServeOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("grpc://{}", listener.local_addr().unwrap());
        let session = Session::embedded(SessionOptions::in_memory()).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(session, listener, options, async move {
            let _ = stopped.await;
        }));
        Self { url, _stop: stop }
    }

    async fn client(&self) -> Client {
        let endpoint = Endpoint::from_shared(self.url.replace("grpc", "http")).unwrap();
        FlightSqlServiceClient::new(endpoint.connect().await.unwrap())
    }
}

/// The rows of all endpoints; each batch has the schema that was announced.
async fn fetch(client: &mut Client, info: &FlightInfo) -> Vec<RecordBatch> {
    let announced = info.clone().try_decode_schema().unwrap();
    let mut all = Vec::new();
    for endpoint in &info.endpoint {
        let rows = client.do_get(endpoint.ticket.clone().unwrap()).await.unwrap();
        all.extend(rows.try_collect::<Vec<_>>().await.unwrap());
    }
    assert!(all.iter().all(|batch| *batch.schema() == announced));
    all
}

async fn query(client: &mut Client, sql: &str) -> Vec<RecordBatch> {
    let info = client.execute(sql.into(), None).await.unwrap();
    fetch(client, &info).await
}

fn integer(batches: &[RecordBatch]) -> i64 {
    batches.iter().find(|b| b.num_rows() > 0).unwrap().column(0).as_primitive::<Int64Type>().value(0)
}

const TRAIN: &str = "TRAIN MODEL m USING linear_regression PREDICT y AS \
    SELECT value AS x, 2 * value AS y FROM range(0, 50)";

#[tokio::test(flavor = "multi_thread")]
async fn small_statements_do_not_stall() {
    let sockets = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&sockets);
    let accepted = Arc::new(move |socket: &tokio::net::TcpStream| {
        assert!(socket.nodelay().unwrap(), "an answer would wait 40 ms for the client's acknowledgement");
        seen.fetch_add(1, Ordering::SeqCst);
    });
    let server = Server::with(ServeOptions { accepted: Some(accepted), ..ServeOptions::default() }).await;
    let session = Session::connect(&server.url).await.unwrap();
    for _ in 0..50 {
        assert_eq!(integer(&session.sql("SELECT 1").collect().await.unwrap()), 1);
    }
    assert_eq!(sockets.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_runs_when_it_is_asked_for_and_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.execute(TRAIN.into(), None).await.unwrap();
    // Nothing was fetched, and the model is there.
    assert_eq!(query(&mut client, "SHOW MODELS").await[0].num_rows(), 1);
    let first = fetch(&mut client, &info).await;
    assert_eq!(fetch(&mut client, &info).await, first, "a result can be fetched again");
    let versions = query(&mut client, "SHOW VERSIONS OF MODEL m").await;
    assert_eq!(versions.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_statement_runs_each_time_it_is_executed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut prepared = client.prepare(TRAIN.into(), None).await.unwrap();
    assert_eq!(prepared.dataset_schema().unwrap().field(0).name(), "model");
    assert_eq!(query(&mut client, "SHOW MODELS").await.len(), 0, "preparing runs nothing");
    for version in 1..=2 {
        let info = prepared.execute().await.unwrap();
        assert!(!fetch(&mut client, &info).await.is_empty());
        let versions = query(&mut client, "SHOW VERSIONS OF MODEL m").await;
        assert_eq!(versions.iter().map(RecordBatch::num_rows).sum::<usize>(), version);
    }
    prepared.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_count() {
    let server = Server::start().await;
    let mut client = server.client().await;
    assert_eq!(client.execute_update("CREATE VIEW v AS SELECT 5 AS n".into(), None).await.unwrap(), 0);
    assert_eq!(integer(&query(&mut client, "SELECT n FROM v").await), 5);
    let folder = tempfile::tempdir().unwrap();
    let copy = format!("COPY (SELECT * FROM range(0, 42)) TO '{}/t.csv'", folder.path().display());
    assert_eq!(client.execute_update(copy, None).await.unwrap(), 42);
    let error = client.execute_update("SELECT 1".into(), None).await.unwrap_err().to_string();
    assert!(error.contains("SINEW-3304"), "{error}");
}
