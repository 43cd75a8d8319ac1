//! Who may come in, what they may do, and what no client can reach: over the wire, as an attacker would try it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{
    Any, CommandGetTables, CommandPreparedStatementQuery, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, ProstMessageExt, TableDefinitionOptions, TableExistsOption, TableNotExistOption,
    TicketStatementQuery,
};
use arrow_flight::{Action, FlightData, FlightDescriptor, HandshakeRequest, Ticket};
use datafusion::arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use prost::Message;
use sinew::flight::auth::audit::Audit;
use sinew::flight::auth::secret::to_base64;
use sinew::flight::auth::{Guard, GuardOptions, tokens};
use sinew::flight::{ConnectOptions, ServeOptions, Tls, serve};
use sinew::{Session, SessionOptions};
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

type Client = FlightSqlServiceClient<Channel>;

/// A server in this process, with a folder of its own.
struct Server {
    place: tempfile::TempDir,
    port: u16,
    token: String,
    _stop: oneshot::Sender<()>,
}

const PEOPLE: [(&str, &str); 5] =
    [("reader", "read"), ("writer", "write"), ("trainer", "train"), ("boss", "admin"), ("other", "train")];

/// A user whose password is the name, with a hash that costs little: nothing here is optimised.
fn line(name: &str, roles: &str) -> String {
    use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::SaltString};
    let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
    let salt = SaltString::encode_b64(b"salt and pepper").unwrap();
    format!("{name}:{roles}:{}", cheap.hash_password(name.as_bytes(), &salt).unwrap())
}

/// Threads for statements, with the stacks that the commands give them.
fn workers() -> Handle {
    static THREADS: OnceLock<Runtime> = OnceLock::new();
    let threads = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(4).thread_stack_size(sinew::daemon::STACK).enable_all().build().unwrap()
    };
    THREADS.get_or_init(threads).handle().clone()
}

impl Server {
    /// One that asks who comes: the people above, each with the name as password, and a token.
    async fn guarded() -> Self {
        Self::start(SessionOptions::in_memory(), true, |_| None).await
    }

    /// One that asks nobody.
    async fn open(options: SessionOptions) -> Self {
        Self::start(options, false, |_| None).await
    }

    async fn start(options: SessionOptions, asks: bool, tls: impl Fn(&Path) -> Option<Tls>) -> Self {
        let place = tempfile::tempdir().unwrap();
        let (token, digest) = tokens::new().unwrap();
        let [people, robots, audit] = ["users", "tokens", "audit.jsonl"].map(|name| place.path().join(name));
        std::fs::write(&people, PEOPLE.map(|(name, roles)| line(name, roles)).join("\n")).unwrap();
        std::fs::write(&robots, format!("robot:read:{digest}\n")).unwrap();
        let guard = GuardOptions {
            users: asks.then_some(people),
            tokens: asks.then_some(robots),
            audit: Audit::file(&audit).unwrap(),
            ..GuardOptions::default()
        };
        let tls = tls(place.path());
        let guard = Arc::new(Guard::new(guard).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let session = Session::embedded(options).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let options = ServeOptions { guard: Some(guard), tls, workers: Some(workers()), ..ServeOptions::default() };
        tokio::spawn(serve(session, listener, options, async move {
            let _ = stopped.await;
        }));
        Self { place, port, token, _stop: stop }
    }

    fn url(&self) -> String {
        format!("grpc://127.0.0.1:{}", self.port)
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.port)).unwrap();
        endpoint.connect().await.unwrap()
    }

    async fn client(&self) -> Client {
        let mut client = FlightSqlServiceClient::new(self.channel().await);
        client.set_header("x-test", "1");
        client
    }

    /// A client that has logged in.
    async fn of(&self, user: &str) -> Client {
        let mut client = self.client().await;
        client.handshake(user, user).await.unwrap();
        client
    }

    fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.place.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn status<T>(result: Result<T, FlightError>) -> Status {
    match result {
        Err(FlightError::Tonic(status)) => *status,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was allowed"),
    }
}

async fn rows(client: &mut Client, sql: &str) -> Result<Vec<RecordBatch>, FlightError> {
    let info = client.execute(sql.into(), None).await?;
    client.do_get(info.endpoint[0].ticket.clone().unwrap()).await?.try_collect().await
}

/// The rows of a statement that is its own ticket.
async fn once(client: &mut Client, sql: &str) -> Vec<RecordBatch> {
    let command = CommandStatementQuery { query: sql.into(), transaction_id: None };
    let sent = client.do_get(Ticket::new(command.as_any().encode_to_vec())).await.unwrap();
    sent.try_collect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_logs_in_by_password_or_token_and_nobody_else_does() {
    let server = Server::guarded().await;
    // The handshake gives a token, which stands for the user from then on.
    assert_eq!(rows(&mut server.of("reader").await, "SELECT 1").await.unwrap().len(), 1);
    // Basic with any call does as well, with padding or without, and the answer has a token.
    for text in [to_base64(b"reader:reader"), "cmVhZGVyOnJlYWRlcg==".into()] {
        let mut client = server.client().await;
        client.set_header("authorization", format!("Basic {text}"));
        rows(&mut client, "SELECT 1").await.unwrap();
        let mut request = tonic::Request::new(futures::stream::iter([HandshakeRequest::default()]));
        request.metadata_mut().insert("authorization", format!("Basic {text}").parse().unwrap());
        let answer = client.inner_mut().handshake(request).await.unwrap();
        let bearer = answer.metadata().get("authorization").unwrap().to_str().unwrap();
        assert!(bearer.starts_with("Bearer sinew_"), "{bearer}");
    }
    let mut robot = server.client().await;
    robot.set_token(server.token.clone());
    rows(&mut robot, "SELECT 1").await.unwrap();

    let wrong = |user: &str, password: &str| format!("Basic {}", to_base64(format!("{user}:{password}").as_bytes()));
    let mut texts = Vec::new();
    for header in [
        wrong("reader", "guess"),
        wrong("nobody", "guess"),
        wrong("", ""),
        "Bearer None".into(),
        format!("Bearer sinew_{}", "0".repeat(64)),
        format!("Bearer {}", "x".repeat(12_000)),
        "Basic !!!".into(),
        "Negotiate abc".into(),
    ] {
        let mut client = server.client().await;
        client.set_header("authorization", header.as_str());
        let refused = status(rows(&mut client, "SELECT 1").await);
        assert_eq!(refused.code(), Code::Unauthenticated, "{header:.40}: {refused}");
        assert!(refused.message().starts_with("SINEW-3701") && !refused.message().contains("guess"), "{refused}");
        texts.push(refused.message().to_string());
    }
    assert_eq!(texts[0], texts[1], "the text does not tell whether there is such a user");
    // Every call is behind the door, not only statements.
    let mut client = server.client().await;
    assert_eq!(status(client.get_catalogs().await).code(), Code::Unauthenticated);
    assert_eq!(status(client.do_action(Action::new("CloseSession", "")).await.map(drop)).code(), Code::Unauthenticated);
    let listed = client.inner_mut().list_actions(arrow_flight::Empty {}).await.map(drop).unwrap_err();
    assert_eq!(listed.code(), Code::Unauthenticated);
    assert!(server.audit().iter().any(|line| line["kind"] == "login" && line["outcome"] == "SINEW-3701"));
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_is_slowed_down() {
    let server = Server::guarded().await;
    let mut slowed = None;
    for _ in 0..8 {
        let refused = server.client().await.handshake("boss", "guess").await;
        let text = format!("{:?}", refused.unwrap_err());
        slowed = slowed.or(text.contains("SINEW-3702").then_some(text));
    }
    assert!(slowed.is_some_and(|text| text.contains("try again in")), "the fifth attempt and those after it wait");
    // Other users are let in meanwhile.
    rows(&mut server.of("reader").await, "SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_connects_as_a_user() {
    let server = Server::guarded().await;
    let login = |user: &str, password: &str| ConnectOptions {
        user: Some(user.into()),
        password: Some(password.into()),
        ..ConnectOptions::default()
    };
    let session = Session::connect_with(&server.url(), login("writer", "writer")).await.unwrap();
    session.sql("CREATE TABLE t AS SELECT 1 AS a").collect().await.unwrap();
    assert_eq!(session.sibling().sql("SELECT * FROM t").collect().await.unwrap()[0].num_rows(), 1);
    let token = ConnectOptions { token: Some(server.token.clone()), ..ConnectOptions::default() };
    let session = Session::connect_with(&server.url(), token).await.unwrap();
    session.sql("SELECT 1").collect().await.unwrap();
    let error = session.sql("DROP TABLE t").collect().await.unwrap_err().to_string();
    assert!(error.starts_with("SINEW-3703") && error.contains("'write'") && error.contains("robot"), "{error}");
    let error = Session::connect_with(&server.url(), login("writer", "x")).await.unwrap_err().to_string();
    assert!(error.starts_with("SINEW-3701"), "{error}");
    let nobody = Session::connect(&server.url()).await.unwrap();
    let error = nobody.sql("SELECT 1").collect().await.unwrap_err().to_string();
    assert!(error.starts_with("SINEW-3701") && error.contains("--user"), "{error}");
}

/// Statements, and who of [`PEOPLE`] may run them beside the administrator.
const STATEMENTS: [(&str, &[&str]); 20] = [
    ("SELECT 1", &["reader", "writer", "trainer"]),
    ("SHOW MODELS", &["reader", "writer", "trainer"]),
    ("SHOW TRAINING", &["reader", "writer", "trainer"]),
    ("CANCEL TRAINING 'none'", &["reader", "writer", "trainer"]),
    ("SET datafusion.execution.batch_size = 100", &["reader", "writer", "trainer"]),
    ("EXPLAIN CREATE TABLE e AS SELECT 1 AS a", &["reader", "writer", "trainer"]),
    ("SELECT PREDICT(m, *) FROM (SELECT 1 AS x)", &["reader", "writer", "trainer"]),
    ("CREATE TABLE w AS SELECT 1 AS a", &["writer"]),
    ("INSERT INTO t SELECT 1", &["writer"]),
    ("EXPLAIN ANALYZE INSERT INTO t SELECT 1", &["writer"]),
    ("COPY (SELECT 1 AS a) TO '{place}/x.csv'", &["writer"]),
    ("CREATE VIEW v AS SELECT 1 AS a", &["writer"]),
    ("PREPARE p AS INSERT INTO t SELECT 1", &["writer"]),
    ("DROP TABLE IF EXISTS w", &["writer"]),
    ("TRAIN MODEL n USING linear_regression PREDICT y AS SELECT value AS x, value AS y FROM range(0, 9)", &["trainer"]),
    ("EXPLAIN ANALYZE TRAIN MODEL n USING linear_regression PREDICT y AS SELECT 1 AS x, 1 AS y", &["trainer"]),
    ("DROP MODEL IF EXISTS n", &["trainer"]),
    ("SET sinew.cache_limit = '1GB'", &[]),
    ("SET datafusion.runtime.memory_limit = '1T'", &[]),
    ("SET datafusion.runtime.temp_directory = '/etc'", &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_needs_its_role() {
    let server = Server::guarded().await;
    let mut boss = server.of("boss").await;
    let train = "TRAIN MODEL m USING linear_regression PREDICT y AS SELECT value AS x, 2 * value AS y FROM range(0, 9)";
    for sql in ["CREATE TABLE t (a BIGINT)", train] {
        rows(&mut boss, sql).await.unwrap();
    }
    for (user, _) in &PEOPLE[..3] {
        let mut client = server.of(user).await;
        for (sql, allowed) in STATEMENTS {
            let sql = sql.replace("{place}", &server.place.path().join(user).display().to_string());
            let (asked, prepared) = (rows(&mut client, &sql).await, client.prepare(sql.clone(), None).await.map(drop));
            let updated = client.execute_update(sql.clone(), None).await;
            if allowed.contains(user) {
                if let Err(FlightError::Tonic(status)) = &asked {
                    assert_ne!(status.code(), Code::PermissionDenied, "{user}: {sql}: {status}");
                }
                continue;
            }
            for refused in [status(asked), status(prepared), status(updated)] {
                assert_eq!(refused.code(), Code::PermissionDenied, "{user}: {sql}: {refused}");
                assert!(refused.message().starts_with("SINEW-3703") && refused.message().contains(user), "{refused}");
            }
        }
        // The other doors of the same rooms.
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let command = CommandStatementIngest { table: "t".into(), ..CommandStatementIngest::default() };
        let ingested = client.execute_ingest(command, futures::stream::iter([Ok(batch)])).await;
        let denied = matches!(&ingested, Err(FlightError::Tonic(s)) if s.code() == Code::PermissionDenied);
        assert_eq!(denied, *user != "writer", "{user}: {ingested:?}");
    }
    let denied = server.audit().into_iter().filter(|line| line["outcome"] == "SINEW-3703").count();
    assert!(denied > 20, "{denied} refusals are in the audit");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_user_has_is_worth_nothing_to_another() {
    let server = Server::guarded().await;
    let mut writer = server.of("writer").await;
    writer.execute_update("CREATE VIEW mine AS SELECT 1 AS n".into(), None).await.unwrap();
    let prepared = {
        let command = CommandStatementQuery { query: "SELECT n FROM mine".into(), transaction_id: None };
        let action =
            arrow_flight::sql::ActionCreatePreparedStatementRequest { query: command.query, transaction_id: None };
        let action = Action::new("CreatePreparedStatement", action.as_any().encode_to_vec());
        let answer: Vec<_> = writer.do_action(action).await.unwrap().try_collect().await.unwrap();
        let any = Any::decode(&*answer[0].body).unwrap();
        any.unpack::<arrow_flight::sql::ActionCreatePreparedStatementResult>().unwrap().unwrap()
    };
    let mut request = tonic::Request::new(FlightDescriptor::new_cmd(
        CommandStatementQuery { query: "SELECT n FROM mine".into(), transaction_id: None }.as_any().encode_to_vec(),
    ));
    let bearer = format!("Bearer {}", writer.token().unwrap());
    request.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let answer = writer.inner_mut().get_flight_info(request).await.unwrap();
    let cookie = answer.metadata().get("set-cookie").unwrap().to_str().unwrap().to_string();
    let ticket = answer.into_inner().endpoint[0].ticket.clone().unwrap();

    let mut reader = server.of("reader").await;
    assert_eq!(status(reader.do_get(ticket.clone()).await.map(drop)).code(), Code::NotFound);
    let handle = CommandPreparedStatementQuery { prepared_statement_handle: prepared.prepared_statement_handle };
    let mut stolen = tonic::Request::new(FlightDescriptor::new_cmd(handle.as_any().encode_to_vec()));
    stolen.metadata_mut().insert("authorization", format!("Bearer {}", reader.token().unwrap()).parse().unwrap());
    assert_eq!(reader.inner_mut().get_flight_info(stolen).await.unwrap_err().code(), Code::NotFound);
    // The cookie of a session does not open it to another user, on another connection or on the same one.
    reader.set_header("cookie", cookie.as_str());
    let refused = status(rows(&mut reader, "SELECT n FROM mine").await);
    assert!(refused.message().starts_with("SINEW-3306"), "{refused}");
    let reader_token = reader.token().unwrap().clone();
    writer.set_token(reader_token);
    assert_eq!(status(rows(&mut writer, "SELECT n FROM mine").await).code(), Code::NotFound);
    for forged in ["", "0123456789abcdef0123456789abcdef", "../../etc/passwd", "\u{0}", &"f".repeat(100_000)] {
        let forged = TicketStatementQuery { statement_handle: forged.to_string().into() };
        let forged = Ticket::new(forged.as_any().encode_to_vec());
        assert_eq!(status(writer.do_get(forged).await.map(drop)).code(), Code::NotFound);
    }
}

/// The column of texts of a result.
fn texts(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let column = |batch: &RecordBatch| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
    batches.iter().flat_map(|b| column(b).iter().map(|t| t.unwrap_or("NULL").to_string()).collect::<Vec<_>>()).collect()
}

/// A training that does not end by itself, and a session that has seen its first iteration.
async fn endless(session: &Session, model: &str) -> sinew::Execution {
    let sql = format!(
        "TRAIN MODEL {model} USING logistic_regression PREDICT y OPTIONS (solver = 'sgd', max_iter = 1000000, tol = 0) \
         AS SELECT value % 1000 AS a, value % 7 > 3 AS y FROM range(0, 20000)"
    );
    let mut training = session.sql(&sql).next().await.unwrap().unwrap();
    training.next().await.unwrap().unwrap();
    training
}

#[tokio::test(flavor = "multi_thread")]
async fn trainings_are_seen_and_cancelled_by_their_user_and_by_administrators() {
    let server = Server::guarded().await;
    let login = async |user: &str| {
        let (user, password) = (Some(user.to_string()), Some(user.to_string()));
        Session::connect_with(&server.url(), ConnectOptions { user, password, ..ConnectOptions::default() })
            .await
            .unwrap()
    };
    let ask = async |session: &Session, sql: &str| session.sql(sql).collect().await.map_err(|e| e.to_string());
    let (trainer, other, boss) = (login("trainer").await, login("other").await, login("boss").await);
    let (mut first, mut second) = (endless(&trainer, "a").await, endless(&trainer, "b").await);
    let mut third = endless(&other, "c").await;

    // Another session of the same user sees the same.
    for session in [&trainer, &login("trainer").await] {
        let shown = ask(session, "SHOW TRAINING").await.unwrap();
        assert_eq!(texts(&shown, "model"), ["a", "b"]);
        assert_eq!(texts(&shown, "user"), ["trainer", "trainer"]);
        assert!(texts(&shown, "statement")[0].contains("USING logistic_regression"));
        assert!(shown[0].column_by_name("iteration").unwrap().is_valid(0), "{shown:?}");
    }
    assert_eq!(texts(&ask(&other, "SHOW TRAINING").await.unwrap(), "model"), ["c"]);
    assert_eq!(texts(&ask(&login("reader").await, "SHOW TRAINING").await.unwrap(), "model"), [""; 0]);
    let all = ask(&boss, "SHOW TRAINING").await.unwrap();
    assert_eq!(
        (texts(&all, "model"), texts(&all, "user")[2].as_str()),
        (["a", "b", "c"].map(String::from).to_vec(), "other")
    );

    // The training of another user is as unknown as one that there is not.
    let runs = texts(&all, "run");
    let cancel = |run: &str| format!("CANCEL TRAINING '{run}'");
    for (session, run) in [(&other, runs[0].as_str()), (&trainer, runs[2].as_str()), (&boss, "none")] {
        let error = ask(session, &cancel(run)).await.unwrap_err();
        assert!(error.starts_with("SINEW-3603") && error.contains(run), "{error}");
    }
    ask(&trainer, &cancel(&runs[0])).await.unwrap();
    ask(&boss, &cancel(&runs[2])).await.unwrap();
    for ended in [&mut first, &mut third] {
        let error = loop {
            if let Err(error) = ended.next().await.expect("a cancelled training does not end well") {
                break error.to_string();
            }
        };
        assert!(error.starts_with("SINEW-3006"), "{error}");
    }
    assert_eq!(texts(&ask(&boss, "SHOW TRAINING").await.unwrap(), "model"), ["b"]);
    assert!(second.next().await.unwrap().is_ok(), "the other training goes on");
    drop(second);
    assert_eq!(texts(&ask(&boss, "SHOW MODELS").await.unwrap(), "name"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_sees_and_cancels_all_that_its_process_trains() {
    let session = Session::embedded(SessionOptions::in_memory()).unwrap();
    let mut training = endless(&session, "m").await;
    let sibling = session.sibling();
    let shown = sibling.sql("SHOW TRAINING").collect().await.unwrap();
    assert_eq!((texts(&shown, "model")[0].as_str(), texts(&shown, "user")[0].as_str()), ("m", "NULL"));
    let cancelled = format!("CANCEL TRAINING '{}'", texts(&shown, "run")[0]);
    let read = async {
        while let Some(row) = training.next().await {
            if let Err(error) = row {
                return error.to_string();
            }
        }
        "it ended well".into()
    };
    let (cancelled, ended) = tokio::join!(sibling.sql(&cancelled).collect(), read);
    cancelled.unwrap();
    assert!(ended.starts_with("SINEW-3006"), "{ended}");
    assert!(training.next().await.is_none());
    let left = sibling.sql("SHOW TRAINING").collect().await.unwrap();
    assert_eq!(texts(&left, "model"), [""; 0]);
}

/// Files that may be read, and others beside them.
struct Files {
    place: tempfile::TempDir,
    inside: PathBuf,
    outside: PathBuf,
}

impl Files {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
        for folder in [&inside, &outside] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("x.csv"), "a,y\n1,1\n2,2\n3,3\n").unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("folder")).unwrap();
        std::fs::create_dir(inside.join("mixed")).unwrap();
        std::fs::write(inside.join("mixed/own.csv"), "a,y\n7,7\n").unwrap();
        std::os::unix::fs::symlink(outside.join("x.csv"), inside.join("mixed/link.csv")).unwrap();
        std::os::unix::fs::symlink(outside.join("x.csv"), inside.join("link.csv")).unwrap();
        Self { place, inside, outside }
    }

    fn options(&self) -> SessionOptions {
        let mut options = SessionOptions::new();
        options.set("warehouse", "", &self.place.path().join("warehouse").display().to_string()).unwrap();
        options.set("roots", "", &self.inside.display().to_string()).unwrap();
        options
    }

    /// Every way to write an address that lies outside.
    fn addresses(&self) -> Vec<String> {
        let (inside, outside) = (self.inside.display(), self.outside.display());
        vec![
            format!("{outside}/x.csv"),
            format!("{outside}/"),
            format!("{outside}/*.csv"),
            format!("file://{outside}/x.csv"),
            format!("file://localhost{outside}/x.csv"),
            format!("{inside}/../outside/x.csv"),
            format!("{inside}/folder/x.csv"),
            format!("{inside}/folder/"),
            format!("{inside}/link.csv"),
            format!("file://{inside}/%2e%2e/outside/x.csv"),
            format!("file://{inside}/..%2Foutside/x.csv"),
            "/etc/passwd".into(),
            "/etc/*".into(),
            "/proc/self/environ".into(),
            "http://169.254.169.254/latest/meta-data/x.csv".into(),
            "https://example.org/x.csv".into(),
            "s3://somewhere/x.csv".into(),
            "abfss://c@account.dfs.core.windows.net/x.csv".into(),
        ]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_the_roots_is_read_or_written() {
    let files = Files::new();
    let server = Server::open(files.options()).await;
    let mut client = server.client().await;
    let inside = files.inside.display().to_string();
    rows(&mut client, &format!("SELECT * FROM '{inside}/x.csv'")).await.unwrap();
    rows(&mut client, &format!("COPY (SELECT 1 AS a) TO '{inside}/new/y.csv'")).await.unwrap();
    rows(&mut client, "CREATE TABLE kept AS SELECT 1 AS a").await.unwrap();
    // Of a folder, only what lies in it is read.
    let mixed = rows(&mut client, &format!("SELECT a FROM '{inside}/mixed/*.csv'")).await.unwrap();
    assert_eq!(mixed.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "{mixed:?}");

    let before = std::fs::read_dir(&files.outside).unwrap().count();
    for (number, address) in files.addresses().iter().enumerate() {
        let columns =
            format!("CREATE EXTERNAL TABLE b{number} (a BIGINT, y BIGINT) STORED AS CSV LOCATION '{address}'");
        for sql in [
            format!("SELECT * FROM '{address}'"),
            format!("SELECT (SELECT max(a) FROM '{address}')"),
            format!("EXPLAIN SELECT * FROM '{address}'"),
            format!("CREATE TABLE c{number} AS SELECT * FROM '{address}'"),
            format!("CREATE VIEW v{number} AS SELECT * FROM '{address}'"),
            format!("CREATE EXTERNAL TABLE e{number} STORED AS CSV LOCATION '{address}'"),
            format!("{columns}; SELECT * FROM b{number}"),
            format!("{columns}; INSERT INTO b{number} VALUES (1, 1)"),
            format!("COPY (SELECT 1 AS a) TO '{address}' STORED AS CSV"),
            format!("COPY (SELECT * FROM '{address}') TO '{inside}/stolen.csv'"),
            format!("TRAIN MODEL m USING linear_regression PREDICT y FROM '{address}'"),
            format!("SELECT * FROM ML.PREDICT(MODEL m, TABLE '{address}')"),
        ] {
            let mut refused = None;
            for piece in sql.split("; ") {
                for door in 0..3 {
                    let result = match door {
                        0 => rows(&mut client, piece).await.map(drop),
                        1 => client.execute_update(piece.to_string(), None).await.map(drop),
                        _ => client.prepare(piece.to_string(), None).await.map(drop),
                    };
                    match result {
                        Err(FlightError::Tonic(status)) => drop(refused.get_or_insert(*status)),
                        Err(other) => panic!("{piece}: {other}"),
                        // Preparing reads nothing where columns are given.
                        Ok(()) => assert!(piece.starts_with("CREATE EXTERNAL") || door == 2, "{piece} was allowed"),
                    }
                }
            }
            let refused = refused.unwrap_or_else(|| panic!("{sql} was allowed"));
            assert!(refused.message().starts_with("SINEW-") && refused.code() != Code::Internal, "{sql}: {refused}");
            assert!(!refused.message().contains("root:"), "{refused}");
            if address.starts_with(files.outside.to_str().unwrap()) && !sql.contains("ML.PREDICT") {
                assert_eq!(refused.code(), Code::PermissionDenied, "{sql}: {refused}");
                assert!(refused.message().contains("SINEW-3704") && refused.message().contains("--roots"), "{refused}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(&files.outside).unwrap().count(), before, "nothing was written outside");
    assert_eq!(std::fs::read_to_string(files.outside.join("x.csv")).unwrap(), "a,y\n1,1\n2,2\n3,3\n");
    assert!(!files.inside.join("stolen.csv").exists());
    // In a path, as opposed to an address, a percent sign is one.
    let _ = rows(&mut client, &format!("COPY (SELECT 1 AS a) TO '{inside}/%2e%2e/outside/x.csv'")).await;
    assert_eq!(std::fs::read_to_string(files.outside.join("x.csv")).unwrap(), "a,y\n1,1\n2,2\n3,3\n");
    // Files of the warehouse are read by name, and written as tables only.
    let warehouse = files.place.path().join("warehouse/tables/kept/manifests/00000009.json");
    let refused = status(rows(&mut client, &format!("COPY (SELECT 1 AS a) TO '{}'", warehouse.display())).await);
    assert!(refused.message().contains("warehouse"), "{refused}");
    rows(&mut client, "SELECT * FROM kept").await.unwrap();
    let refused = status(rows(&mut client, "SET sinew.roots = 'any'").await);
    assert!(refused.message().starts_with("SINEW-3007"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_that_name_no_address_are_confined_as_well() {
    let files = Files::new();
    let session = Session::embedded(files.options()).unwrap();
    // As a plan that was made elsewhere and brings its table: no statement was looked at.
    let csv = datafusion::prelude::CsvReadOptions::new().schema_infer_max_records(0);
    for path in [files.outside.join("x.csv"), files.inside.join("link.csv"), files.inside.join("folder")] {
        let path = path.display().to_string();
        let error = match session.context().read_csv(path.clone(), csv.clone()).await {
            Ok(frame) => frame.collect().await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.to_string().contains("SINEW-3704"), "{path}: {error}");
    }
    let store = session.context().runtime_env().object_store_registry.get_store(&"file:///".parse().unwrap()).unwrap();
    let outside = object_store::path::Path::from_absolute_path(files.outside.join("x.csv")).unwrap();
    let (inside, new) = (files.inside.join("x.csv"), files.inside.join("new.csv"));
    let inside = object_store::path::Path::from_absolute_path(inside).unwrap();
    let new = object_store::path::Path::from_absolute_path(new).unwrap();
    use object_store::ObjectStoreExt;
    assert!(store.get(&inside).await.is_ok() && store.copy(&inside, &new).await.is_ok());
    assert!(store.get(&outside).await.is_err() && store.head(&outside).await.is_err());
    assert!(store.put(&outside, "x".into()).await.is_err() && store.delete(&outside).await.is_err());
    assert!(store.copy(&outside, &new).await.is_err() && store.rename(&inside, &outside).await.is_err());
    assert!(store.put_multipart(&outside).await.is_err());
    assert!(store.list_with_delimiter(None).await.is_err());
    assert!(store.list(None).try_collect::<Vec<_>>().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_at_its_limits_leaves_others_alone() {
    let mut options = SessionOptions::in_memory();
    for (name, value) in [
        ("flight_statements", "2"),
        ("flight_prepared", "3"),
        ("flight_results", "4"),
        ("flight_memory", "20MB"),
        ("flight_message", "1MB"),
        ("flight_text", "1000"),
        ("memory_limit", "200MB"),
    ] {
        options.set(name, name, value).unwrap();
    }
    let server = Server::open(options).await;
    let (mut one, mut other) = (server.client().await, server.client().await);
    let large = "SELECT count(*) FROM range(0, 3000000) a JOIN range(0, 3000000) b ON a.value = b.value";
    let refused = status(rows(&mut other, large).await);
    assert!(refused.code() == Code::ResourceExhausted && refused.message().contains("flight_memory"), "{refused}");
    let endless = "SELECT sum(a.value * b.value % 7) FROM range(1, 100000) b, range(1, 100000000) a";
    let mut running = Vec::new();
    for _ in 0..2 {
        let info = one.execute(endless.into(), None).await.unwrap();
        running.push(one.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap());
    }
    for (what, refused, name) in [
        ("statements", status(rows(&mut one, "SELECT 1").await), "flight_statements"),
        ("text", status(one.execute(format!("SELECT '{}'", "x".repeat(2000)), None).await), "flight_text"),
        ("planning", status(one.prepare("SELECT 1".into(), None).await), "flight_statements"),
        ("describing", status(one.execute("SELECT 1".into(), None).await), "flight_statements"),
    ] {
        assert_eq!(refused.code(), Code::ResourceExhausted, "{what}: {refused}");
        assert!(refused.message().contains(name), "{what}: {refused}");
    }
    drop(running);
    // The server hears of it a moment later.
    for _ in 0..200 {
        if rows(&mut one, "SELECT 1").await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut open = Vec::new();
    let refused = loop {
        match one.prepare("SELECT 1".into(), None).await {
            Ok(prepared) => open.push(prepared),
            Err(error) => break status(Err::<(), _>(error)),
        }
    };
    assert!(open.len() == 3 && refused.message().contains("flight_prepared"), "{refused}");
    // A message that is too large is refused before it is read.
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1; 400_000]));
    let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
    let command = CommandStatementIngest { table: "big".into(), temporary: true, ..Default::default() };
    let sent = one.execute_ingest(command, futures::stream::iter([Ok(batch)])).await;
    assert!(sent.is_err());
    assert_eq!(rows(&mut other, "SELECT 1").await.unwrap().len(), 1);
    assert_eq!(rows(&mut server.client().await, "SELECT 1").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_needs_one_permit_from_its_plan_to_its_end() {
    let mut options = SessionOptions::in_memory();
    options.set("flight_statements", "", "1").unwrap();
    let server = Server::open(options).await;
    let mut client = server.client().await;
    let train =
        "TRAIN MODEL m USING linear_regression PREDICT y AS SELECT value AS x, 2 * value AS y FROM range(0, 50)";
    for _ in 0..20 {
        assert_eq!(rows(&mut client, "SELECT 1").await.unwrap().len(), 1);
        client.execute_update("CREATE OR REPLACE VIEW v AS SELECT 1 AS a".into(), None).await.unwrap();
        let mut prepared = client.prepare("SELECT a FROM v".into(), None).await.unwrap();
        let info = prepared.execute().await.unwrap();
        let sent = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        assert_eq!(sent.try_collect::<Vec<_>>().await.unwrap().len(), 1);
        assert_eq!(once(&mut client, "SELECT a FROM v").await.len(), 1);
    }
    assert!(!rows(&mut client, train).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_a_temporary_table_goes_with_it() {
    let mut options = SessionOptions::in_memory();
    for (name, value) in [("flight_memory", "20MB"), ("memory_limit", "200MB")] {
        options.set(name, name, value).unwrap();
    }
    let server = Server::open(options).await;
    let mut client = server.client().await;
    // 8 MB: there is room for two.
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000_000));
    let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
    let ingest = async |client: &mut Client, table: &str, exists: TableExistsOption| {
        let options =
            TableDefinitionOptions { if_not_exist: TableNotExistOption::Create as i32, if_exists: exists as i32 };
        let command = CommandStatementIngest {
            table_definition_options: Some(options),
            table: table.into(),
            temporary: true,
            ..Default::default()
        };
        client.execute_ingest(command, futures::stream::iter([Ok(batch.clone())])).await
    };
    for _ in 0..4 {
        ingest(&mut client, "t", TableExistsOption::Replace).await.unwrap();
    }
    // Rows that are inserted count, those of an INSERT that fails do not.
    for _ in 0..3 {
        let refused = client.execute_update("INSERT INTO t SELECT value FROM range(0, 2000000)".into(), None).await;
        let refused = status(refused);
        assert!(refused.code() == Code::ResourceExhausted && refused.message().contains("flight_memory"), "{refused}");
    }
    ingest(&mut client, "t", TableExistsOption::Append).await.unwrap();
    let refused = status(ingest(&mut client, "t", TableExistsOption::Append).await);
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // A result that can be fetched again would keep the rows.
    let count = once(&mut client, "SELECT count(*) FROM t").await;
    assert_eq!(count[0].column(0).as_primitive::<Int64Type>().value(0), 2_000_000);
    client.execute_update("DROP TABLE t".into(), None).await.unwrap();
    for _ in 0..4 {
        ingest(&mut client, "u", TableExistsOption::Fail).await.unwrap();
        client.execute_update("DROP TABLE u".into(), None).await.unwrap();
    }
    // A table that a statement has made is counted as soon as rows are sent for it.
    let made = "CREATE TEMPORARY TABLE w AS SELECT value AS a FROM range(0, 1000000)";
    client.execute_update(made.into(), None).await.unwrap();
    ingest(&mut client, "w", TableExistsOption::Append).await.unwrap();
    let refused = status(ingest(&mut client, "w", TableExistsOption::Append).await);
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let count = once(&mut client, "SELECT count(*) FROM w").await;
    assert_eq!(count[0].column(0).as_primitive::<Int64Type>().value(0), 2_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_that_floods_the_server_costs_others_nothing() {
    let server = Server::open(SessionOptions::in_memory()).await;
    let mut flood = server.client().await;
    let (mut open, mut refused) = (0, 0);
    for _ in 0..10_000 {
        let action =
            arrow_flight::sql::ActionCreatePreparedStatementRequest { query: "SELECT 1".into(), transaction_id: None };
        let action = Action::new("CreatePreparedStatement", action.as_any().encode_to_vec());
        match flood.do_action(action).await {
            Ok(_) => open += 1,
            Err(error) => {
                assert_eq!(status(Err::<(), _>(error)).code(), Code::ResourceExhausted);
                refused += 1;
            }
        }
        if refused > 200 {
            break;
        }
    }
    assert_eq!((open, refused), (1000, 201));
    let start = std::time::Instant::now();
    assert_eq!(rows(&mut server.client().await, "SELECT 1").await.unwrap().len(), 1);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_user_have_an_end() {
    let mut options = SessionOptions::in_memory();
    options.set("flight_user_sessions", "", "2").unwrap();
    let server = Server::start(options, true, |_| None).await;
    let (mut one, mut two) = (server.of("reader").await, server.of("reader").await);
    for client in [&mut one, &mut two] {
        rows(client, "SELECT 1").await.unwrap();
    }
    let mut three = server.client().await;
    let text = format!("{:?}", three.handshake("reader", "reader").await.unwrap_err());
    assert!(text.contains("flight_user_sessions"), "{text}");
    rows(&mut server.of("writer").await, "SELECT 1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_leaves_a_line() {
    let server = Server::guarded().await;
    let mut client = server.of("writer").await;
    rows(&mut client, "SELECT value FROM range(0, 7)").await.unwrap();
    client.execute_update("CREATE TABLE t AS SELECT 1 AS a".into(), None).await.unwrap();
    let _ = rows(&mut client, "SELECT nonsense").await;
    let _ = rows(&mut client, "SET sinew.s3_secret_access_key = 'hush-hush'").await;
    let _ = rows(&mut client, "SET sinew.azure_key = hush-hush").await;
    let _ = rows(&mut client, "SELECT * FROM 's3://AKIA:hush-hush@b/x.csv'").await;
    let info =
        client.execute("SELECT count(*) FROM range(0, 100000000) a, range(0, 100000) b".into(), None).await.unwrap();
    drop(client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap());
    let mut lines = Vec::new();
    for _ in 0..200 {
        lines = server.audit();
        if lines.iter().any(|line| line["outcome"] == "cancelled") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let found = |text: &str| lines.iter().find(|line| line["statement"].as_str().is_some_and(|s| s.contains(text)));
    let query = found("range(0, 7)").unwrap();
    assert_eq!(
        (query["user"].as_str(), query["rows"].as_u64(), query["outcome"].as_str()),
        (Some("writer"), Some(7), Some("ok"))
    );
    assert!(query["peer"].as_str().unwrap().starts_with("127.0.0.1:") && query["ms"].as_f64().unwrap() >= 0.0);
    assert_eq!(found("CREATE TABLE").unwrap()["role"], "write");
    assert!(found("nonsense").unwrap()["outcome"].as_str().unwrap().starts_with("SINEW-"));
    assert!(lines.iter().any(|line| line["outcome"] == "cancelled"), "{lines:?}");
    let text = std::fs::read_to_string(server.place.path().join("audit.jsonl")).unwrap();
    assert!(!text.contains("hush-hush") && found("s3_secret_access_key").is_some(), "{text}");
}

/// An authority, and what it has signed: the server's certificate, and a client's.
fn certificates(folder: &Path) -> (PathBuf, (PathBuf, PathBuf), (PathBuf, PathBuf)) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let signed = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        (write(&format!("{name}.pem"), certificate.pem()), write(&format!("{name}.key"), key.serialize_pem()))
    };
    (write("authority.pem", authority.pem()), signed("server"), signed("client"))
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_encrypted_and_both_sides_know_each_other() {
    let files = tempfile::tempdir().unwrap();
    let (authority, (certificate, key), client) = certificates(files.path());
    for mutual in [false, true] {
        let tls = |_: &Path| Tls::from_files(&certificate, &key, mutual.then_some(authority.as_path())).ok();
        let server = Server::start(SessionOptions::in_memory(), !mutual, tls).await;
        let url = format!("grpcs://localhost:{}", server.port);
        let known = ConnectOptions {
            tls_ca: Some(authority.clone()),
            tls_client: mutual.then(|| client.clone()),
            user: (!mutual).then(|| "reader".to_string()),
            password: (!mutual).then(|| "reader".to_string()),
            ..ConnectOptions::default()
        };
        let session = Session::connect_with(&url, known.clone()).await.unwrap();
        assert_eq!(session.sql("SELECT 1").collect().await.unwrap().len(), 1);
        // Without the authority the server is not trusted; without its certificate a client is not.
        let stranger = ConnectOptions { tls_ca: None, tls_client: None, ..known.clone() };
        let error = Session::connect_with(&url, stranger).await.unwrap_err().to_string();
        assert!(error.starts_with("SINEW-330") && error.to_lowercase().contains("certificate"), "{error}");
        if mutual {
            let nameless = ConnectOptions { tls_client: None, ..known };
            let reached = match Session::connect_with(&url, nameless).await {
                Ok(session) => session.sql("SELECT 1").collect().await.map(drop),
                Err(error) => Err(error),
            };
            assert!(reached.is_err());
        }
        // Plain text gets no answer, and those who are quiet do not keep others out.
        let quiet = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", server.port)).unwrap();
        let answered = match endpoint.connect().await {
            Ok(channel) => FlightSqlServiceClient::new(channel).execute("SELECT 1".into(), None).await.is_ok(),
            Err(_) => false,
        };
        assert!(!answered);
        assert_eq!(session.sql("SELECT 1").collect().await.unwrap().len(), 1);
        drop(quiet);
    }
}

/// What a broken or hostile client may send in place of a message.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let command = CommandStatementQuery { query: "SELECT 1".into(), transaction_id: None }.as_any().encode_to_vec();
    let update = CommandStatementUpdate { query: "SELECT 1".into(), transaction_id: None }.as_any().encode_to_vec();
    let ticket = TicketStatementQuery { statement_handle: "x".into() }.as_any().encode_to_vec();
    let tables = CommandGetTables::default().as_any().encode_to_vec();
    let real = prop_oneof![Just(command), Just(update), Just(ticket), Just(tables)];
    let broken =
        (real, any::<proptest::sample::Index>(), any::<u8>(), 0..3u8).prop_map(|(mut message, at, byte, how)| {
            let at = at.index(message.len());
            match how {
                0 => message.truncate(at),
                1 => message[at] ^= byte,
                _ => message.insert(at, byte),
            }
            message
        });
    let foreign = (".{0,40}", proptest::collection::vec(any::<u8>(), 0..60)).prop_map(|(url, value)| {
        Any { type_url: format!("type.googleapis.com/{url}"), value: value.into() }.encode_to_vec()
    });
    prop_oneof![bytes, broken, foreign]
}

#[test]
fn whatever_bytes_a_client_sends_the_next_request_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::open(SessionOptions::in_memory()));
    let client = tokio::sync::Mutex::new(runtime.block_on(server.client()));
    let actions = [
        "CreatePreparedStatement",
        "ClosePreparedStatement",
        "CancelFlightInfo",
        "CancelQuery",
        "RenewFlightEndpoint",
        "SetSessionOptions",
        "GetSessionOptions",
        "BeginTransaction",
        "nonsense",
    ];
    let config = ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(message in garbage(), header in proptest::collection::vec(any::<u8>(), 0..200),
                        body in proptest::collection::vec(any::<u8>(), 0..200), action in 0..actions.len())| {
        runtime.block_on(async {
            let mut client = client.lock().await;
            let raw = client.inner_mut();
            let descriptor = FlightDescriptor::new_cmd(message.clone());
            let ingest = CommandStatementIngest { table: "t".into(), temporary: true, ..Default::default() };
            let begin = FlightData {
                flight_descriptor: Some(FlightDescriptor::new_cmd(ingest.as_any().encode_to_vec())),
                ..FlightData::default()
            };
            let first = FlightData { flight_descriptor: Some(descriptor.clone()), ..FlightData::default() };
            let data = FlightData { data_header: header.into(), data_body: body.into(), ..FlightData::default() };
            let limit = Duration::from_secs(20);
            let answers = [
                raw.get_flight_info(descriptor.clone()).await.err(),
                raw.poll_flight_info(descriptor.clone()).await.err(),
                raw.get_schema(descriptor).await.err(),
                raw.do_get(Ticket::new(message.clone())).await.err(),
                raw.do_action(Action::new(actions[action], message)).await.err(),
                raw.do_put(futures::stream::iter([first, data.clone()])).await.err(),
                tokio::time::timeout(limit, raw.do_put(futures::stream::iter([begin, data]))).await.unwrap().err(),
            ];
            for status in answers.into_iter().flatten() {
                let bug = matches!(status.code(), Code::Internal | Code::Unknown | Code::DataLoss);
                assert!(!bug, "{status:?}");
                assert!(status.message().starts_with("SINEW-") || status.code() == Code::OutOfRange, "{status:?}");
                assert!(!status.message().contains("backtrace") && !status.message().contains("panicked"), "{status:?}");
            }
            assert_eq!(rows(&mut client, "SELECT 1").await.unwrap().len(), 1);
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_of_100_megabytes_is_refused_and_costs_nothing() {
    let server = Server::open(SessionOptions::in_memory()).await;
    let mut client = server.client().await;
    for size in [17 << 20, 100 << 20] {
        let refused = status(client.execute(format!("SELECT '{}'", "x".repeat(size)), None).await);
        let known = [Code::ResourceExhausted, Code::OutOfRange];
        assert!(known.contains(&refused.code()), "{refused}");
        assert_eq!(rows(&mut client, "SELECT 1").await.unwrap().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wide_and_deep_statements_end() {
    let server = Server::open(SessionOptions::in_memory()).await;
    let mut client = server.client().await;
    let many = |count: usize, piece: &dyn Fn(usize) -> String, between: &str| {
        (0..count).map(piece).collect::<Vec<_>>().join(between)
    };
    for sql in [
        format!("SELECT value FROM range(0, 9) WHERE value IN ({})", many(5_000, &|n| n.to_string(), ",")),
        format!("SELECT {}", many(3_000, &|n| format!("{n} AS c{n}"), ",")),
        format!("SELECT {}", many(3_000, &|_| "1".into(), " + ")),
        format!("SELECT 1 WHERE {}", many(2_000, &|n| format!("{n} = {n}"), " AND ")),
        format!("SELECT {}1{}", "abs(".repeat(3_000), ")".repeat(3_000)),
        format!("{} SELECT 1", "EXPLAIN ".repeat(500)),
        many(300, &|n| format!("SELECT {n}"), " UNION ALL "),
        format!("SELECT \"{}\"", "x".repeat(64 << 10)),
        format!("TRAIN MODEL \"{}\" USING linear_regression PREDICT y AS SELECT 1 AS x, 1 AS y", "x".repeat(300)),
        "TRAIN MODEL \"../../x\" USING linear_regression PREDICT y AS SELECT 1 AS x, 1 AS y".into(),
        "DROP MODEL \"%2e%2e\"".into(),
        "SELECT '\0'".into(),
        "\0".into(),
    ] {
        let ended = tokio::time::timeout(Duration::from_secs(120), rows(&mut client, &sql)).await;
        match ended.unwrap_or_else(|_| panic!("{sql:.60} does not end")) {
            Ok(_) => {}
            Err(FlightError::Tonic(status)) => {
                let fine = status.message().starts_with("SINEW-") && status.code() != Code::Internal;
                assert!(fine && !status.message().contains("panicked"), "{sql:.60}: {status}");
            }
            Err(other) => panic!("{sql:.60}: {other}"),
        }
    }
    assert_eq!(rows(&mut client, "SELECT 1").await.unwrap().len(), 1);
}
