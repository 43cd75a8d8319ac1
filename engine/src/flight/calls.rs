//! What a call does with a statement: plan it, start it, wait for it, stream it.

use std::sync::Arc;
use std::task::Poll;

use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use tonic::Status;

use super::auth::audit::Entry;
use super::auth::roles::needed;
use super::direct::{Part, Placed};
use super::messages::Answer;
use super::run::{Leash, Run};
use super::schema::{client_batch, client_schema};
use super::sessions::ClientSession;
use super::statements::{Outcome, Query, Text};
use super::status::to_status;
use super::workers::Workers;
use crate::error::{Result, SinewError};
use crate::session::{Bound, ExecutionKind};

/// What a statement will return, and the ticket for it.
#[derive(Debug)]
pub struct Opened {
    /// What kind of statement it is.
    pub kind: ExecutionKind,
    /// The columns as sent.
    pub schema: SchemaRef,
    /// Stands for the result.
    pub ticket: String,
    /// The number of rows, once it is known.
    pub rows: Option<usize>,
    /// Where the statement runs once.
    pub run: Option<Arc<Run>>,
    /// Where the parts of the result lie, if not here.
    pub parts: Vec<Part>,
}

impl Opened {
    /// A result that executors hold.
    pub fn placed(placed: &dyn Placed, schema: SchemaRef, ticket: String) -> Self {
        let parts = placed.parts(&ticket);
        Self { kind: ExecutionKind::Rows, schema, ticket, rows: placed.rows(), run: None, parts }
    }
}

/// Parses and plans a statement that the user may run; starts it if it is one that runs once. One permit serves for
/// planning and for running; a query that runs when it is fetched gives it back.
pub async fn open(workers: &Workers, client: &ClientSession, text: Text) -> Result<Opened> {
    let words: Arc<str> = text.piece.text.as_str().into();
    let (session, permit) = (client.session.clone(), client.leave(&words)?);
    let planned = workers.run(async move {
        let (session, prepared) = text.prepare(&session).await?;
        let bound = Bound::new(prepared, text.values)?;
        let schema = match bound.only_reads() {
            true => bound.schema(&session).await?,
            false => Arc::new(Schema::empty()),
        };
        let schema = client_schema(&schema);
        // The permit is where the work is, which may go on a little after the caller has gone.
        Ok((session, bound, schema, permit))
    });
    let (session, bound, schema, permit) = match planned.await {
        Ok(planned) => planned,
        Err(error) => {
            client.failed(&words, &error);
            return Err(error);
        }
    };
    let need = needed(&session, bound.prepared()).await?;
    if bound.only_reads() {
        if client.session.places() {
            let entry = client.may(need, &words)?;
            let (within, planned) = (session.clone(), bound.clone());
            let placed = workers.run(async move {
                let _running = permit;
                planned.place(&within).await
            });
            match placed.await {
                Ok(Some(placed)) => {
                    // It has run; its parts are fetched from those who hold them.
                    entry.end(Ok(placed.rows().unwrap_or_default() as u64));
                    let ticket = client.statements.keep(Outcome::Placed(Arc::clone(&placed), Arc::clone(&schema)));
                    return Ok(Opened::placed(&*placed, schema, ticket));
                }
                Ok(None) => entry.forget(),
                Err(error) => {
                    entry.end(Err(&error.to_string()));
                    return Err(error);
                }
            }
        }
        let query = Outcome::Query(Arc::new(Query::new(bound, Arc::clone(&schema), need, words)));
        let ticket = client.statements.keep(query);
        return Ok(Opened { kind: ExecutionKind::Rows, schema, ticket, rows: None, run: None, parts: Vec::new() });
    }
    let entry = client.may(need, &words)?;
    let memory = MemoryConsumer::new("a result that is kept").register(&session.context().runtime_env().memory_pool);
    let run = Run::start(workers, async move { bound.start(&session).await }, memory, permit, Some(entry));
    let ticket = client.statements.keep(Outcome::Run(Arc::clone(&run)));
    Ok(Opened { kind: ExecutionKind::Done, schema, ticket, rows: None, run: Some(run), parts: Vec::new() })
}

/// Opens a statement and waits until it has columns, or has ended; a caller that goes away cancels it.
pub async fn statement(workers: &Workers, client: &ClientSession, text: Text, to_the_end: bool) -> Answer<Opened> {
    let mut opened = open(workers, client, text).await.map_err(|e| to_status(&e))?;
    if let Some(run) = &opened.run {
        let leash = Leash::new(run);
        (opened.kind, opened.schema) = run.opened().await?;
        if to_the_end {
            opened.rows = Some(run.ended().await?);
        }
        leash.let_go();
    }
    Ok(opened)
}

/// Runs a statement to its end for the number of rows it writes; -1 where it does not tell.
pub async fn update(workers: &Workers, client: &ClientSession, text: Text) -> Answer<i64> {
    let opened = statement(workers, client, text, true).await?;
    let result = client.statements.forget(&opened.ticket);
    match (result, opened.kind) {
        (_, ExecutionKind::Done | ExecutionKind::Training) => Ok(0),
        (Some(Outcome::Run(run)), ExecutionKind::Rows) => Ok(run.count().unwrap_or(-1)),
        _ => Err(super::messages::refused(
            "an update is a statement that returns no rows, and this one does",
            "send it as CommandStatementQuery",
        )),
    }
}

/// The columns and the types of the parameters of a statement that is not run.
pub async fn plan(workers: &Workers, client: &ClientSession, text: Text) -> Answer<(SchemaRef, Vec<Option<DataType>>)> {
    let words = text.piece.text.clone();
    let (session, permit) = (client.session.clone(), client.leave(&words).map_err(|e| to_status(&e))?);
    let prepared = workers.run(async move {
        let (session, prepared) = text.prepare(&session).await?;
        Ok((session, prepared, permit))
    });
    let (session, prepared, permit) = prepared.await.map_err(|e| to_status(&e))?;
    let need = needed(&session, &prepared).await.map_err(|e| to_status(&e))?;
    client.allows(need, &words).map_err(|e| to_status(&e))?;
    let planned = workers.run(async move {
        let _planning = permit;
        Ok((prepared.schema(&session).await?, prepared.parameters()?))
    });
    let (schema, parameters) = planned.await.map_err(|e| to_status(&e))?;
    Ok((client_schema(&schema), parameters))
}

/// The rows of a result, or of one part of a result that executors hold, encoded as they come.
///
/// # Errors
/// When the session runs too many statements.
pub fn rows(
    workers: &Workers,
    client: &ClientSession,
    outcome: Outcome,
    part: Option<usize>,
) -> Result<BoxStream<'static, Answer<FlightData>>> {
    let closed = client.statements.closed();
    match outcome {
        Outcome::Run(run) => {
            let (rows, of) = (run.follow(), Arc::clone(&run));
            let closed = closed.map(move |error| match error {
                SinewError::Stopped { .. } => of.stopped(),
                other => other,
            });
            let opened = async move { Ok::<_, Status>(encode(run.opened().await?.1, rows)) };
            Ok(workers.stream(until(stream::once(opened).try_flatten(), closed)))
        }
        Outcome::Placed(placed, schema) => {
            let (permit, sent) = (client.statements.begin()?, Arc::clone(&schema));
            let started = async move {
                let rows = placed.relay(part).await?;
                Ok::<_, SinewError>(rows.map(move |batch| {
                    let _held = (&permit, &placed);
                    client_batch(&sent, &batch?)
                }))
            };
            let rows = stream::once(started).try_flatten().map_err(|e| to_status(&e));
            Ok(workers.stream(until(encode(schema, rows), closed)))
        }
        Outcome::Query(query) => {
            let (entry, permit) = client.begin(query.need, &query.text)?;
            let session = client.session.clone();
            let (schema, bound) = (Arc::clone(&query.schema), query.bound.clone());
            let cancelled = query.cancelled();
            let started = async move {
                let _running = permit;
                let execution = bound.start(&session).await?;
                let rows = execution.map(move |batch| {
                    let _held = &_running;
                    client_batch(&query.schema, &batch?)
                });
                Ok::<_, SinewError>(rows)
            };
            let rows = stream::once(started).try_flatten().map_err(|e| to_status(&e));
            let rows = audited(rows, entry);
            let ended = async move {
                tokio::select! { error = closed => error, () = cancelled => SinewError::Cancelled }
            };
            Ok(workers.stream(until(encode(schema, rows), ended)))
        }
    }
}

/// One batch, encoded.
pub fn one(batch: RecordBatch) -> BoxStream<'static, Answer<FlightData>> {
    encode(batch.schema(), stream::iter([Ok(batch)])).boxed()
}

/// The rows, which end the entry as they end.
fn audited(
    rows: impl Stream<Item = Answer<RecordBatch>> + Send + 'static,
    entry: Entry,
) -> impl Stream<Item = Answer<RecordBatch>> + Send + 'static {
    let (mut rows, mut entry, mut count) = (rows.boxed(), Some(entry), 0);
    stream::poll_fn(move |context| {
        let next = rows.poll_next_unpin(context);
        if let Poll::Ready(item) = &next {
            match item {
                Some(Ok(batch)) => count += batch.num_rows() as u64,
                Some(Err(status)) => drop(entry.take().map(|entry| entry.end(Err(status.message())))),
                None => drop(entry.take().map(|entry| entry.end(Ok(count)))),
            }
        }
        next
    })
}

/// Rows of a schema, encoded as they come.
pub fn encode(
    schema: SchemaRef,
    rows: impl Stream<Item = Answer<RecordBatch>> + Send + 'static,
) -> impl Stream<Item = Answer<FlightData>> + Send + 'static {
    let rows = rows.map_err(FlightError::from);
    FlightDataEncoderBuilder::new().with_schema(schema).build(rows).map_err(Status::from)
}

/// The stream, or the error that `stop` gives if it is ready before the stream's end.
fn until<T: Send + 'static>(
    items: impl Stream<Item = Answer<T>> + Send + 'static,
    stop: impl Future<Output = SinewError> + Send + 'static,
) -> impl Stream<Item = Answer<T>> + Send + 'static {
    let (mut items, mut stop) = (items.boxed(), Box::pin(stop));
    let mut stopped = false;
    stream::poll_fn(move |cx| {
        if stopped {
            return Poll::Ready(None);
        }
        if let Poll::Ready(error) = stop.as_mut().poll(cx) {
            stopped = true;
            return Poll::Ready(Some(Err(to_status(&error))));
        }
        let next = items.poll_next_unpin(cx);
        stopped = matches!(next, Poll::Ready(None));
        next
    })
}
