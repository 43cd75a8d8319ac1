//! A store behind a gate: what is written becomes an object once the gate is open, and never if it fails.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use url::Url;

use crate::error::SinewError;
use crate::storage::failure::ours;

/// Whether objects may appear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open,
    Failed,
}

/// What rows and writers share.
#[derive(Debug)]
pub struct Gate {
    state: watch::Sender<State>,
    failure: Mutex<Option<DataFusionError>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: watch::Sender::new(State::Closed), failure: Mutex::default() }
    }
}

impl Gate {
    /// The keeper that the rows hold; a gate whose keeper goes away without opening it has failed.
    pub fn watch(gate: &Arc<Self>) -> Keeper {
        Keeper { gate: Arc::clone(gate) }
    }

    /// The error that the rows or the store ended with, once.
    pub fn failure(&self) -> Option<DataFusionError> {
        self.failure.lock().take()
    }

    /// Keeps why the store could not be written: the writers above it say less.
    fn keep(&self, path: &Path, error: object_store::Error) -> object_store::Error {
        let text = error.to_string();
        let kept = ours(error).unwrap_or_else(|error| {
            let what = format!("writing '/{path}'");
            SinewError::Io { what, source: std::io::Error::other(error.to_string()) }
        });
        self.failure.lock().get_or_insert_with(|| kept.into());
        object_store::Error::Generic { store: "COPY", source: text.into() }
    }

    /// Waits until objects may appear.
    async fn pass(&self) -> Result<()> {
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| *state != State::Closed).await.map(|state| *state);
        match state {
            Ok(State::Open) => Ok(()),
            _ => Err(object_store::Error::Generic { store: "COPY", source: "its rows ended with an error".into() }),
        }
    }
}

/// Opens the gate, or fails it.
#[derive(Debug)]
pub struct Keeper {
    gate: Arc<Gate>,
}

impl Keeper {
    /// All rows were read.
    pub fn open(&mut self) {
        self.set(State::Open);
    }

    /// The rows ended with an error, which is kept; the writer is told of another.
    pub fn fail(&mut self, item: Option<DataFusionResult<RecordBatch>>) -> DataFusionResult<RecordBatch> {
        if let Some(Err(error)) = item {
            self.gate.failure.lock().get_or_insert(error);
        }
        self.set(State::Failed);
        Err(DataFusionError::Execution("the rows of a COPY ended with an error".into()))
    }

    /// What was set first stays.
    fn set(&self, to: State) {
        self.gate.state.send_if_modified(|state| {
            let first = *state == State::Closed;
            if first {
                *state = to;
            }
            first
        });
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.set(State::Failed);
    }
}

/// The task with every store behind the gate.
pub fn gated(context: &Arc<TaskContext>, gate: &Arc<Gate>) -> Arc<TaskContext> {
    let runtime = context.runtime_env();
    let registry = GatedRegistry { inner: Arc::clone(&runtime.object_store_registry), gate: Arc::clone(gate) };
    let runtime = RuntimeEnv { object_store_registry: Arc::new(registry), ..runtime.as_ref().clone() };
    Arc::new(TaskContext::new(
        context.task_id(),
        context.session_id(),
        context.session_config().clone(),
        context.scalar_functions().clone(),
        context.higher_order_functions().clone(),
        context.aggregate_functions().clone(),
        context.window_functions().clone(),
        Arc::new(runtime),
    ))
}

#[derive(Debug)]
struct GatedRegistry {
    inner: Arc<dyn ObjectStoreRegistry>,
    gate: Arc<Gate>,
}

impl ObjectStoreRegistry for GatedRegistry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.inner.register_store(url, store)
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        Ok(Arc::new(GatedStore { inner: self.inner.get_store(url)?, gate: Arc::clone(&self.gate) }))
    }
}

#[derive(Debug)]
struct GatedStore {
    inner: Arc<dyn ObjectStore>,
    gate: Arc<Gate>,
}

impl fmt::Display for GatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for GatedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.gate.pass().await?;
        self.inner.put_opts(location, payload, options).await.map_err(|e| self.gate.keep(location, e))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, options).await;
        let inner = inner.map_err(|e| self.gate.keep(location, e))?;
        Ok(Box::new(GatedUpload { inner, gate: Arc::clone(&self.gate), path: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.gate.pass().await?;
        self.inner.copy_opts(from, to, options).await
    }
}

/// Parts travel while the rows come; the object appears behind the gate.
#[derive(Debug)]
struct GatedUpload {
    inner: Box<dyn MultipartUpload>,
    gate: Arc<Gate>,
    path: Path,
}

#[async_trait]
impl MultipartUpload for GatedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (gate, path) = (Arc::clone(&self.gate), self.path.clone());
        let part = self.inner.put_part(data);
        Box::pin(async move { part.await.map_err(|e| gate.keep(&path, e)) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        if let Err(error) = self.gate.pass().await {
            // A store may keep the parts of an upload that nobody ends.
            let _ = self.inner.abort().await;
            return Err(error);
        }
        self.inner.complete().await.map_err(|e| self.gate.keep(&self.path, e))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
