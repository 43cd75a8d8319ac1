//! Rows that every process reaches, trainings over them, and what they must come to.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use futures::StreamExt;
use sinew::Session;
use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::{Engine, number, run, weights};
use tokio::task::JoinHandle;

/// How long something may take that takes a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Columns of all kinds, with missing values, that follow from `value`.
const COLUMNS: &str = "sin(value) AS a, CASE WHEN value % 11 > 0 THEN (value * 7919 % 1000) / 8.0 END AS b, \
                       value % 101 AS c, concat('k', value % 5) AS d, value % 3 AS class, \
                       CASE WHEN sin(value) + (value * 31 % 17) / 17.0 > 0.5 THEN 1 ELSE 0 END AS yes, \
                       3.0 * sin(value) + value % 101 AS y";

/// The same rows in several forms.
pub struct Rows {
    folder: tempfile::TempDir,
    /// How many.
    pub count: usize,
}

impl Rows {
    /// So many rows in so many Parquet files.
    pub async fn new(count: usize, files: usize) -> Self {
        let rows = Self { folder: tempfile::tempdir().unwrap(), count };
        rows.write("rows", files, "PARQUET").await;
        rows
    }

    /// Writes them again, as a folder of so many files.
    pub async fn write(&self, name: &str, files: usize, format: &str) {
        let engine = Engine::new(1);
        for file in 0..files {
            let part = format!("SELECT value AS id, {COLUMNS} FROM generate_series(1, {}) t(value)", self.count);
            let path = self.path(&format!("{name}/{file}.{}", format.to_lowercase()));
            let path = path.display();
            engine.run(&format!("COPY ({part} WHERE value % {files} = {file}) TO '{path}' STORED AS {format}")).await;
        }
    }

    /// The folder of all forms.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder of files, as it stands in a query.
    pub fn files(&self, name: &str) -> String {
        format!("'{}/'", self.path(name).display())
    }

    /// A query that counts them, and must read them: the footers of the files say how many there are.
    pub fn counting(&self) -> String {
        format!("SELECT count(*) FROM {} WHERE c + 1 > 0", self.files("rows"))
    }

    /// What trainings read.
    pub fn query(&self) -> String {
        format!("SELECT a, b, c, d, class, yes, y FROM {}", self.files("rows"))
    }

    /// The same rows by a query that must be run as a whole.
    pub fn joined(&self) -> String {
        let files = self.files("rows");
        format!(
            "SELECT l.a, l.b, r.c, r.d, r.class, r.yes, r.y FROM {files} l JOIN (SELECT id, c, d, max(class) AS class, \
             max(yes) AS yes, max(y) AS y FROM {files} GROUP BY id, c, d) r ON l.id = r.id"
        )
    }
}

/// Trainings of all kinds, without their query.
pub const FAMILIES: [&str; 7] = [
    "linear_regression PREDICT y SPLIT NONE OPTIONS (reg_param = 0.01)",
    "logistic_regression PREDICT yes SPLIT NONE OPTIONS (reg_param = 0.001)",
    "logistic_regression PREDICT class SPLIT NONE OPTIONS (reg_param = 0.01, max_iter = 10)",
    "kmeans OPTIONS (k = 3, max_iter = 5)",
    "logistic_regression PREDICT yes OPTIONS (solver = 'sgd', mini_batch_fraction = 0.25, max_iter = 6, tol = 0)",
    "mlp_classifier PREDICT class OPTIONS (hidden_units = [12, 6], dropout = 0.1, max_iter = 3, local_steps = 2)",
    "mlp_regressor PREDICT y SPLIT NONE OPTIONS (hidden_units = [], solver = 'lbfgs', shards = 3, max_iter = 4)",
];

/// A training that takes so many steps, whatever it finds.
pub fn long(model: &str, steps: usize, query: &str) -> String {
    let options = format!("OPTIONS (solver = 'sgd', max_iter = {steps}, tol = 0)");
    format!("TRAIN MODEL {model} USING logistic_regression PREDICT yes SPLIT NONE {options} AS {query}")
}

/// A training of a network that takes so many rounds.
pub fn long_network(model: &str, rounds: usize, query: &str) -> String {
    let options = format!("OPTIONS (hidden_units = [8], max_iter = {rounds}, batch_size = 4000, early_stop = false)");
    format!("TRAIN MODEL {model} USING mlp_classifier PREDICT class SPLIT NONE {options} AS {query}")
}

/// The weights that a training of the model `m` has in one process.
pub async fn expected(train: &str) -> Vec<u8> {
    let engine = Engine::new(2);
    engine.run(train).await;
    weights(&engine.warehouse(), "m")
}

/// A statement that runs while the test goes on.
pub fn start(session: &Session, sql: &str) -> JoinHandle<Result<Vec<RecordBatch>, String>> {
    let (session, sql) = (session.clone(), sql.to_string());
    tokio::spawn(async move { run(&session, &sql).await })
}

/// The only number of a query's result.
pub async fn one(session: &Session, sql: &str) -> f64 {
    let batches = run(session, sql).await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
    let batch = batches.iter().find(|batch| batch.num_rows() > 0).unwrap_or_else(|| panic!("no rows: {sql}"));
    number(batch.column(0), 0)
}

/// Drops a statement when `when` has happened.
pub async fn drop_when(session: &Session, sql: &str, when: impl AsyncFnOnce()) {
    let (session, sql) = (session.clone(), sql.to_string());
    let running = tokio::spawn(async move {
        let mut statements = session.sql(&sql);
        let mut execution = statements.next().await.unwrap().unwrap();
        while let Some(batch) = execution.next().await {
            batch.unwrap();
        }
    });
    when().await;
    assert!(!running.is_finished(), "it ended before it could be cancelled");
    running.abort();
    let _ = running.await;
}

/// Waits until something holds.
pub async fn wait_until(what: &str, holds: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until trainings have left no file of theirs in a warehouse.
pub async fn no_runs(cluster: &Cluster) {
    fn files(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
    }
    wait_until("an empty folder of runs", async || files(&cluster.warehouse().join("runs")) == 0).await;
}

/// Waits until so many steps of trainings have ended.
pub async fn steps(cluster: &Cluster, count: usize) {
    let done = async || cluster.metric("sinew_steps_total").is_some_and(|steps| steps >= count as f64);
    wait_until(&format!("step {count}"), done).await;
}

/// Numbers that look random and are the same every time.
pub struct Dice(u64);

impl Dice {
    /// A series of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next, from 0 to 1.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}
