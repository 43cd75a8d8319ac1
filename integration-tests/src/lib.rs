//! What the tests of `tests/` share: a session with a warehouse of its own, and rows as plain values.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod cluster;
pub mod island;
pub mod servers;
pub mod slt;

use std::path::{Path, PathBuf};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use futures::StreamExt;
use sinew::flight::{ServeOptions, serve};
use sinew::{Session, SessionOptions};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A file of the repository, as text that can stand in a statement.
pub fn file(path: &str) -> String {
    root().join(path).display().to_string()
}

/// Where statements run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// In this process.
    Embedded,
    /// On a Flight SQL server; the session is a connection to it.
    Flight,
    /// On a scheduler and so many executors, all processes of their own.
    Cluster(usize),
}

/// A session over a warehouse of its own.
pub struct Engine {
    /// The session.
    pub session: Session,
    warehouse: tempfile::TempDir,
    /// The server's address, and what stops it when it is dropped, where there is one.
    server: Option<(String, oneshot::Sender<()>)>,
    /// The processes that run its statements, where there are some.
    cluster: Option<cluster::Cluster>,
}

impl Engine {
    /// A session with `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self::open(threads, SessionOptions::new())
    }

    /// A session with `threads` threads and `bytes` of memory.
    pub fn with_memory(threads: usize, bytes: u64) -> Self {
        Self::open(threads, SessionOptions::new().with_memory_limit(bytes).unwrap())
    }

    fn open(threads: usize, options: SessionOptions) -> Self {
        let warehouse = tempfile::tempdir().unwrap();
        let options = options.with_warehouse(&warehouse.path().display().to_string()).unwrap();
        let options = options.with_threads(threads).unwrap();
        Self { session: Session::embedded(options).unwrap(), warehouse, server: None, cluster: None }
    }

    /// A session with `threads` threads whose statements run elsewhere, if the topology says so.
    pub async fn on(topology: Topology, threads: usize) -> Self {
        let mut engine = Self::new(threads);
        match topology {
            Topology::Embedded => engine,
            Topology::Flight => engine.served().await,
            Topology::Cluster(executors) => {
                let cluster = cluster::Cluster::start(executors);
                engine.session = cluster.session().await;
                engine.cluster = Some(cluster);
                engine
            }
        }
    }

    /// The processes that run its statements.
    pub fn cluster(&mut self) -> &mut cluster::Cluster {
        self.cluster.as_mut().unwrap()
    }

    /// The same engine behind a server, and a connection to it.
    async fn served(mut self) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("grpc://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let server = serve(self.session, listener, ServeOptions::default(), async move {
            let _ = stopped.await;
        });
        tokio::spawn(async move { server.await.unwrap() });
        self.session = Session::connect(&url).await.unwrap();
        self.server = Some((url, stop));
        self
    }

    /// The address of its server, where there is one.
    pub fn url(&self) -> Option<&str> {
        self.server.as_ref().map(|(url, _)| url.as_str())
    }

    /// The folder of its warehouse.
    pub fn warehouse(&self) -> PathBuf {
        self.cluster.as_ref().map_or_else(|| self.warehouse.path().to_path_buf(), cluster::Cluster::warehouse)
    }

    /// Runs a script; the batches of its last statement, or the first error as text.
    pub async fn try_run(&self, script: &str) -> Result<Vec<RecordBatch>, String> {
        run(&self.session, script).await
    }

    /// Runs a script that must succeed.
    pub async fn run(&self, script: &str) -> Vec<RecordBatch> {
        self.try_run(script).await.unwrap_or_else(|e| panic!("{script}\n{e}"))
    }

    /// The error of a script that must fail.
    pub async fn error(&self, script: &str) -> String {
        match self.try_run(script).await {
            Err(error) => error,
            Ok(_) => panic!("succeeded: {script}"),
        }
    }

    /// The first row of a script's last result, as numbers (NULL is NaN).
    pub async fn numbers(&self, script: &str) -> Vec<f64> {
        let batches = self.run(script).await;
        let batch = batches.iter().find(|b| b.num_rows() > 0).unwrap_or_else(|| panic!("no rows: {script}"));
        batch.columns().iter().map(|c| number(c, 0)).collect()
    }

    /// A column of a script's last result, as numbers (NULL is NaN).
    pub async fn column(&self, script: &str, name: &str) -> Vec<f64> {
        let batches = self.run(script).await;
        let column =
            |b: &RecordBatch| (0..b.num_rows()).map(|i| number(b.column_by_name(name).unwrap(), i)).collect::<Vec<_>>();
        batches.iter().flat_map(column).collect()
    }
}

/// Runs a script; the batches of its last statement, or the first error as text.
pub async fn run(session: &Session, script: &str) -> Result<Vec<RecordBatch>, String> {
    let mut statements = session.sql(script);
    let mut last = Vec::new();
    while let Some(execution) = statements.next().await {
        let mut execution = execution.map_err(|e| e.to_string())?;
        last.clear();
        let schema = execution.schema();
        while let Some(batch) = execution.next().await {
            last.push(batch.map_err(|e| e.to_string())?);
        }
        // Columns have names even where no batch came.
        if last.is_empty() && !schema.fields().is_empty() {
            last.push(RecordBatch::new_empty(schema));
        }
    }
    Ok(last)
}

/// The weights of a model that has one version, as they lie in the folder of a warehouse.
pub fn weights(warehouse: &Path, model: &str) -> Vec<u8> {
    let data = warehouse.join("models").join(model).join("data");
    let runs = std::fs::read_dir(&data).unwrap_or_else(|e| panic!("{}: {e}", data.display()));
    let mut files: Vec<PathBuf> = runs.map(|run| run.unwrap().path().join("weights.safetensors")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::read(files.remove(0)).unwrap()
}

/// A value of a numeric column; NaN for NULL.
pub fn number(column: &dyn Array, row: usize) -> f64 {
    let values = cast(column, &DataType::Float64).unwrap();
    if values.is_null(row) { f64::NAN } else { values.as_primitive::<Float64Type>().value(row) }
}
