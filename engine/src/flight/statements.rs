//! The statements of a session: those prepared, and the results that tickets stand for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::auth::roles::Need;
use super::direct::Placed;
use super::limits::Limits;
use super::run::Run;
use super::sessions::Names;
use crate::error::{Result, SinewError};
use crate::plans::{self, CommandPlan};
use crate::session::{Bound, Piece, Prepared, Session, guarded};

/// How long a result can be fetched after it was last asked for.
pub const KEPT: Duration = Duration::from_secs(300);
/// Bytes of rows a session keeps.
const BYTES: usize = 128 << 20;
/// Bytes of text and values that the prepared statements of a session may hold.
const PREPARED_BYTES: usize = 128 << 20;

/// What a ticket stands for.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Runs each time it is fetched.
    Query(Arc<Query>),
    /// Runs, or ran, once.
    Run(Arc<Run>),
    /// Ran on executors that hold its rows, of this schema as sent.
    Placed(Arc<dyn Placed>, SchemaRef),
}

/// A planned query and the columns it was announced with.
#[derive(Debug)]
pub struct Query {
    /// The plan, with its values.
    pub bound: Bound,
    /// The columns as sent.
    pub schema: SchemaRef,
    /// The role it needs, each time it runs.
    pub need: Need,
    /// Its text.
    pub text: Arc<str>,
    cancelled: watch::Sender<bool>,
}

impl Query {
    /// A query that can be fetched.
    pub fn new(bound: Bound, schema: SchemaRef, need: Need, text: Arc<str>) -> Self {
        Self { bound, schema, need, text, cancelled: watch::channel(false).0 }
    }

    /// Waits until the query is cancelled.
    pub fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut cancelled = self.cancelled.subscribe();
        async move {
            if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

/// A statement as a client sent it.
#[derive(Clone, Debug)]
pub struct Text {
    /// Its text.
    pub piece: Piece,
    /// Values for its parameters, a row for each time it runs.
    pub values: Option<RecordBatch>,
    /// What came in the place of the text, or beside it.
    pub plan: Option<Arc<Carried>>,
}

/// Plans that a client sent.
#[derive(Debug)]
pub enum Carried {
    /// Plans of DataFusion, and a statement over them.
    DataFusion(CommandPlan),
    /// A plan of another system.
    Substrait(Bytes),
}

impl Text {
    /// Parses and plans; the session is the one that the statement is started with.
    ///
    /// # Errors
    /// When that fails.
    pub async fn prepare(&self, session: &Session) -> Result<(Session, Prepared)> {
        match self.plan.as_deref() {
            None => Ok((session.clone(), session.prepare(&self.piece).await?)),
            Some(Carried::DataFusion(command)) => guarded(plans::prepare(session, command, &self.piece)).await,
            Some(Carried::Substrait(plan)) => guarded(plans::prepare_substrait(session, plan)).await,
        }
    }

    fn bytes(&self) -> usize {
        let plan = match self.plan.as_deref() {
            None => 0,
            Some(Carried::DataFusion(command)) => command.bytes(),
            Some(Carried::Substrait(plan)) => plan.len(),
        };
        self.piece.text.len() + plan + self.values.as_ref().map_or(0, RecordBatch::get_array_memory_size)
    }
}

#[derive(Debug)]
struct Kept {
    outcome: Outcome,
    last: Instant,
}

/// Whether a session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closed {
    /// No.
    Not,
    /// Its client has closed it, or is gone.
    Over,
    /// The server ends.
    Ending,
}

/// What to do with a statement that the end of the server stopped, and that has left nothing.
pub const AGAIN: &str = "it has left nothing; connect again later, and run it again";

/// The statements of one session.
#[derive(Debug)]
pub struct Statements {
    names: Arc<Names>,
    limits: Limits,
    results: Mutex<HashMap<String, Kept>>,
    prepared: Mutex<HashMap<String, Text>>,
    running: Arc<Semaphore>,
    closed: watch::Sender<Closed>,
}

impl Statements {
    /// None.
    pub fn new(names: Arc<Names>, limits: Limits) -> Self {
        let running = Arc::new(Semaphore::new(limits.statements));
        Self {
            names,
            limits,
            results: Mutex::default(),
            prepared: Mutex::default(),
            running,
            closed: watch::channel(Closed::Not).0,
        }
    }

    /// Leave to plan and run one more statement; held while that lasts.
    ///
    /// # Errors
    /// When the session is closed, or runs too many.
    pub fn begin(&self) -> Result<OwnedSemaphorePermit> {
        if *self.closed.borrow() != Closed::Not {
            return Err(SinewError::SessionEnded);
        }
        Arc::clone(&self.running).try_acquire_owned().map_err(|_| SinewError::TooMany {
            what: format!(
                "{} statements that a session runs at the same time (flight_statements)",
                self.limits.statements
            ),
            hint: "wait for one to end, or use another connection".into(),
        })
    }

    /// A name for rows that a client sends, which no table has.
    pub fn source_name(&self) -> String {
        format!("sinew_ingest_{}", self.names.next())
    }

    /// Waits until the session is closed; what is said to those who read results then.
    pub fn closed(&self) -> impl Future<Output = SinewError> + Send + 'static {
        let mut closed = self.closed.subscribe();
        async move {
            // A sender that is gone has closed the session as well.
            match closed.wait_for(|closed| *closed != Closed::Not).await.as_deref() {
                Ok(Closed::Ending) => SinewError::Stopped { next: AGAIN.into() },
                _ => SinewError::Cancelled,
            }
        }
    }

    /// Whether a statement runs.
    pub fn busy(&self) -> bool {
        self.running.available_permits() < self.limits.statements
    }

    /// Keeps a result; its ticket.
    pub fn keep(&self, outcome: Outcome) -> String {
        let name = self.names.next();
        let mut results = self.results.lock();
        results.insert(name.clone(), Kept { outcome, last: Instant::now() });
        let bytes = |results: &HashMap<String, Kept>| {
            results
                .values()
                .map(|kept| if let Outcome::Run(run) = &kept.outcome { run.bytes() } else { 0 })
                .sum::<usize>()
        };
        while results.len() > self.limits.results || (results.len() > 1 && bytes(&results) > BYTES) {
            let ended = results.iter().filter(|(ticket, kept)| **ticket != name && kept.outcome.has_ended());
            let oldest = ended.min_by_key(|(_, kept)| kept.last).map(|(ticket, _)| ticket.clone());
            match oldest {
                Some(oldest) => results.remove(&oldest),
                None => break,
            };
        }
        name
    }

    /// What a ticket stands for.
    ///
    /// # Errors
    /// When this session has no such ticket, or has it no longer.
    pub fn result(&self, ticket: &[u8]) -> Result<Outcome> {
        let mut results = self.results.lock();
        let kept = std::str::from_utf8(ticket).ok().and_then(|ticket| results.get_mut(ticket));
        let kept = kept.ok_or_else(|| SinewError::UnknownHandle {
            what: "the ticket".into(),
            hint: "run the statement again".into(),
        })?;
        kept.last = Instant::now();
        Ok(kept.outcome.clone())
    }

    /// Takes a result out; its ticket is worth nothing then.
    pub fn forget(&self, ticket: &str) -> Option<Outcome> {
        self.results.lock().remove(ticket).map(|kept| kept.outcome)
    }

    /// Drops a result; the statement stops if it still runs. Whether there was one.
    pub fn cancel(&self, ticket: &[u8]) -> bool {
        let outcome = std::str::from_utf8(ticket).ok().and_then(|ticket| self.forget(ticket));
        match &outcome {
            // What is placed ends when the last reader lets go of it.
            None | Some(Outcome::Placed(..)) => {}
            Some(Outcome::Run(run)) => run.cancel(),
            Some(Outcome::Query(query)) => {
                query.cancelled.send_replace(true);
            }
        }
        outcome.is_some()
    }

    /// Keeps a prepared statement; its handle.
    ///
    /// # Errors
    /// When there are too many.
    pub fn prepare(&self, prepared: Text) -> Result<String> {
        let mut all = self.prepared.lock();
        if all.len() >= self.limits.prepared {
            return Err(SinewError::TooMany {
                what: format!("{} prepared statements of a session (flight_prepared)", self.limits.prepared),
                hint: "close those that are not used".into(),
            });
        }
        room(&all, &prepared)?;
        let name = self.names.next();
        all.insert(name.clone(), prepared);
        Ok(name)
    }

    /// A prepared statement.
    ///
    /// # Errors
    /// When this session has none of that handle.
    pub fn prepared(&self, handle: &[u8]) -> Result<Text> {
        let all = self.prepared.lock();
        let found = std::str::from_utf8(handle).ok().and_then(|handle| all.get(handle)).cloned();
        found.ok_or_else(|| SinewError::UnknownHandle {
            what: "the prepared statement".into(),
            hint: "prepare it again".into(),
        })
    }

    /// Gives values to the parameters of a prepared statement, for its next runs.
    ///
    /// # Errors
    /// When this session has none of that handle.
    pub fn bind(&self, handle: &[u8], values: Option<RecordBatch>) -> Result<()> {
        let bound = Text { values, ..self.prepared(handle)? };
        let handle = String::from_utf8_lossy(handle).into_owned();
        let mut all = self.prepared.lock();
        room(&all, &bound)?;
        all.insert(handle, bound);
        Ok(())
    }

    /// Forgets a prepared statement; one that is not there is no error.
    pub fn unprepare(&self, handle: &[u8]) {
        if let Ok(handle) = std::str::from_utf8(handle) {
            self.prepared.lock().remove(handle);
        }
    }

    /// Drops results nobody asked for in time.
    pub fn expire(&self) {
        self.results.lock().retain(|_, kept| kept.last.elapsed() < KEPT || !kept.outcome.has_ended());
    }

    /// Stops everything, for good, because the server ends.
    pub fn stop(&self) {
        for kept in self.results.lock().values() {
            if let Outcome::Run(run) = &kept.outcome {
                run.stop();
            }
        }
        self.closed.send_replace(Closed::Ending);
        self.close();
    }

    /// Stops everything, for good.
    pub fn close(&self) {
        self.closed.send_if_modified(|closed| {
            let open = *closed == Closed::Not;
            *closed = if open { Closed::Over } else { *closed };
            open
        });
        self.prepared.lock().clear();
        let results: Vec<Kept> = self.results.lock().drain().map(|(_, kept)| kept).collect();
        for kept in results {
            if let Outcome::Run(run) = kept.outcome {
                run.cancel();
            }
        }
    }
}

/// # Errors
/// When there is no room for one more among those that are prepared.
fn room(all: &HashMap<String, Text>, more: &Text) -> Result<()> {
    if all.values().map(Text::bytes).sum::<usize>() + more.bytes() <= PREPARED_BYTES {
        return Ok(());
    }
    Err(SinewError::TooMany {
        what: format!("{} MiB of prepared statements and their values", PREPARED_BYTES >> 20),
        hint: "close those that are not used".into(),
    })
}

impl Drop for Statements {
    fn drop(&mut self) {
        self.close();
    }
}

impl Outcome {
    fn has_ended(&self) -> bool {
        match self {
            Self::Query(_) | Self::Placed(..) => true,
            Self::Run(run) => run.has_ended(),
        }
    }
}
