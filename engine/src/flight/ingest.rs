//! Rows that a client sends: as a table, as values of parameters, or as nothing at all.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use arrow_flight::FlightData;
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::sql::{CommandStatementIngest, TableExistsOption, TableNotExistOption};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::TableReference;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::error::DataFusionError;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tonic::Status;

use super::messages::refused;
use super::schema::{client_batch, client_schema};
use super::status::from_status;
use super::temporary::Temporary;
use crate::error::{Result, SinewError};
use crate::session::{CATALOG, SCHEMA, Session, split};

/// Bytes of values that a prepared statement may hold.
const MOST_VALUES: usize = 64 << 20;

/// Rows as they come, and their columns.
pub struct Incoming {
    schema: SchemaRef,
    rows: BoxStream<'static, Result<RecordBatch>>,
}

impl Incoming {
    /// Reads up to the columns; `None` where the client sends none.
    ///
    /// # Errors
    /// When what comes first is not Arrow.
    pub async fn open(
        messages: impl Stream<Item = Result<FlightData, Status>> + Send + 'static,
    ) -> Result<Option<Self>> {
        // The message that only carries the command has no data.
        let messages = messages.try_filter(|message| std::future::ready(!message.data_header.is_empty()));
        let mut decoder = FlightDataDecoder::new(messages.map_err(FlightError::from));
        let Some(first) = decoder.next().await else { return Ok(None) };
        let DecodedPayload::Schema(sent) = first.map_err(unreadable)?.payload else {
            return Err(unreadable(FlightError::protocol("rows come before their schema")));
        };
        let schema = client_schema(&sent);
        let typed = Arc::clone(&schema);
        let rows = decoder.map_err(unreadable).try_filter_map(move |data| {
            let batch = match data.payload {
                DecodedPayload::RecordBatch(batch) => client_batch(&typed, &batch).map(Some),
                DecodedPayload::None => Ok(None),
                DecodedPayload::Schema(_) => Err(unreadable(FlightError::protocol("a second schema"))),
            };
            std::future::ready(batch)
        });
        Ok(Some(Self { schema, rows: rows.boxed() }))
    }

    /// All rows as one batch, for the parameters of a statement.
    ///
    /// # Errors
    /// When they are too many, or cannot be read.
    pub async fn values(mut self) -> Result<RecordBatch> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = self.rows.next().await {
            let batch = batch?;
            bytes += batch.get_array_memory_size();
            if bytes > MOST_VALUES {
                return Err(SinewError::TooMany {
                    what: format!("{} MiB of values for a prepared statement", MOST_VALUES >> 20),
                    hint: "send them as a table (CommandStatementIngest)".into(),
                });
            }
            batches.push(batch);
        }
        concat_batches(&self.schema, &batches).map_err(|e| SinewError::Internal(e.to_string()))
    }
}

fn unreadable(error: FlightError) -> SinewError {
    let what = match error {
        FlightError::Tonic(status) => match from_status("the client", *status) {
            SinewError::Disconnected { reason, .. } => format!("the rows broke off: {reason}"),
            other => format!("the rows broke off: {other}"),
        },
        other => format!("the rows cannot be read: {other}"),
    };
    SinewError::Request { what, hint: "send a schema and then its batches, as Arrow IPC".into() }
}

/// What to do with a table that is there, and with one that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Create,
    Append,
    Replace,
}

/// Stores the rows a client sends; their number.
///
/// # Errors
/// When the table is (or is not) there against the client's wish, or the rows do not fit.
pub async fn ingest(
    session: &Session,
    command: CommandStatementIngest,
    incoming: Incoming,
    source: &str,
) -> Result<i64> {
    let catalog = command.catalog.clone().filter(|name| !name.is_empty());
    let schema = command.schema.clone().filter(|name| !name.is_empty());
    let state = session.context().state();
    let current = &state.config_options().catalog;
    let target = TableReference::full(
        catalog.unwrap_or_else(|| current.default_catalog.clone()),
        schema.unwrap_or_else(|| current.default_schema.clone()),
        command.table.clone(),
    );
    let mode = mode(session, &command, &target).await?;
    if command.temporary {
        return temporary(session, target, mode, incoming).await;
    }
    let columns: Vec<String> = incoming.schema.fields().iter().map(|field| quoted(field.name())).collect();
    let columns = columns.join(", ");
    let count = Arc::new(AtomicI64::new(0));
    let from = TableReference::full(CATALOG, SCHEMA, source.to_string());
    let once = Once { schema: Arc::clone(&incoming.schema), rows: Mutex::new(Some(incoming.rows)), count };
    let count = Arc::clone(&once.count);
    let table = StreamingTable::try_new(Arc::clone(&once.schema), vec![Arc::new(once)])?;
    session.context().register_table(from.clone(), Arc::new(table))?;
    let target = target.to_quoted_string();
    let text = match mode {
        Mode::Create => format!("CREATE TABLE {target} AS SELECT * FROM {}", from.to_quoted_string()),
        Mode::Replace => format!("CREATE OR REPLACE TABLE {target} AS SELECT * FROM {}", from.to_quoted_string()),
        Mode::Append => format!("INSERT INTO {target} ({columns}) SELECT {columns} FROM {}", from.to_quoted_string()),
    };
    let guard = Registered { session: session.clone(), name: from };
    for piece in split(&text) {
        session.run(&piece).await?.collect().await?;
    }
    drop(guard);
    Ok(count.load(Ordering::SeqCst))
}

/// Takes a table out of the session when it is dropped.
struct Registered {
    session: Session,
    name: TableReference,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = self.session.context().deregister_table(self.name.clone());
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn mode(session: &Session, command: &CommandStatementIngest, target: &TableReference) -> Result<Mode> {
    let options = command.table_definition_options.unwrap_or_default();
    // Asking for its columns brings in a table that another session has defined.
    let look = format!("SELECT * FROM {} LIMIT 0", target.to_quoted_string());
    let exists = match session.prepare(&split(&look)[0]).await {
        Ok(_) => true,
        Err(error) if error.to_string().contains("not found") => false,
        Err(error) => return Err(error),
    };
    let create = TableNotExistOption::Create as i32;
    match (exists, options.if_exists) {
        (false, _) if options.if_not_exist == create => Ok(Mode::Create),
        (false, _) => Err(SinewError::UnknownTable { name: command.table.clone() }),
        (true, wish) if wish == TableExistsOption::Append as i32 => Ok(Mode::Append),
        (true, wish) if wish == TableExistsOption::Replace as i32 => Ok(Mode::Replace),
        (true, _) => Err(SinewError::TableExists { name: command.table.clone() }),
    }
}

/// A table of this session, in memory that is counted for as long as the table is there.
async fn temporary(session: &Session, target: TableReference, mode: Mode, mut incoming: Incoming) -> Result<i64> {
    let context = session.context();
    let memory = &context.runtime_env().memory_pool;
    let held = MemoryConsumer::new(format!("temporary table {target}")).register(memory);
    let (mut counter, mut batches, mut rows) = (RecordBatchMemoryCounter::new(), Vec::new(), 0);
    while let Some(batch) = incoming.rows.next().await {
        let batch = batch?;
        held.try_grow(counter.count_batch(&batch))?;
        rows += batch.num_rows() as i64;
        batches.push(batch);
    }
    let there = match mode {
        Mode::Append => Some(context.table_provider(target.clone()).await?),
        Mode::Create | Mode::Replace => None,
    };
    if let Some(table) = there.as_ref().and_then(|there| there.downcast_ref::<Temporary>()) {
        table.append(&incoming.schema, batches, &held).await?;
        return Ok(rows);
    }
    let table = match &there {
        None => Temporary::new(incoming.schema, batches, held)?,
        // One that a statement has made: it is counted from now on.
        Some(there) => {
            let table = Temporary::around(there, held.new_empty()).await?.ok_or_else(|| SinewError::Request {
                what: format!("'{target}' is no temporary table"),
                hint: "append to it without asking for a temporary one".into(),
            })?;
            table.append(&incoming.schema, batches, &held).await?;
            table
        }
    };
    context.deregister_table(target.clone())?;
    context.register_table(target, Arc::new(table))?;
    Ok(rows)
}

/// The client's rows as a table that can be read once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<BoxStream<'static, Result<RecordBatch>>>>,
    count: Arc<AtomicI64>,
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rows of a client")
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let count = Arc::clone(&self.count);
        let rows = match self.rows.lock().take() {
            Some(rows) => rows,
            None => {
                let again = SinewError::Internal("the rows of a client were read twice".into());
                futures::stream::iter([Err(again)]).boxed()
            }
        };
        let rows = rows.map_err(DataFusionError::from).inspect_ok(move |batch| {
            count.fetch_add(batch.num_rows() as i64, Ordering::SeqCst);
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

/// The messages of DoPut from the first, which has the command.
pub async fn first(
    messages: tonic::Streaming<FlightData>,
) -> Result<(bytes::Bytes, BoxStream<'static, Result<FlightData, Status>>), Status> {
    let mut messages = messages.peekable();
    let first = Pin::new(&mut messages).peek().await.cloned().transpose()?;
    let descriptor = first.and_then(|message| message.flight_descriptor);
    let descriptor = descriptor
        .ok_or_else(|| refused("the first message of DoPut has no descriptor", "put the command into its cmd"))?;
    Ok((descriptor.cmd, messages.boxed()))
}
