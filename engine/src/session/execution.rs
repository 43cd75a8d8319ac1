//! The results of statements, as they come.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::Session;
use super::split::{Piece, split};
use crate::error::{Result, SinewError};

/// What kind of statement a result belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionKind {
    /// Rows of a query, of SHOW, DESCRIBE or EXPLAIN, or the count of rows written.
    Rows,
    /// Something was created, dropped or set; there are no columns.
    Done,
    /// The report of a training, one row for each iteration while it runs.
    Training,
}

/// The result of one statement: a schema, known at once, and batches as they come. Dropping it cancels
/// the statement.
pub struct Execution {
    kind: ExecutionKind,
    schema: SchemaRef,
    stream: BoxStream<'static, Result<RecordBatch>>,
    steps: Option<u64>,
    /// The run of a training.
    run: Option<String>,
    warnings: Warnings,
}

/// What a training warns of; its stream fills it in before it ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Says what there is to warn of.
    pub fn set(&self, warnings: Vec<String>) {
        *self.0.lock() = warnings;
    }
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution").field("kind", &self.kind).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Execution {
    /// A result of batches that come from elsewhere.
    pub fn new(kind: ExecutionKind, schema: SchemaRef, stream: BoxStream<'static, Result<RecordBatch>>) -> Self {
        let stream = AssertUnwindSafe(stream).catch_unwind();
        let stream = stream.map(|item| item.unwrap_or_else(|panic| Err(SinewError::from_panic(&*panic))));
        Self { kind, schema, stream: stream.boxed(), steps: None, run: None, warnings: Warnings::default() }
    }

    /// A result without columns.
    pub fn done() -> Self {
        Self::new(ExecutionKind::Done, Arc::new(Schema::empty()), futures::stream::empty().boxed())
    }

    /// A result that is here already.
    pub fn of_batch(batch: RecordBatch) -> Self {
        let schema = batch.schema();
        Self::new(ExecutionKind::Rows, schema, futures::stream::iter([Ok(batch)]).boxed())
    }

    /// The rows of a running plan; errors of reading name the plan's files.
    pub(crate) fn of_plan(plan: Arc<dyn ExecutionPlan>, stream: SendableRecordBatchStream) -> Self {
        let schema = stream.schema();
        let stream = stream.map(move |batch| batch.map_err(|e| name_files(e.into(), &plan)));
        Self::new(ExecutionKind::Rows, schema, stream.boxed())
    }

    /// The same result, and then something else to do, whether it failed or not.
    pub(crate) fn and_then_always(self, last: impl Future<Output = ()> + Send + 'static) -> Self {
        let last = futures::stream::once(last).filter_map(|()| std::future::ready(None));
        Self { stream: self.stream.chain(last).boxed(), ..self }
    }

    /// The same result, of a training that makes at most so many iterations.
    pub(crate) fn with_steps(self, steps: Option<u64>) -> Self {
        Self { steps, ..self }
    }

    /// The same result, of the training that is called so.
    pub(crate) fn with_run(self, run: String) -> Self {
        Self { run: Some(run), ..self }
    }

    /// The same result, whose warnings `warnings` will have.
    pub(crate) fn with_warnings(self, warnings: Warnings) -> Self {
        Self { warnings, ..self }
    }

    /// The same result; `see` is shown each batch.
    pub(crate) fn seen_by(self, mut see: impl FnMut(&RecordBatch) + Send + 'static) -> Self {
        Self { stream: self.stream.inspect_ok(move |batch| see(batch)).boxed(), ..self }
    }

    /// What a training warns of, as DESCRIBE MODEL shows it: that it has not converged, columns that are constant, rows
    /// that repeat. Known once its last row was read; empty before, and for other statements.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.0.lock().clone()
    }

    /// The run of a training; `None` for other statements.
    pub(crate) fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// The most iterations that a training makes; `None` for other statements.
    pub(crate) fn steps(&self) -> Option<u64> {
        self.steps
    }

    /// What kind of statement this belongs to.
    pub fn kind(&self) -> ExecutionKind {
        self.kind
    }

    /// The columns; none for statements that return nothing.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// All batches.
    ///
    /// # Errors
    /// When the statement fails.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.next().await {
            batches.push(batch?);
        }
        Ok(batches)
    }
}

impl Stream for Execution {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(cx)
    }
}

/// The statements of a script. Each is parsed, planned and started when it is asked for, so it sees what
/// those before it did; read one result to its end before asking for the next.
#[derive(Debug)]
pub struct Statements {
    session: Session,
    pieces: std::vec::IntoIter<Piece>,
    current: Option<Piece>,
}

impl Statements {
    pub(crate) fn new(session: Session, script: &str) -> Self {
        Self { session, pieces: split(script).into_iter(), current: None }
    }

    /// Starts the next statement; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<Execution>> {
        let piece = self.pieces.next()?;
        let result = self.session.run(&piece).await;
        self.current = Some(piece);
        Some(result)
    }

    /// The statement that was started last.
    pub fn current(&self) -> Option<&Piece> {
        self.current.as_ref()
    }

    /// Takes the next statement without starting it.
    pub fn skip(&mut self) -> Option<&Piece> {
        self.current = Some(self.pieces.next()?);
        self.current.as_ref()
    }

    /// Starts the statement [`Self::skip`] took.
    pub async fn start(&self) -> Result<Execution> {
        match &self.current {
            Some(piece) => self.session.run(piece).await,
            None => Err(SinewError::Internal("no statement was taken".into())),
        }
    }

    /// Runs all statements one after another and returns the batches of the last.
    ///
    /// # Errors
    /// The first error; later statements do not run.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>> {
        let mut last = Vec::new();
        while let Some(result) = self.next().await {
            last = result?.collect().await?;
        }
        Ok(last)
    }
}

/// An error of reading, with the files the plan reads where its text names none of them.
pub(super) fn name_files(error: SinewError, plan: &Arc<dyn ExecutionPlan>) -> SinewError {
    let SinewError::Execution { reason, hint, source } = error else { return error };
    let files = files_of(plan);
    let named = files.iter().any(|f| reason.contains(f.trim_start_matches('/')));
    match files.first() {
        Some(first) if !named && from_a_file(&reason) => {
            let more =
                if files.len() > 1 { format!(" (or one of {} more files)", files.len() - 1) } else { String::new() };
            SinewError::File { path: first.clone(), reason: format!("{reason}{more}"), source: Some(source) }
        }
        _ => SinewError::Execution { reason, hint, source },
    }
}

/// Whether an error speaks of a file's contents.
fn from_a_file(reason: &str) -> bool {
    let lower = reason.to_lowercase();
    ["csv", "parquet", "json", "thrift", "page", "utf-8", "utf8", "snappy", "gzip", "zstd", "corrupt", "eof", "line "]
        .iter()
        .any(|word| lower.contains(word))
}

fn files_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let mut files = Vec::new();
    let walked = plan.apply(|node| {
        if let Some(scan) = node.downcast_ref::<DataSourceExec>()
            && let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>()
        {
            for file in config.file_groups.iter().flat_map(|group| group.files()) {
                let path = crate::storage::show(&config.object_store_url, &file.object_meta.location);
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if walked.is_ok() { files } else { Vec::new() }
}
