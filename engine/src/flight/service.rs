//! The calls of Flight: each finds its session, does one thing, and answers.

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    Command, DoPutUpdateResult, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, IpcMessage, PollInfo, PutResult, Result as ActionResult, SchemaAsIpc, SchemaResult, Ticket,
};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use datafusion::arrow::record_batch::RecordBatch;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::run::{Leash, Run};
use super::schema::{client_batch, client_schema};
use super::sessions::{ClientSession, Sessions};
use super::statements::{Outcome, PreparedText, Query};
use super::status::to_status;
use super::workers::Workers;
use super::{COLUMN, COOKIE, LINE};
use crate::error::{Result, SinewError};
use crate::session::{ExecutionKind, Piece, Prepared, split};

/// The longest text of a statement, in bytes.
const LONGEST_TEXT: usize = 16 << 20;

type Answer<T> = std::result::Result<T, Status>;

/// Flight SQL over the sessions of a server.
#[derive(Debug)]
pub struct Service {
    sessions: Arc<Sessions>,
    workers: Workers,
}

/// One call: whose it is, and what its answer carries.
struct Call {
    session: Arc<ClientSession>,
    place: (u64, u64),
}

impl Call {
    /// An answer that tells the client its session.
    fn answer<T>(&self, value: T) -> Response<T> {
        let mut response = Response::new(value);
        if let Ok(cookie) = MetadataValue::try_from(format!("{COOKIE}={}", self.session.name)) {
            response.metadata_mut().insert("set-cookie", cookie);
        }
        response
    }
}

/// What a statement will return, and the ticket for it.
struct Opened {
    kind: ExecutionKind,
    schema: SchemaRef,
    ticket: String,
    rows: Option<usize>,
    /// It runs still.
    run: Option<Arc<Run>>,
}

impl Service {
    /// Statements of these sessions run on `workers`.
    pub fn new(sessions: Arc<Sessions>, workers: Workers) -> Self {
        Self { sessions, workers }
    }

    fn call<T>(&self, request: &Request<T>) -> Answer<Call> {
        let place = |name| number(request.metadata(), name).unwrap_or(1);
        Ok(Call { session: self.sessions.of(request)?, place: (place(LINE), place(COLUMN)) })
    }

    /// Parses and plans a statement; starts it if it is one that runs once.
    async fn open(&self, call: &Call, piece: Piece) -> Result<Opened> {
        let session = call.session.session.clone();
        let prepared = self.workers.run(async move { session.prepare(&piece).await }).await?;
        let statements = &call.session.statements;
        if let Prepared::Query(plan) = &prepared {
            let schema = client_schema(plan.schema().as_arrow());
            let query = Query { plans: vec![prepared], schema: Arc::clone(&schema) };
            let ticket = statements.keep(Outcome::Query(Arc::new(query)));
            return Ok(Opened { kind: ExecutionKind::Rows, schema, ticket, rows: None, run: None });
        }
        let (session, permit) = (call.session.session.clone(), statements.begin()?);
        let run = Run::start(&self.workers, async move { prepared.start(&session).await }, permit);
        Ok(Opened {
            kind: ExecutionKind::Done,
            schema: Arc::new(Schema::empty()),
            ticket: statements.keep(Outcome::Run(Arc::clone(&run))),
            rows: None,
            run: Some(run),
        })
    }

    /// Waits until a statement that runs once has columns, or has ended; a caller that goes away cancels it.
    async fn wait(&self, opened: &mut Opened, to_the_end: bool) -> Answer<()> {
        let Some(run) = &opened.run else { return Ok(()) };
        let leash = Leash::new(run);
        (opened.kind, opened.schema) = run.opened().await?;
        if to_the_end {
            opened.rows = Some(run.ended().await?);
        }
        leash.let_go();
        Ok(())
    }

    async fn statement(&self, call: &Call, piece: Piece, to_the_end: bool) -> Answer<Opened> {
        let mut opened = self.open(call, piece).await.map_err(|e| to_status(&e))?;
        self.wait(&mut opened, to_the_end).await?;
        Ok(opened)
    }

    /// The rows a ticket stands for.
    fn rows(&self, call: &Call, outcome: Outcome) -> Result<BoxStream<'static, Answer<FlightData>>> {
        match outcome {
            Outcome::Run(run) => {
                let rows = run.follow();
                let opened = async move { Ok::<_, Status>(encode(run.opened().await?.1, rows)) };
                let closed = call.session.statements.closed();
                Ok(self.workers.stream(until_closed(stream::once(opened).try_flatten(), closed)))
            }
            Outcome::Query(query) => {
                let (session, permit) = (call.session.session.clone(), call.session.statements.begin()?);
                let schema = Arc::clone(&query.schema);
                let rows = stream::iter(0..query.plans.len()).then(move |at| {
                    let (query, session) = (Arc::clone(&query), session.clone());
                    async move {
                        let execution = query.plans[at].start(&session).await?;
                        let rows = execution.map(move |batch| client_batch(&query.schema, &batch?));
                        Ok::<_, SinewError>(rows)
                    }
                });
                let rows = rows.try_flatten().map_err(|e| to_status(&e)).inspect(move |_| {
                    let _running = &permit;
                });
                Ok(self.workers.stream(until_closed(encode(schema, rows), call.session.statements.closed())))
            }
        }
    }

    /// Runs a statement for the number of rows it writes.
    async fn update(&self, call: &Call, piece: Piece) -> Answer<i64> {
        let mut opened = self.open(call, piece).await.map_err(|e| to_status(&e))?;
        if opened.run.is_none() {
            return Err(refused(
                "an update is a statement that returns no rows, and this one does",
                "send it as CommandStatementQuery",
            ));
        }
        self.wait(&mut opened, true).await?;
        let counted = opened.run.as_ref().filter(|_| opened.kind == ExecutionKind::Rows).map(|run| run.count());
        // The report of a training is not a number of rows written.
        Ok(counted.unwrap_or(Some(0)).unwrap_or(-1))
    }
}

/// The rows of a stream as messages under `schema`.
fn encode(
    schema: SchemaRef,
    rows: impl Stream<Item = Answer<RecordBatch>> + Send + 'static,
) -> impl Stream<Item = Answer<FlightData>> + Send + 'static {
    let rows = rows.map_err(FlightError::from);
    FlightDataEncoderBuilder::new().with_schema(schema).build(rows).map_err(Status::from)
}

/// The stream, or an error at its end if the session is closed meanwhile.
fn until_closed<T: Send + 'static>(
    items: impl Stream<Item = Answer<T>> + Send + 'static,
    closed: impl Future<Output = ()> + Send + 'static,
) -> impl Stream<Item = Answer<T>> + Send + 'static {
    let closed = stream::once(async move {
        closed.await;
        None
    });
    let items = items.map(Some).chain(stream::once(async { None }));
    // The end of the items ends the whole; so does the session, with an error.
    let ended = items.map(|item| item.ok_or(false));
    let merged = stream::select(ended, closed.map(|_: Option<()>| Err(true)));
    merged.scan(false, |done, item| {
        let next = match item {
            _ if *done => None,
            Ok(item) => Some(item),
            Err(by_close) => {
                *done = true;
                by_close.then(|| Err(to_status(&SinewError::Cancelled)))
            }
        };
        std::future::ready(next)
    })
}

fn number(metadata: &MetadataMap, name: &str) -> Option<u64> {
    metadata.get(name)?.to_str().ok()?.parse().ok().filter(|n| (1..1 << 32).contains(n))
}

fn refused(what: impl Into<String>, hint: impl Into<String>) -> Status {
    to_status(&SinewError::Request { what: what.into(), hint: hint.into() })
}

/// The message in a descriptor, ticket or action.
fn command(bytes: &[u8]) -> Answer<Command> {
    let hint = "send a message of FlightSql.proto in a google.protobuf.Any";
    let any = Any::decode(bytes).map_err(|e| refused(format!("the message cannot be read: {e}"), hint))?;
    Command::try_from(any).map_err(|e| refused(format!("the message cannot be read: {e}"), hint))
}

fn unknown(what: &str, command: &Command) -> Status {
    let name = command.type_url().rsplit('.').next().unwrap_or_default();
    to_status(&SinewError::NotAvailable {
        what: format!("{what} of '{}'", name.chars().take(60).collect::<String>()),
        hint: "send statements as CommandStatementQuery".into(),
    })
}

/// The one statement of a text.
fn single(text: &str, place: (u64, u64)) -> Answer<Piece> {
    if text.len() > LONGEST_TEXT {
        return Err(to_status(&SinewError::TooMany {
            what: format!("{} MiB of text in one statement", LONGEST_TEXT >> 20),
            hint: "put the values into a table or a file".into(),
        }));
    }
    let mut pieces = split(text);
    if pieces.len() > 1 {
        return Err(refused(format!("the text has {} statements", pieces.len()), "send one at a time"));
    }
    let empty = Piece { number: 1, line: 1, column: 1, text: String::new(), terminated: false };
    let mut piece = pieces.pop().unwrap_or(empty);
    if piece.line == 1 {
        piece.column += place.1 - 1;
    }
    piece.line += place.0 - 1;
    Ok(piece)
}

fn no_transaction(id: Option<&Bytes>) -> Answer<()> {
    match id {
        Some(id) if !id.is_empty() => Err(refused("there are no transactions", "leave the transaction id out")),
        _ => Ok(()),
    }
}

/// The answer of GetFlightInfo.
fn info(opened: &Opened) -> Answer<FlightInfo> {
    let kind = match opened.kind {
        ExecutionKind::Rows => "rows",
        ExecutionKind::Done => "done",
        ExecutionKind::Training => "training",
    };
    let ticket = TicketStatementQuery { statement_handle: opened.ticket.clone().into() };
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket.as_any().encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(&opened.schema).map_err(|e| Status::internal(e.to_string()))?;
    let rows = opened.rows.map_or(-1, |rows| rows as i64);
    Ok(info.with_endpoint(endpoint).with_total_records(rows).with_ordered(true).with_app_metadata(kind))
}

fn ipc(schema: &Schema) -> Answer<Bytes> {
    let options = IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message.map(|message| message.0).map_err(|e| Status::internal(e.to_string()))
}

type Messages<T> = Pin<Box<dyn Stream<Item = Answer<T>> + Send>>;

#[async_trait]
impl FlightService for Service {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoActionStream = Messages<ActionResult>;
    type ListActionsStream = Messages<ActionType>;
    type DoExchangeStream = Messages<FlightData>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Response<Self::HandshakeStream>> {
        let call = self.call(&request)?;
        let welcome = HandshakeResponse { protocol_version: 0, payload: Bytes::new() };
        Ok(call.answer(stream::iter([Ok(welcome)]).boxed()))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Response<Self::ListFlightsStream>> {
        Ok(self.call(&request)?.answer(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<Response<FlightInfo>> {
        let call = self.call(&request)?;
        let descriptor = request.into_inner();
        let opened = match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(command) => {
                no_transaction(command.transaction_id.as_ref())?;
                self.statement(&call, single(&command.query, call.place)?, true).await?
            }
            Command::CommandPreparedStatementQuery(command) => {
                let prepared = call.session.statements.prepared(&command.prepared_statement_handle);
                self.statement(&call, prepared.map_err(|e| to_status(&e))?.piece, true).await?
            }
            other => return Err(unknown("GetFlightInfo", &other)),
        };
        Ok(call.answer(info(&opened)?.with_descriptor(descriptor)))
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<Response<PollInfo>> {
        let call = self.call(&request)?;
        let descriptor = request.into_inner();
        let opened = match command(&descriptor.cmd)? {
            Command::CommandStatementQuery(command) => {
                no_transaction(command.transaction_id.as_ref())?;
                self.statement(&call, single(&command.query, call.place)?, false).await?
            }
            other => return Err(unknown("PollFlightInfo", &other)),
        };
        let mut poll = PollInfo::new().with_info(info(&opened)?.with_descriptor(descriptor));
        if opened.run.as_ref().is_some_and(|run| !run.has_ended()) {
            let ticket = TicketStatementQuery { statement_handle: opened.ticket.clone().into() };
            poll = poll.with_descriptor(FlightDescriptor::new_cmd(ticket.as_any().encode_to_vec()));
        }
        Ok(call.answer(poll))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<Response<SchemaResult>> {
        let call = self.call(&request)?;
        let schema = match command(&request.into_inner().cmd)? {
            Command::CommandStatementQuery(command) => self.plan(&call, single(&command.query, call.place)?).await?,
            Command::CommandPreparedStatementQuery(command) => {
                let prepared = call.session.statements.prepared(&command.prepared_statement_handle);
                self.plan(&call, prepared.map_err(|e| to_status(&e))?.piece).await?
            }
            other => return Err(unknown("GetSchema", &other)),
        };
        Ok(call.answer(SchemaResult { schema: ipc(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Response<Self::DoGetStream>> {
        let call = self.call(&request)?;
        let rows = match command(&request.into_inner().ticket)? {
            Command::TicketStatementQuery(ticket) => {
                let outcome = call.session.statements.result(&ticket.statement_handle);
                outcome.and_then(|outcome| self.rows(&call, outcome)).map_err(|e| to_status(&e))?
            }
            other => return Err(unknown("DoGet", &other)),
        };
        Ok(call.answer(rows))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoPutStream>> {
        let call = self.call(&request)?;
        let mut messages = request.into_inner().peekable();
        let first = Pin::new(&mut messages).peek().await.cloned().transpose()?;
        let descriptor = first.and_then(|message| message.flight_descriptor);
        let descriptor = descriptor
            .ok_or_else(|| refused("the first message of DoPut has no descriptor", "put the command into its cmd"))?;
        let record_count = match command(&descriptor.cmd)? {
            Command::CommandStatementUpdate(command) => {
                no_transaction(command.transaction_id.as_ref())?;
                self.update(&call, single(&command.query, call.place)?).await?
            }
            other => return Err(unknown("DoPut", &other)),
        };
        let done = PutResult { app_metadata: DoPutUpdateResult { record_count }.encode_to_vec().into() };
        Ok(call.answer(stream::iter([Ok(done)]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Response<Self::DoActionStream>> {
        let call = self.call(&request)?;
        let action = request.into_inner();
        let results = match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let create: ActionCreatePreparedStatementRequest = unpack(&action)?;
                no_transaction(create.transaction_id.as_ref())?;
                let piece = single(&create.query, (1, 1))?;
                let schema = self.plan(&call, piece.clone()).await?;
                let handle = call.session.statements.prepare(PreparedText { piece });
                let result = ActionCreatePreparedStatementResult {
                    prepared_statement_handle: handle.map_err(|e| to_status(&e))?.into(),
                    dataset_schema: ipc(&schema)?,
                    parameter_schema: ipc(&Schema::empty())?,
                };
                vec![Ok(ActionResult::new(result.as_any().encode_to_vec()))]
            }
            "ClosePreparedStatement" => {
                let close: ActionClosePreparedStatementRequest = unpack(&action)?;
                call.session.statements.unprepare(&close.prepared_statement_handle);
                Vec::new()
            }
            other => {
                let name: String = other.chars().take(60).collect();
                let hint = "ListActions names those there are".into();
                return Err(to_status(&SinewError::NotAvailable { what: format!("the action '{name}'"), hint }));
            }
        };
        Ok(call.answer(stream::iter(results).boxed()))
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Response<Self::ListActionsStream>> {
        let action = |(name, description): (&str, &str)| {
            Ok(ActionType { r#type: name.to_string(), description: description.to_string() })
        };
        let all = ACTIONS.into_iter().map(action).collect::<Vec<_>>();
        Ok(self.call(&request)?.answer(stream::iter(all).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoExchangeStream>> {
        Err(to_status(&SinewError::NotAvailable { what: "DoExchange".into(), hint: "use DoPut and DoGet".into() }))
    }
}

const ACTIONS: [(&str, &str); 2] = [
    ("CreatePreparedStatement", "Plans a statement, to be run later and more than once"),
    ("ClosePreparedStatement", "Forgets a prepared statement"),
];

fn unpack<M: ProstMessageExt>(action: &Action) -> Answer<M> {
    let wrong = |e: &dyn std::fmt::Display| {
        refused(format!("the body of {} cannot be read: {e}", action.r#type), "send its request in an Any")
    };
    let any = Any::decode(&*action.body).map_err(|e| wrong(&e))?;
    any.unpack().map_err(|e| wrong(&e))?.ok_or_else(|| wrong(&format!("it is a '{}'", any.type_url)))
}

impl Service {
    /// The columns of a statement that is not run.
    async fn plan(&self, call: &Call, piece: Piece) -> Answer<SchemaRef> {
        let session = call.session.session.clone();
        let planned = self.workers.run(async move { session.prepare(&piece).await?.schema(&session).await });
        Ok(client_schema(&*planned.await.map_err(|e| to_status(&e))?))
    }
}
