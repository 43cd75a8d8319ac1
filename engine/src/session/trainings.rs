//! The trainings that run in this process: whose they are, how far they have come, and a way to stop them.
//!
//! The sessions of a server share one list. A session sees the trainings of its own user, an administrator's all of
//! them; one that it does not see is to it as one that there is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::error::{Result, SinewError};

/// A training that is cancelled has ended sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whose trainings a session sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The user who runs statements; `None` where nobody is asked who they are.
    pub user: Option<String>,
    /// Whether the session sees the trainings of others.
    pub others: bool,
}

/// Those who use a process of their own see all that it does.
impl Default for Viewer {
    fn default() -> Self {
        Self { user: None, others: true }
    }
}

impl Viewer {
    fn sees(&self, training: &Training) -> bool {
        self.others || self.user == training.user
    }
}

/// A training that runs.
#[derive(Debug)]
pub struct Training {
    /// The name of the run.
    pub run: String,
    /// The model's name.
    pub model: String,
    /// The statement as written.
    pub statement: String,
    /// Who started it, where that is known.
    pub user: Option<String>,
    /// When it was started, in milliseconds of Unix time.
    pub started_ms: i64,
    progress: Mutex<Option<(i64, f64)>>,
    cancel: Notify,
}

impl Training {
    /// The last iteration that its report has, and the loss there.
    pub fn progress(&self) -> Option<(i64, f64)> {
        *self.progress.lock()
    }

    /// Notes how far the rows of its report have come.
    pub fn saw(&self, rows: &RecordBatch) {
        let iteration = rows.column_by_name("iteration").and_then(|a| a.as_primitive_opt::<Int64Type>());
        let loss = rows.column_by_name("loss").and_then(|a| a.as_primitive_opt::<Float64Type>());
        if let (Some(iteration), Some(loss), Some(last)) = (iteration, loss, rows.num_rows().checked_sub(1)) {
            *self.progress.lock() = Some((iteration.value(last), loss.value(last)));
        }
    }

    /// Waits until somebody asks it to stop.
    pub async fn cancelled(&self) {
        self.cancel.notified().await;
    }
}

/// All trainings of a process.
#[derive(Debug)]
pub struct Trainings {
    running: Mutex<BTreeMap<String, Arc<Training>>>,
    ended: watch::Sender<()>,
}

impl Default for Trainings {
    fn default() -> Self {
        Self { running: Mutex::default(), ended: watch::channel(()).0 }
    }
}

impl Trainings {
    /// Adds one, until what is returned is dropped.
    pub fn begin(self: &Arc<Self>, run: &str, model: &str, statement: &str, viewer: Viewer) -> Running {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let training = Arc::new(Training {
            run: run.into(),
            model: model.into(),
            statement: statement.into(),
            user: viewer.user,
            started_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
            progress: Mutex::default(),
            cancel: Notify::new(),
        });
        self.running.lock().insert(run.into(), Arc::clone(&training));
        Running { training, of: Arc::clone(self) }
    }

    /// Those that a session sees, the oldest first.
    pub fn seen_by(&self, viewer: &Viewer) -> Vec<Arc<Training>> {
        let running = self.running.lock();
        let mut seen: Vec<_> = running.values().filter(|training| viewer.sees(training)).cloned().collect();
        seen.sort_by_key(|training| training.started_ms);
        seen
    }

    /// Stops one, and waits until it has ended.
    ///
    /// # Errors
    /// When the session sees none of that name.
    pub async fn cancel(&self, run: &str, viewer: &Viewer) -> Result<()> {
        let mut ended = self.ended.subscribe();
        let found = self.running.lock().get(run).filter(|training| viewer.sees(training)).cloned();
        let training = found.ok_or_else(|| SinewError::UnknownTraining { run: run.into() })?;
        training.cancel.notify_one();
        let gone = ended.wait_for(|()| !self.running.lock().contains_key(run));
        // One whose rows nobody reads stops when somebody does.
        let _ = timeout(PATIENCE, gone).await;
        Ok(())
    }
}

/// A training in the list.
#[derive(Debug)]
pub struct Running {
    training: Arc<Training>,
    of: Arc<Trainings>,
}

impl Running {
    /// It.
    pub fn training(&self) -> &Training {
        &self.training
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.of.running.lock().remove(&self.training.run);
        self.of.ended.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer(user: &str, others: bool) -> Viewer {
        Viewer { user: Some(user.into()), others }
    }

    #[tokio::test]
    async fn a_user_sees_and_stops_their_own_and_an_administrator_all() -> Result<()> {
        let all = Arc::new(Trainings::default());
        let of_ann = all.begin("1", "a", "TRAIN ..", viewer("ann", false));
        let _of_bob = all.begin("2", "b", "TRAIN ..", viewer("bob", false));
        let seen = |viewer: &Viewer| all.seen_by(viewer).iter().map(|t| t.run.clone()).collect::<Vec<_>>();
        assert_eq!(seen(&viewer("ann", false)), ["1"]);
        assert_eq!(seen(&viewer("boss", true)).len(), 2);
        assert_eq!(seen(&Viewer::default()).len(), 2);
        assert_eq!(seen(&Viewer { user: None, others: false }).len(), 0);
        let unknown = |outcome: Result<()>| outcome.is_err_and(|error| error.to_string().starts_with("SINEW-3603"));
        assert!(unknown(all.cancel("2", &viewer("ann", false)).await));
        assert!(unknown(all.cancel("3", &viewer("boss", true)).await));
        let stops = async {
            of_ann.training().cancelled().await;
            drop(of_ann);
        };
        let boss = viewer("boss", true);
        let (stopped, ()) = tokio::join!(all.cancel("1", &boss), stops);
        stopped?;
        assert_eq!(seen(&Viewer::default()), ["2"]);
        Ok(())
    }

    #[tokio::test]
    async fn a_training_goes_on_by_itself() -> Result<()> {
        let session = crate::Session::embedded(crate::SessionOptions::in_memory())?;
        let rows = "AS SELECT sin(value) AS x, value % 2 AS y FROM generate_series(1, 600) t(value)";
        let train = |model: &str, options: &str| {
            format!("TRAIN MODEL {model} USING logistic_regression PREDICT y OPTIONS ({options}) ASYNC {rows}")
        };
        let started = session.sql(&train("m", "max_iter = 3")).collect().await?;
        let text = |batch: &RecordBatch, at: usize| batch.column(at).as_string::<i32>().value(0).to_string();
        let names: Vec<String> = started[0].schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["model", "run", "state"]);
        assert_eq!((text(&started[0], 0), text(&started[0], 2)), ("m".into(), "running".into()));
        while session.models().find("m").await?.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // A user has so many of them at a time, and stops them by their runs.
        let mut runs = Vec::new();
        for model in 0..8 {
            let endless = train(&format!("n{model}"), "solver = 'sgd', max_iter = 1000000, tol = 0");
            runs.push(text(&session.sql(&endless).collect().await?[0], 1));
        }
        let one_more = session.sql(&train("more", "max_iter = 1")).collect().await;
        assert!(one_more.is_err_and(|error| error.to_string().starts_with("SINEW-3307: the limit of 8 trainings")));
        for run in runs {
            session.sql(&format!("CANCEL TRAINING '{run}'")).collect().await?;
        }
        session.sql(&train("more", "max_iter = 1")).collect().await?;
        assert!(session.models().find("n0").await?.is_none());
        Ok(())
    }
}
