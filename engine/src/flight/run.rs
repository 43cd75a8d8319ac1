//! A statement that runs once: its rows are kept, for clients that follow it and for those that come later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::{concat_batches, max};
use datafusion::arrow::datatypes::{Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::execution::memory_pool::MemoryReservation;
use futures::StreamExt;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use sinew_sql::name::quote;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Status;

use super::auth::audit::Entry;
use super::schema::{client_batch, client_schema};
use super::statements::AGAIN;
use super::status::to_status;
use super::workers::Workers;
use crate::error::{Result, SinewError};
use crate::session::{Execution, ExecutionKind};

/// Bytes of rows that one statement may keep.
const MOST_BYTES: usize = 64 << 20;
/// Rows that are joined into one batch: reports come a row at a time, and a batch costs more than its row.
const JOINED: usize = 256;

/// A statement that was started.
#[derive(Debug)]
pub struct Run {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    task: Mutex<Option<AbortHandle>>,
    /// Its line in the audit, until it has ended.
    entry: Mutex<Option<Entry>>,
    followers: AtomicUsize,
}

#[derive(Debug)]
struct State {
    opened: Option<(ExecutionKind, SchemaRef)>,
    batches: Vec<RecordBatch>,
    bytes: usize,
    memory: MemoryReservation,
    end: Option<std::result::Result<(), Status>>,
    /// The most iterations that a training makes.
    steps: Option<u64>,
    /// Those it has made.
    made: u64,
}

/// Says how the run ended, however its task did.
struct Ending(Arc<Run>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finish(Err(to_status(&SinewError::Cancelled)));
    }
}

impl Run {
    /// Starts a statement on the workers. `started` gives its execution, `memory` counts its rows, `held` is kept
    /// until it ends, and `entry` says then how it did.
    pub fn start(
        workers: &Workers,
        started: impl Future<Output = Result<Execution>> + Send + 'static,
        memory: MemoryReservation,
        held: impl Send + 'static,
        entry: Option<Entry>,
    ) -> Arc<Self> {
        let state = State { opened: None, batches: Vec::new(), bytes: 0, memory, end: None, steps: None, made: 0 };
        let run = Arc::new(Self {
            state: Mutex::new(state),
            changed: watch::channel(()).0,
            task: Mutex::new(None),
            entry: Mutex::new(entry),
            followers: AtomicUsize::new(0),
        });
        let (inside, ending) = (Arc::clone(&run), Ending(Arc::clone(&run)));
        let task = workers.0.spawn(async move {
            let result = inside.drive(started).await.map_err(|error| to_status(&error));
            // Who sees its end may begin another.
            drop(held);
            inside.finish(result);
            drop(ending);
        });
        *run.task.lock() = Some(task.abort_handle());
        run
    }

    async fn drive(&self, started: impl Future<Output = Result<Execution>>) -> Result<()> {
        let mut execution = started.await?;
        let schema = client_schema(&execution.schema());
        {
            let mut state = self.state.lock();
            state.opened = Some((execution.kind(), Arc::clone(&schema)));
            state.steps = execution.steps();
        }
        self.changed.send_replace(());
        while let Some(batch) = execution.next().await {
            self.keep(client_batch(&schema, &batch?)?)?;
            self.changed.send_replace(());
        }
        Ok(())
    }

    fn keep(&self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut state = self.state.lock();
        if state.steps.is_some() {
            let numbers = batch.column_by_name("iteration").and_then(|c| c.as_primitive_opt::<Int64Type>());
            let last = numbers.and_then(max).and_then(|last| u64::try_from(last).ok());
            state.made = state.made.max(last.unwrap_or_default());
        }
        let joined = state.batches.last().filter(|last| last.num_rows() + batch.num_rows() <= JOINED);
        let (replaces, batch) = match joined.map(|last| concat_batches(&batch.schema(), [last, &batch])) {
            Some(joined) => (true, joined.map_err(|e| SinewError::Internal(e.to_string()))?),
            None => (false, batch),
        };
        if replaces && let Some(last) = state.batches.pop() {
            state.bytes -= last.get_array_memory_size();
        }
        state.bytes += batch.get_array_memory_size();
        state.batches.push(batch);
        state.memory.try_resize(state.bytes)?;
        if state.bytes > MOST_BYTES {
            return Err(SinewError::TooMany {
                what: format!("{} MiB of rows of one statement that writes", MOST_BYTES >> 20),
                hint: "write them to a table, and select from it".into(),
            });
        }
        Ok(())
    }

    fn finish(&self, end: std::result::Result<(), Status>) {
        let (end, rows) = {
            let mut state = self.state.lock();
            let end = state.end.get_or_insert(end).clone();
            (end, state.batches.iter().map(RecordBatch::num_rows).sum::<usize>())
        };
        if let Some(entry) = self.entry.lock().take() {
            entry.end(end.as_ref().map(|()| rows as u64).map_err(Status::message));
        }
        self.changed.send_replace(());
    }

    /// Stops the statement, if it still runs.
    pub fn cancel(&self) {
        self.finish(Err(to_status(&SinewError::Cancelled)));
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Stops the statement, if it still runs, because the server ends.
    pub fn stop(&self) {
        self.finish(Err(to_status(&self.stopped())));
        self.cancel();
    }

    /// What somebody is told whose statement the server stops.
    pub fn stopped(&self) -> SinewError {
        SinewError::Stopped { next: self.next() }
    }

    fn next(&self) -> String {
        let state = self.state.lock();
        let model = state.batches.last().and_then(|rows| rows.column_by_name("model")?.as_string_opt::<i32>());
        match model.filter(|model| state.steps.is_some() && !model.is_empty()).map(|model| quote(model.value(0))) {
            Some(model) => format!(
                "nothing is published, and the training goes on from its last checkpoint: by itself when a scheduler is \
                 back, with RETRAIN MODEL {model} RESUME on another server; where it has no checkpoint yet, run the \
                 statement again"
            ),
            None => AGAIN.into(),
        }
    }

    /// Whether the statement has ended.
    pub fn has_ended(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// How far a training is at least, from 0 to 1, never less than before: its iterations of the most that it may
    /// make, of which it may need fewer. `None` for other statements.
    pub fn progress(&self) -> Option<f64> {
        let state = self.state.lock();
        let steps = state.steps?;
        match state.end {
            Some(Ok(())) => Some(1.0),
            _ => Some((state.made as f64 / steps.max(1) as f64).min(1.0)),
        }
    }

    /// Bytes of rows kept.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Waits for kind and columns, which come before the first row.
    ///
    /// # Errors
    /// When the statement failed before it had any.
    pub async fn opened(&self) -> std::result::Result<(ExecutionKind, SchemaRef), Status> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let state = self.state.lock();
                match (&state.opened, &state.end) {
                    (Some(opened), _) => return Ok(opened.clone()),
                    (None, Some(Err(status))) => return Err(status.clone()),
                    (None, Some(Ok(()))) => return Ok((ExecutionKind::Done, Arc::new(Schema::empty()))),
                    (None, None) => {}
                }
            }
            let _ = changed.changed().await;
        }
    }

    /// Waits for the end; the number of rows.
    ///
    /// # Errors
    /// When the statement failed.
    pub async fn ended(&self) -> std::result::Result<usize, Status> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let state = self.state.lock();
                if let Some(end) = &state.end {
                    return end.clone().map(|()| state.batches.iter().map(RecordBatch::num_rows).sum());
                }
            }
            let _ = changed.changed().await;
        }
    }

    /// The number of rows written, where the result says it: one `count` for each time the statement ran.
    pub fn count(&self) -> Option<i64> {
        let state = self.state.lock();
        let mut total = 0;
        for batch in &state.batches {
            let column = batch.column_by_name("count")?.as_primitive_opt::<UInt64Type>()?;
            total += column.iter().flatten().sum::<u64>();
        }
        (!state.batches.is_empty()).then_some(total as i64)
    }

    /// All rows from the first, and those to come. The statement is cancelled when nobody follows it any more.
    pub fn follow(self: &Arc<Self>) -> BoxStream<'static, std::result::Result<RecordBatch, Status>> {
        self.followers.fetch_add(1, Ordering::SeqCst);
        let follower = Follower { run: Arc::clone(self), changed: self.changed.subscribe(), rows: 0, done: false };
        futures::stream::unfold(follower, |mut follower| async move {
            let item = follower.next().await?;
            Some((item, follower))
        })
        .boxed()
    }
}

/// One reader of a run.
struct Follower {
    run: Arc<Run>,
    changed: watch::Receiver<()>,
    rows: usize,
    done: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<std::result::Result<RecordBatch, Status>> {
        while !self.done {
            self.changed.borrow_and_update();
            if let Some(batch) = self.unread() {
                self.rows += batch.num_rows();
                return Some(Ok(batch));
            }
            let end = self.run.state.lock().end.clone();
            match end {
                // Rows may have come between the two looks.
                Some(_) if self.unread().is_some() => {}
                Some(end) => {
                    self.done = true;
                    return end.err().map(Err);
                }
                None => {
                    let _ = self.changed.changed().await;
                }
            }
        }
        None
    }

    fn unread(&self) -> Option<RecordBatch> {
        let state = self.run.state.lock();
        let mut before = 0;
        for batch in &state.batches {
            if self.rows < before + batch.num_rows() {
                let from = self.rows - before;
                return Some(batch.slice(from, batch.num_rows() - from));
            }
            before += batch.num_rows();
        }
        None
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.run.followers.fetch_sub(1, Ordering::SeqCst) == 1 && !self.run.has_ended() {
            self.run.cancel();
        }
    }
}

/// Cancels a run when it is dropped, unless it is let go.
#[derive(Debug)]
pub struct Leash(Option<Arc<Run>>);

impl Leash {
    /// Holds a run.
    pub fn new(run: &Arc<Run>) -> Self {
        Self(Some(Arc::clone(run)))
    }

    /// The run goes on without this.
    pub fn let_go(mut self) {
        self.0 = None;
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(run) = self.0.take() {
            run.cancel();
        }
    }
}
