//! Flight SQL as other clients speak it: the calls of a stock client, and what no client should send.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod replays;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    ActionCancelQueryRequest, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandStatementIngest, CommandStatementQuery, ProstMessageExt, TableDefinitionOptions, TableExistsOption,
    TableNotExistOption, TicketStatementQuery,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightData, FlightDescriptor, FlightInfo,
    Ticket,
};
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Int64Type};
use futures::TryStreamExt;
use prost::Message;
use sinew::flight::{ServeOptions, serve};
use sinew::{Session, SessionOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::Code;
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

fn values(batches: &[RecordBatch]) -> Vec<i64> {
    batches.iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
}

fn ints(columns: &[(&str, &[Option<i64>])]) -> RecordBatch {
    let column = |(name, values): &(&str, &[Option<i64>])| {
        let array: ArrayRef = Arc::new(values.iter().copied().collect::<Int64Array>());
        (name.to_string(), array, true)
    };
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(column)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_bound_by_place() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // The eleventh parameter comes after the tenth, not after the first.
    let many = (1..=11).map(|i| format!("CAST(${i} AS BIGINT)")).collect::<Vec<_>>().join(" * 10 + ");
    for (sql, row, expected) in [
        ("SELECT value FROM range(0, 10) WHERE value >= ? AND value < ?".to_string(), vec![3, 5], vec![3, 4]),
        ("SELECT value FROM range(0, 10) WHERE value < $2 AND value >= $1".to_string(), vec![3, 5], vec![3, 4]),
        ("SELECT $1 + CAST('1' AS BIGINT)".to_string(), vec![41], vec![42]),
        (format!("SELECT 0 + {many}"), (1..=11).collect(), vec![10 * 55 + 11]),
    ] {
        let mut prepared = client.prepare(sql.clone(), None).await.unwrap();
        assert_eq!(prepared.parameter_schema().unwrap().fields().len(), row.len(), "{sql}");
        for _ in 0..2 {
            let columns: Vec<Vec<Option<i64>>> = row.iter().map(|v| vec![Some(*v)]).collect();
            let names: Vec<String> = (0..row.len()).map(|i| i.to_string()).collect();
            let named: Vec<_> = names.iter().map(String::as_str).zip(columns.iter().map(Vec::as_slice)).collect();
            prepared.set_parameters(ints(&named)).unwrap();
            let info = prepared.execute().await.unwrap();
            assert_eq!(values(&fetch(&mut client, &info).await), expected, "{sql}");
        }
    }
    // Types are taken from the statement, and a value that has no such type is refused.
    let mut prepared = client.prepare("SELECT value FROM range(0, 3) WHERE value = ?".into(), None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().field(0).data_type(), &DataType::Int64);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["2"]));
    prepared.set_parameters(RecordBatch::try_from_iter([("0", texts)]).unwrap()).unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(values(&fetch(&mut client, &info).await), [2]);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["two"]));
    prepared.set_parameters(RecordBatch::try_from_iter([("0", texts)]).unwrap()).unwrap();
    let error = prepared.execute().await.unwrap_err().to_string();
    assert!(error.contains("SINEW-3304") && error.contains("$1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_rows_of_parameters_run_one_after_another() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut prepared = client.prepare("SELECT value FROM range(0, 10) WHERE value = ?".into(), None).await.unwrap();
    prepared.set_parameters(ints(&[("0", &[Some(7), Some(3), None, Some(5)])])).unwrap();
    let info = prepared.execute().await.unwrap();
    assert_eq!(values(&fetch(&mut client, &info).await), [7, 3, 5]);
    let error = client.prepare("SELECT ?, $1".into(), None).await.err().unwrap().to_string();
    assert!(error.contains("SINEW-3304"), "{error}");
    client.execute_update("CREATE TABLE kept (a BIGINT, b VARCHAR)".into(), None).await.unwrap();
    let mut insert = client.prepare("INSERT INTO kept VALUES (?, 'y')".into(), None).await.unwrap();
    insert.set_parameters(ints(&[("0", &[Some(7), None, Some(5)])])).unwrap();
    assert_eq!(insert.execute_update().await.unwrap(), 3);
    let kept = query(&mut client, "SELECT sum(a), count(*) FROM kept").await;
    assert_eq!((integer(&kept), kept[0].column(1).as_primitive::<Int64Type>().value(0)), (12, 3));
    let mut unbound = client.prepare("SELECT value FROM range(0, 9) WHERE value = ?".into(), None).await.unwrap();
    let error = unbound.execute().await.unwrap_err().to_string();
    assert!(error.contains("SINEW-3304") && error.contains("1 parameters"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_follows_a_statement_to_its_end() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = CommandStatementQuery { query: TRAIN.into(), transaction_id: None };
    let mut next = Some(FlightDescriptor::new_cmd(command.as_any().encode_to_vec()));
    let (mut info, mut progress) = (None, None);
    while let Some(descriptor) = next {
        let poll = client.inner_mut().poll_flight_info(descriptor).await.unwrap().into_inner();
        (info, next, progress) = (poll.info, poll.flight_descriptor, poll.progress);
    }
    let info = info.unwrap();
    assert_eq!(progress, Some(1.0), "it has ended");
    assert!(info.total_records > 0);
    assert_eq!(fetch(&mut client, &info).await.len(), 1);
    let versions = query(&mut client, "SHOW VERSIONS OF MODEL m").await;
    assert_eq!(versions.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_tells_how_far_a_training_is() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let command = |text: &str| {
        let command = CommandStatementQuery { query: text.into(), transaction_id: None };
        FlightDescriptor::new_cmd(command.as_any().encode_to_vec())
    };
    for other in ["CREATE VIEW v AS SELECT 1 AS a", "SELECT * FROM range(0, 9)"] {
        let poll = client.inner_mut().poll_flight_info(command(other)).await.unwrap().into_inner();
        assert_eq!(poll.progress, None, "{other}");
    }
    let slow = "TRAIN MODEL slow USING kmeans OPTIONS (k = 40, max_iter = 1000, tol = 0) AS \
        SELECT value % 1000 AS a, value % 777 AS b FROM range(0, 50000)";
    let (mut next, mut seen) = (command(slow), vec![0.0]);
    for _ in 0..60 {
        let poll = client.inner_mut().poll_flight_info(next).await.unwrap().into_inner();
        let progress = poll.progress.unwrap();
        assert!(progress >= seen[seen.len() - 1] && progress <= 1.0, "{progress} after {seen:?}");
        seen.push(progress);
        let Some(descriptor) = poll.flight_descriptor.filter(|_| progress == 0.0) else { break };
        next = descriptor;
    }
    assert!(seen[seen.len() - 1] > 0.0, "{seen:?}");
}

const ENDLESS: &str = "SELECT sum(a.value * b.value % 7) FROM range(1, 100000000) a, range(1, 100000) b";

#[tokio::test(flavor = "multi_thread")]
async fn statements_are_cancelled_on_demand() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.execute(ENDLESS.into(), None).await.unwrap();
    let rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    let action = Action::new("CancelFlightInfo", CancelFlightInfoRequest::new(info.clone()).encode_to_vec());
    let answer = client.do_action(action.clone()).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(CancelFlightInfoResult::decode(&*answer[0].body).unwrap().status(), CancelStatus::Cancelled);
    let error = rows.try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(error.contains("SINEW-3006"), "{error}");
    assert_eq!(client.do_action(action).await.unwrap_err_code(), Code::NotFound);
    let error = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.err().unwrap().to_string();
    assert!(error.contains("SINEW-3305"), "{error}");

    // A run: the report of a training that would take for ever.
    let slow = "TRAIN MODEL slow USING kmeans OPTIONS (k = 40, max_iter = 10000, tol = 0) AS \
        SELECT value % 1000 AS a, value % 777 AS b FROM range(0, 50000)";
    let command = CommandStatementQuery { query: slow.into(), transaction_id: None };
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let poll = client.inner_mut().poll_flight_info(descriptor).await.unwrap().into_inner();
    assert!(poll.flight_descriptor.is_some());
    let cancel = ActionCancelQueryRequest { info: poll.info.unwrap().encode_to_vec().into() };
    client.do_action(Action::new("CancelQuery", cancel.as_any().encode_to_vec())).await.unwrap();
    let error = client.inner_mut().poll_flight_info(poll.flight_descriptor.unwrap()).await.unwrap_err();
    assert!(error.message().contains("SINEW-3305"), "{error}");
    assert_eq!(query(&mut client, "SHOW MODELS").await.len(), 0);
}

trait ErrorCode {
    fn unwrap_err_code(self) -> Code;
}

impl<T> ErrorCode for Result<T, arrow_flight::error::FlightError> {
    fn unwrap_err_code(self) -> Code {
        match self {
            Err(arrow_flight::error::FlightError::Tonic(status)) => status.code(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("no error"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_its_connections_own() {
    let server = Server::start().await;
    let (mut one, mut other) = (server.client().await, server.client().await);
    one.execute_update("CREATE VIEW v AS SELECT 5 AS n".into(), None).await.unwrap();
    let info = one.execute("SELECT n FROM v".into(), None).await.unwrap();
    assert_eq!(values(&fetch(&mut one, &info).await), [5]);
    assert_eq!(other.execute("SELECT n FROM v".into(), None).await.unwrap_err_code(), Code::NotFound);
    // A ticket is worth nothing to another session, nor is one that was made up.
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    assert_eq!(other.do_get(ticket).await.map(drop).unwrap_err_code(), Code::NotFound);
    let forged = TicketStatementQuery { statement_handle: "0123456789abcdef0123456789abcdef".into() };
    let forged = Ticket::new(forged.as_any().encode_to_vec());
    assert_eq!(one.do_get(forged).await.map(drop).unwrap_err_code(), Code::NotFound);
    // A closed session is a new one at the next call.
    one.do_action(Action::new("CloseSession", "")).await.unwrap();
    assert_eq!(one.execute("SELECT n FROM v".into(), None).await.unwrap_err_code(), Code::NotFound);
    other.set_header("cookie", "arrow_flight_session_id=0123");
    assert_eq!(other.execute("SELECT 1".into(), None).await.unwrap_err_code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_an_end_to_sessions_and_prepared_statements() {
    let server = Server::with(ServeOptions { sessions: Some(2), ..ServeOptions::default() }).await;
    let (mut one, mut two, mut three) = (server.client().await, server.client().await, server.client().await);
    query(&mut one, "SELECT 1").await;
    query(&mut two, "SELECT 1").await;
    assert_eq!(three.execute("SELECT 1".into(), None).await.unwrap_err_code(), Code::ResourceExhausted);
    drop(two);
    // The server hears of it a moment later.
    for _ in 0..200 {
        if three.execute("SELECT 1".into(), None).await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    query(&mut three, "SELECT 1").await;
    let mut open = Vec::new();
    let refused = loop {
        match one.prepare("SELECT 1".into(), None).await {
            Ok(prepared) => open.push(prepared),
            Err(error) => break error.to_string(),
        }
    };
    assert!(refused.contains("SINEW-3307") && open.len() == 1000, "{refused}");
    open.pop().unwrap().close().await.unwrap();
    one.prepare("SELECT 1".into(), None).await.unwrap();
    // Results that nobody fetches make room for others.
    for _ in 0..1500 {
        one.execute("SELECT 1".into(), None).await.unwrap();
    }
    assert_eq!(integer(&query(&mut one, "SELECT 1").await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let garbage: [&[u8]; 5] =
        [b"", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x05hello", b"\x00", &[7; 9999]];
    for bytes in garbage {
        let raw = client.inner_mut();
        let cmd = FlightDescriptor::new_cmd(bytes.to_vec());
        let data = FlightData { flight_descriptor: Some(cmd.clone()), ..FlightData::default() };
        for status in [
            raw.get_flight_info(cmd.clone()).await.unwrap_err(),
            raw.poll_flight_info(cmd.clone()).await.unwrap_err(),
            raw.get_schema(cmd).await.unwrap_err(),
            raw.do_get(Ticket::new(bytes.to_vec())).await.unwrap_err(),
            raw.do_action(Action::new("CreatePreparedStatement", bytes.to_vec())).await.unwrap_err(),
            raw.do_action(Action::new("CancelFlightInfo", bytes.to_vec())).await.unwrap_err(),
            raw.do_put(futures::stream::iter([data])).await.unwrap_err(),
        ] {
            let known = [Code::InvalidArgument, Code::Unimplemented, Code::NotFound];
            assert!(known.contains(&status.code()) && status.message().starts_with("SINEW-"), "{bytes:?}: {status}");
        }
    }
    let none = client.inner_mut().do_put(futures::stream::empty()).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    for (sql, code) in [
        ("SELECT 1; SELECT 2".to_string(), "SINEW-3304"),
        (format!("SELECT '{}'", "x".repeat(17 << 20)), "SINEW-3307"),
        (format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000)), "SINEW-1003"),
    ] {
        let error = client.execute(sql, None).await.unwrap_err().to_string();
        assert!(error.contains(code), "{code}: {error}");
    }
    let transaction = client.execute("SELECT 1".into(), Some("t".into())).await.unwrap_err_code();
    assert_eq!(transaction, Code::InvalidArgument);
    assert_eq!(client.begin_transaction().await.unwrap_err_code(), Code::Unimplemented);
    assert_eq!(integer(&query(&mut client, "SELECT 1").await), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_described() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.execute_update("CREATE VIEW seen AS SELECT 1 AS n, 'x' AS t".into(), None).await.unwrap();
    let texts = |batches: &[RecordBatch], column: usize| -> Vec<String> {
        batches.iter().flat_map(|b| b.column(column).as_string::<i32>().iter().flatten().map(String::from)).collect()
    };
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, &info).await, 0), ["sinew"]);
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    assert!(texts(&fetch(&mut client, &info).await, 1).contains(&"public".to_string()));
    let info = client.get_table_types().await.unwrap();
    assert_eq!(texts(&fetch(&mut client, &info).await, 0), ["TABLE", "VIEW"]);
    for (pattern, types, include_schema, found) in [
        (Some("se_n"), vec![], false, 1),
        (Some("seen"), vec!["view".to_string()], true, 1),
        (Some("seen"), vec!["BASE TABLE".to_string(), "table".to_string()], true, 0),
        (Some("SELECT '%[(\\' FROM seen"), vec![], false, 0),
    ] {
        let command = CommandGetTables {
            table_name_filter_pattern: pattern.map(String::from),
            table_types: types,
            include_schema,
            ..CommandGetTables::default()
        };
        let info = client.get_tables(command).await.unwrap();
        let tables = fetch(&mut client, &info).await;
        assert_eq!(tables.iter().map(RecordBatch::num_rows).sum::<usize>(), found, "{pattern:?}");
        assert_eq!(info.try_decode_schema().unwrap().fields().len(), if include_schema { 5 } else { 4 });
    }
    let info = client.get_sql_info(vec![]).await.unwrap();
    assert_eq!(fetch(&mut client, &info).await[0].num_rows(), 91);
    let info = client.get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None }).await.unwrap();
    assert_eq!(fetch(&mut client, &info).await[0].num_rows(), 17);
    let info = client.get_primary_keys(CommandGetPrimaryKeys { table: "seen".into(), ..Default::default() }).await;
    assert_eq!(fetch(&mut client, &info.unwrap()).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_ingested() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let create = (TableNotExistOption::Create, TableExistsOption::Fail);
    let append = (TableNotExistOption::Fail, TableExistsOption::Append);
    let replace = (TableNotExistOption::Create, TableExistsOption::Replace);
    for temporary in [true, false] {
        let table = if temporary { "scratch" } else { "kept" };
        for ((missing, exists), rows, total) in [
            (append, Err(Code::NotFound), -1),
            (create, Ok(3), 3),
            (create, Err(Code::AlreadyExists), 3),
            (append, Ok(3), 6),
            (replace, Ok(3), 3),
        ] {
            let command = CommandStatementIngest {
                table_definition_options: Some(TableDefinitionOptions {
                    if_not_exist: missing as i32,
                    if_exists: exists as i32,
                }),
                table: table.into(),
                temporary,
                ..CommandStatementIngest::default()
            };
            let batch = ints(&[("a", &[Some(1), None, Some(3)]), ("b", &[Some(1), Some(2), Some(3)])]);
            let sent = client.execute_ingest(command, futures::stream::iter([Ok(batch)])).await;
            match rows {
                Ok(rows) => assert_eq!(sent.unwrap(), rows, "{table} {missing:?} {exists:?}"),
                Err(code) => assert_eq!(sent.unwrap_err_code(), code, "{table} {missing:?} {exists:?}"),
            }
            if total >= 0 {
                assert_eq!(integer(&query(&mut client, &format!("SELECT count(*) FROM {table}")).await), total);
            }
        }
    }
    let tables = query(&mut client, "SHOW TABLES").await;
    assert!(!format!("{tables:?}").contains("sinew_ingest"), "the source of an ingest is taken out again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_closed_stops_what_runs() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let info = client.execute(ENDLESS.into(), None).await.unwrap();
    let rows = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
    client.do_action(Action::new("CloseSession", "")).await.unwrap();
    let error = rows.try_collect::<Vec<_>>().await.unwrap_err().to_string();
    assert!(error.contains("SINEW-3006"), "{error}");
}
