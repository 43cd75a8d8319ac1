//! The calls of Flight: each finds its session, does one thing, and answers.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{Command, CommandStatementIngest, DoPutPreparedStatementResult, DoPutUpdateResult};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Streaming};

use super::auth::roles::INGEST;
use super::calls::{self, Opened};
use super::direct::Grant;
use super::ingest::{self, Incoming};
use super::messages::{Answer, command, info, ipc, no_transaction, part, plans_of, refused, single, ticket, unknown};
use super::sessions::{ClientSession, Sessions};
use super::statements::{Carried, Outcome, Text};
use super::status::to_status;
use super::workers::Workers;
use super::{COLUMN, COOKIE, LINE, actions, metadata};
use crate::error::{Result, SinewError};
use crate::plans::TYPE_URL;
use crate::session::ExecutionKind;

/// How long PollFlightInfo waits for the end of a statement that runs.
const POLL: Duration = Duration::from_secs(1);

/// Flight SQL over the sessions of a server.
#[derive(Debug)]
pub struct Service {
    sessions: Arc<Sessions>,
    workers: Workers,
}

/// One call: whose it is, and where in its script the statement begins.
struct Call {
    client: Arc<ClientSession>,
    place: (u64, u64),
    /// Whether the server takes no new statements.
    draining: bool,
}

impl Call {
    /// An answer that tells the client its session.
    fn answer<T>(&self, value: T) -> Response<T> {
        let mut response = Response::new(value);
        if let Ok(cookie) = MetadataValue::try_from(format!("{COOKIE}={}", self.client.name)) {
            response.metadata_mut().insert("set-cookie", cookie);
        }
        response
    }

    /// A statement that is sent as text.
    fn text(&self, text: &str, transaction: Option<&Bytes>) -> Answer<Text> {
        self.may_begin().map_err(|e| to_status(&e))?;
        let piece = no_transaction(transaction).and_then(|()| single(text, self.place, self.client.limits.text));
        Ok(Text { piece: piece.map_err(|e| to_status(&e))?, values: None, plan: None })
    }

    /// The statement of a command; `None` for commands that are none.
    fn asked(&self, command: &Command) -> Answer<Option<Text>> {
        Ok(Some(match command {
            Command::CommandStatementQuery(c) => self.text(&c.query, c.transaction_id.as_ref())?,
            Command::CommandPreparedStatementQuery(c) => self.prepared(&c.prepared_statement_handle)?,
            Command::CommandStatementSubstraitPlan(c) => {
                let plan = c.plan.as_ref().map(|plan| plan.plan.clone()).unwrap_or_default();
                let text = self.text("", c.transaction_id.as_ref())?;
                Text { plan: Some(Arc::new(Carried::Substrait(plan))), ..text }
            }
            Command::Unknown(any) if any.type_url == TYPE_URL => {
                let command = plans_of(any)?;
                let text = self.text(&command.statement, None)?;
                Text { plan: Some(Arc::new(Carried::DataFusion(command))), ..text }
            }
            _ => return Ok(None),
        }))
    }

    /// # Errors
    /// When the server is about to end.
    fn may_begin(&self) -> Result<()> {
        if self.draining { Err(SinewError::ShuttingDown) } else { Ok(()) }
    }

    /// A statement that was prepared.
    fn prepared(&self, handle: &[u8]) -> Answer<Text> {
        self.may_begin().map_err(|e| to_status(&e))?;
        self.client.statements.prepared(handle).map_err(|e| to_status(&e))
    }
}

impl Service {
    /// Statements of these sessions run on `workers`.
    pub fn new(sessions: Arc<Sessions>, workers: Workers) -> Self {
        Self { sessions, workers }
    }

    fn call<T>(&self, request: &Request<T>) -> Answer<Call> {
        let place = |name| number(request.metadata(), name).unwrap_or(1);
        let (client, draining) = (self.sessions.of(request)?, self.sessions.draining());
        Ok(Call { client, place: (place(LINE), place(COLUMN)), draining })
    }

    /// Opens the statement of a command; `None` for other commands.
    async fn statement(&self, call: &Call, command: &Command, to_the_end: bool) -> Answer<Option<Opened>> {
        let Some(text) = call.asked(command)? else { return Ok(None) };
        calls::statement(&self.workers, &call.client, text, to_the_end).await.map(Some)
    }

    /// A statement that PollFlightInfo has started before, once more.
    async fn again(&self, call: &Call, name: &[u8]) -> Answer<Opened> {
        let outcome = call.client.statements.result(name).map_err(|e| to_status(&e))?;
        let name = String::from_utf8_lossy(name).into_owned();
        match outcome {
            Outcome::Query(query) => {
                let schema = Arc::clone(&query.schema);
                let kind = ExecutionKind::Rows;
                Ok(Opened { kind, schema, ticket: name, rows: None, run: None, parts: Vec::new() })
            }
            Outcome::Placed(placed, schema) => Ok(Opened::placed(&*placed, schema, name)),
            Outcome::Run(run) => {
                let rows = match tokio::time::timeout(POLL, run.ended()).await {
                    Ok(ended) => Some(ended?),
                    Err(_) => None,
                };
                let (kind, schema) = run.opened().await?;
                Ok(Opened { kind, schema, ticket: name, rows, run: Some(run), parts: Vec::new() })
            }
        }
    }

    async fn put(
        &self,
        call: &Call,
        command: Command,
        messages: impl Stream<Item = Answer<FlightData>> + Send + 'static,
    ) -> Answer<Vec<u8>> {
        let count = match command {
            Command::CommandStatementUpdate(c) => {
                let text = call.text(&c.query, c.transaction_id.as_ref())?;
                calls::update(&self.workers, &call.client, text).await?
            }
            Command::CommandPreparedStatementUpdate(c) => {
                let bound = call.prepared(&c.prepared_statement_handle)?;
                // Values come with this call, or were bound before it.
                let values = values(messages).await?.or(bound.values.clone());
                calls::update(&self.workers, &call.client, Text { values, ..bound }).await?
            }
            Command::CommandPreparedStatementQuery(c) => {
                let handle = c.prepared_statement_handle;
                let bound = call.client.statements.bind(&handle, values(messages).await?);
                bound.map_err(|e| to_status(&e))?;
                return Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) }.encode_to_vec());
            }
            Command::CommandStatementIngest(c) => self.ingest(call, c, messages).await.map_err(|e| to_status(&e))?,
            Command::Unknown(any) if any.type_url == TYPE_URL => match call.asked(&Command::Unknown(any))? {
                Some(text) => calls::update(&self.workers, &call.client, text).await?,
                None => 0,
            },
            other => return Err(unknown("DoPut", &other)),
        };
        Ok(DoPutUpdateResult { record_count: count }.encode_to_vec())
    }

    async fn ingest(
        &self,
        call: &Call,
        command: CommandStatementIngest,
        messages: impl Stream<Item = Answer<FlightData>> + Send + 'static,
    ) -> Result<i64> {
        call.may_begin()?;
        no_transaction(command.transaction_id.as_ref())?;
        let incoming = Incoming::open(messages).await?.ok_or_else(|| SinewError::Request {
            what: "there are no rows to store, and no columns".into(),
            hint: "send a schema first, as Arrow IPC".into(),
        })?;
        let (entry, permit) = call.client.begin(INGEST, &command.table)?;
        let (session, source) = (call.client.session.clone(), call.client.statements.source_name());
        let stored = self.workers.run(async move {
            let _running = permit;
            ingest::ingest(&session, command, incoming, &source).await
        });
        let rows = match stored.await {
            Ok(rows) => rows,
            Err(error) => {
                entry.end(Err(&error.to_string()));
                return Err(error);
            }
        };
        entry.end(Ok(rows.max(0) as u64));
        Ok(rows)
    }
}

/// The values that a client sends for parameters; `None` where there are none.
async fn values(
    messages: impl Stream<Item = Answer<FlightData>> + Send + 'static,
) -> Answer<Option<datafusion::arrow::array::RecordBatch>> {
    let read = async {
        match Incoming::open(messages).await? {
            Some(incoming) => incoming.values().await.map(Some),
            None => Ok(None),
        }
    };
    // A client that binds nothing may send columns of nothing.
    let values = read.await.map_err(|e: SinewError| to_status(&e))?;
    Ok(values.filter(|batch| batch.num_columns() > 0))
}

/// The answer of GetFlightInfo for a statement.
fn described(opened: &Opened) -> Answer<FlightInfo> {
    let kind = match opened.kind {
        ExecutionKind::Rows => "rows",
        ExecutionKind::Done => "done",
        ExecutionKind::Training => "training",
    };
    let rows = opened.rows.map_or(-1, |rows| rows as i64);
    let mut info = info(&opened.schema, ticket(&opened.ticket))?.with_total_records(rows).with_app_metadata(kind);
    if !opened.parts.is_empty() {
        info.endpoint = opened.parts.iter().map(part).collect();
    }
    Ok(info)
}

fn number(metadata: &MetadataMap, name: &str) -> Option<u64> {
    metadata.get(name)?.to_str().ok()?.parse().ok().filter(|n| (1..1 << 32).contains(n))
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
        let welcome = HandshakeResponse { protocol_version: 0, payload: Bytes::new() };
        Ok(self.call(&request)?.answer(stream::iter([Ok(welcome)]).boxed()))
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Response<Self::ListFlightsStream>> {
        Ok(self.call(&request)?.answer(stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<Response<FlightInfo>> {
        let call = self.call(&request)?;
        let descriptor = request.into_inner();
        let command = command(&descriptor.cmd)?;
        let info = match (metadata::announced(&command), self.statement(&call, &command, true).await?) {
            (Some((schema, ticket)), _) => info(&schema, ticket)?,
            (None, Some(opened)) => described(&opened)?,
            (None, None) => return Err(unknown("GetFlightInfo", &command)),
        };
        Ok(call.answer(info.with_descriptor(descriptor)))
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<Response<PollInfo>> {
        let call = self.call(&request)?;
        let descriptor = request.into_inner();
        let command = command(&descriptor.cmd)?;
        let opened = match &command {
            Command::TicketStatementQuery(ticket) => Some(self.again(&call, &ticket.statement_handle).await?),
            command => self.statement(&call, command, false).await?,
        };
        let mut opened = opened.ok_or_else(|| unknown("PollFlightInfo", &command))?;
        let running = match &opened.run {
            Some(run) if run.has_ended() => {
                opened.rows = Some(run.ended().await?);
                false
            }
            run => run.is_some(),
        };
        let mut poll = PollInfo::new().with_info(described(&opened)?.with_descriptor(descriptor));
        poll.progress = opened.run.as_ref().and_then(|run| run.progress());
        if running {
            poll = poll.with_descriptor(FlightDescriptor::new_cmd(ticket(&opened.ticket)));
        }
        Ok(call.answer(poll))
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<Response<SchemaResult>> {
        let call = self.call(&request)?;
        let command = command(&request.into_inner().cmd)?;
        let Some(text) = call.asked(&command)? else {
            let (schema, _) = metadata::announced(&command).ok_or_else(|| unknown("GetSchema", &command))?;
            return Ok(call.answer(SchemaResult { schema: ipc(&schema)? }));
        };
        let (schema, _) = calls::plan(&self.workers, &call.client, text).await?;
        Ok(call.answer(SchemaResult { schema: ipc(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Response<Self::DoGetStream>> {
        let call = self.call(&request)?;
        let ticket = request.into_inner().ticket;
        if let Some(grant) = Grant::unchecked(&ticket) {
            let outcome = call.client.statements.result(grant.result.as_bytes());
            let part = Some(grant.part as usize);
            let rows = outcome.and_then(|outcome| calls::rows(&self.workers, &call.client, outcome, part));
            return Ok(call.answer(rows.map_err(|e| to_status(&e))?));
        }
        let command = command(&ticket)?;
        if let Command::TicketStatementQuery(ticket) = &command {
            let outcome = call.client.statements.result(&ticket.statement_handle);
            let rows = outcome.and_then(|outcome| calls::rows(&self.workers, &call.client, outcome, None));
            return Ok(call.answer(rows.map_err(|e| to_status(&e))?));
        }
        // A statement may be its own ticket: it is begun and followed in one call.
        if let Some(opened) = self.statement(&call, &command, false).await? {
            let outcome = call.client.statements.forget(&opened.ticket).ok_or(SinewError::Cancelled);
            let rows = outcome.and_then(|outcome| calls::rows(&self.workers, &call.client, outcome, None));
            return Ok(call.answer(rows.map_err(|e| to_status(&e))?));
        }
        let refused = unknown("DoGet", &command);
        let session = call.client.session.clone();
        let rows = self.workers.run(async move { metadata::rows(&session, command).await }).await;
        let batch = rows.map_err(|e| to_status(&e))?.ok_or(refused)?;
        Ok(call.answer(calls::one(batch)))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoPutStream>> {
        let call = self.call(&request)?;
        let (cmd, messages) = ingest::first(request.into_inner()).await?;
        let app_metadata = self.put(&call, command(&cmd)?, messages).await?.into();
        Ok(call.answer(stream::iter([Ok(PutResult { app_metadata })]).boxed()))
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Response<Self::DoActionStream>> {
        let call = self.call(&request)?;
        let results = actions::act(&self.sessions, &self.workers, &call.client, request.into_inner()).await?;
        let results = results.into_iter().map(|body| Ok(ActionResult::new(body)));
        Ok(call.answer(stream::iter(results.collect::<Vec<_>>()).boxed()))
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Response<Self::ListActionsStream>> {
        let action = |(name, description): (&str, &str)| {
            Ok(ActionType { r#type: name.to_string(), description: description.to_string() })
        };
        let all = actions::ACTIONS.into_iter().map(action).collect::<Vec<_>>();
        Ok(self.call(&request)?.answer(stream::iter(all).boxed()))
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoExchangeStream>> {
        Err(refused("there is no DoExchange", "use DoPut and DoGet"))
    }
}
