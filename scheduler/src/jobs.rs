//! A physical plan as a job: submitted in this process, waited for, its results fetched, its traces removed.
//!
//! Ballista lists every result of a partition that was run again after an executor was lost; only the last of
//! each counts. A job of which a whole stage was undone is run again from its beginning, because Ballista counts
//! some of its rows twice. It may lose the news that a job has ended, so the job is looked at from time to time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ballista_core::JobId;
use ballista_core::client::BallistaClient;
use ballista_core::config::BALLISTA_SHUFFLE_COMPRESSION_CODEC;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::serde::protobuf::{JobStatus, PartitionLocation, job_status::Status};
use ballista_scheduler::cluster::JobState;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Endpoint;

use crate::failure;
use crate::launch::{MESSAGE_BYTES, Refused};
use crate::members::Members;
use crate::server::Server;

/// Between two looks at a job that says nothing.
const LOOK: Duration = Duration::from_millis(500);
/// A job that no book has for so long is lost.
const LOST: Duration = Duration::from_secs(5);
/// A job that was cancelled has ended sooner.
const CANCELLED: Duration = Duration::from_secs(60);
/// Between two attempts to cancel a job: one that is still planned cannot be cancelled yet.
const AGAIN: Duration = Duration::from_millis(100);
/// An executor that holds results answers sooner, or is lost.
const CONNECT: Duration = Duration::from_secs(5);
const ALIVE: Duration = Duration::from_secs(5);
/// How often a job is run when executors are lost with results that others have begun to read.
const ATTEMPTS: usize = 5;
/// A job that so many executors died of is not given to another.
const MOST_LOST: usize = 3;
/// Connections to executors that are kept.
const MOST_CLIENTS: usize = 1024;
/// News of a job that may wait to be read.
const NEWS: usize = 64;

/// Whether a job has ended.
fn over(status: &JobStatus) -> bool {
    matches!(status.status, Some(Status::Successful(_) | Status::Failed(_)))
}

/// Whether something has been so for as long as `limit`; `since` remembers from when on.
fn for_long(since: &mut Option<Instant>, now: bool, limit: Duration) -> bool {
    if !now {
        *since = None;
        return false;
    }
    since.get_or_insert_with(Instant::now).elapsed() >= limit
}

/// Connections to executors end when the other side does not answer any more, also while it is stopped.
fn watched() -> Arc<BallistaConfigGrpcEndpoint> {
    Arc::new(BallistaConfigGrpcEndpoint::new(Arc::new(|endpoint: Endpoint| {
        Ok(endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(ALIVE)
            .keep_alive_timeout(ALIVE)
            .keep_alive_while_idle(true))
    })))
}

/// Runs jobs on the cluster.
pub struct Jobs {
    server: OnceLock<Arc<Server>>,
    state: Arc<dyn JobState>,
    /// The executors.
    pub members: Arc<Members>,
    /// Jobs that no message could carry.
    refused: Refused,
    clients: Mutex<HashMap<(String, u16), BallistaClient>>,
    /// How long a job waits for an executor when there is none.
    grace: Duration,
}

/// What to run.
pub struct Job {
    /// Its name, by which [`Members::place`] knows it.
    pub name: String,
    /// The plan.
    pub plan: Arc<dyn ExecutionPlan>,
    /// The session it belongs to.
    pub context: Arc<TaskContext>,
    /// When it is given up, if it can be run again.
    pub deadline: Option<Duration>,
    /// Whether its results are compressed; small ones take longer that way.
    pub compressed: bool,
}

/// How a job ended that did not fail by itself.
pub enum Ended {
    /// Its results, by partition.
    Well(Finished),
    /// It did not end in time; what it still does counts for nothing.
    Late,
}

/// A job's results. Dropping it removes them from the executors.
pub struct Finished {
    /// Where the result of each partition lies, in their order.
    pub partitions: Vec<PartitionLocation>,
    running: Running,
}

/// A job that was submitted. Dropping it before its end cancels it.
struct Running {
    jobs: Arc<Jobs>,
    id: JobId,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        let (jobs, id, ended) = (Arc::clone(&self.jobs), self.id.clone(), self.ended);
        // Outside of a runtime the process is about to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { jobs.clean_up(id, ended).await });
        }
    }
}

impl Jobs {
    /// Runs jobs of a scheduler that [`Self::bind`] names.
    pub fn new(state: Arc<dyn JobState>, members: Arc<Members>, refused: Refused, grace: Duration) -> Self {
        Self { server: OnceLock::new(), state, members, refused, clients: Mutex::default(), grace }
    }

    /// Names the scheduler.
    pub fn bind(&self, server: Arc<Server>) {
        let _ = self.server.set(server);
    }

    fn server(&self) -> Result<&Arc<Server>> {
        self.server.get().ok_or_else(|| failure::cluster("the scheduler is not ready", "wait a moment"))
    }

    /// Waits until an executor takes tasks.
    ///
    /// # Errors
    /// When none does within the grace period.
    pub async fn wait_for_executors(&self) -> Result<()> {
        let started = Instant::now();
        while self.members.slots() == 0 {
            if started.elapsed() >= self.grace {
                return Err(self.no_executor());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Why nothing can run now.
    fn no_executor(&self) -> DataFusionError {
        match self.members.why_none() {
            Some(reason) => {
                failure::cluster(reason, "mount the folder on every executor, or use s3://, az:// or gs://")
            }
            None => failure::cluster(
                format!("there is no executor, and none came within {} s", self.grace.as_secs()),
                "start sinew-executor, or look at its log; the session works when one is there",
            ),
        }
    }

    /// Runs a job to its end. Dropping the future cancels it.
    ///
    /// # Errors
    /// The error of the first task that failed for good.
    pub async fn run(self: &Arc<Self>, job: Job) -> Result<Ended> {
        self.wait_for_executors().await?;
        self.repeat(job, false).await
    }

    /// As [`Self::run`], also while no executor takes tasks.
    ///
    /// # Errors
    /// As for [`Self::run`].
    pub async fn run_on_anyone(self: &Arc<Self>, job: Job) -> Result<Ended> {
        self.repeat(job, true).await
    }

    async fn repeat(self: &Arc<Self>, job: Job, anyone: bool) -> Result<Ended> {
        for attempt in 1..=ATTEMPTS {
            if let Some(ended) = self.attempt(&job, anyone).await? {
                return Ok(ended);
            }
            log::warn!("job '{}' was undone by a lost executor in its attempt {attempt}", job.name);
            self.wait_for_executors().await?;
        }
        Err(failure::cluster(
            format!("executors were lost in each of {ATTEMPTS} attempts at a job"),
            "look at their logs, and run the statement again",
        ))
    }

    /// One attempt at a job; `None` when its result could not be trusted.
    async fn attempt(self: &Arc<Self>, job: &Job, anyone: bool) -> Result<Option<Ended>> {
        let mut config = job.context.session_config().clone();
        if !job.compressed {
            config = config.set_str(BALLISTA_SHUFFLE_COMPRESSION_CODEC, "none");
        }
        let state = SessionStateBuilder::new().with_config(config).with_runtime_env(job.context.runtime_env()).build();
        let context = Arc::new(SessionContext::new_with_state(state));
        let (sender, news) = mpsc::channel(NEWS);
        let submitted =
            self.server()?.submit_physical_plan(&job.name, context, Arc::clone(&job.plan), Some(sender)).await;
        let id = submitted.map_err(|e| failure::of_job(&e.to_string()))?;
        let mut running = Running { jobs: Arc::clone(self), id, ended: false };
        let waited = match job.deadline {
            Some(deadline) => timeout(deadline, self.wait(&running.id, news, anyone)).await,
            None => Ok(self.wait(&running.id, news, anyone).await),
        };
        let Ok(status) = waited else { return Ok(Some(Ended::Late)) };
        let Some(status) = status? else { return Ok(None) };
        running.ended = true;
        match status.status {
            Some(Status::Successful(done)) => {
                Ok(Some(Ended::Well(Finished { partitions: latest(done.partition_location), running })))
            }
            Some(Status::Failed(failed)) => {
                let refused = self.refused.lock().remove(&running.id);
                Err(failure::of_job(&refused.unwrap_or(failed.error)))
            }
            other => Err(failure::cluster(format!("a job ended as {other:?}"), "run the statement again")),
        }
    }

    /// The last news of a job; `None` when it was undone. `anyone` says that it does not wait for an executor that
    /// takes tasks.
    async fn wait(&self, id: &JobId, mut news: mpsc::Receiver<JobStatus>, anyone: bool) -> Result<Option<JobStatus>> {
        // Since when nobody could run it, and since when no book has it.
        let (mut alone, mut unknown) = (None, None);
        loop {
            let heard = timeout(LOOK, news.recv()).await;
            if self.members.is_undone(id) {
                return Ok(None);
            }
            match heard {
                Ok(Some(status)) if over(&status) => return Ok(Some(status)),
                Ok(Some(_)) => continue,
                // A channel that is gone says nothing any more.
                Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(_) => {}
            }
            // A job that is handed from one book to the next is in none of them for a moment.
            let status = self.state.get_job_status(id).await.map_err(|e| failure::of_job(&e.to_string()))?;
            if for_long(&mut unknown, status.is_none(), LOST) {
                return Err(failure::cluster("a job was lost", "run the statement again"));
            }
            if let Some(status) = status.filter(over) {
                return Ok(Some(status));
            }
            let lost = self.members.lost_with(id);
            if lost >= MOST_LOST {
                return Err(failure::cluster(
                    format!(
                        "{lost} executors were lost while they worked on this statement, and it is given to no other"
                    ),
                    "look at the end of their logs: a statement that needs more memory than there is ends its process",
                ));
            }
            if for_long(&mut alone, !anyone && self.members.slots() == 0, self.grace + LOOK) {
                return Err(self.no_executor());
            }
        }
    }

    /// The rows of one partition.
    ///
    /// # Errors
    /// When the executor that holds them does not answer.
    pub async fn fetch(&self, location: &PartitionLocation) -> Result<SendableRecordBatchStream> {
        let layout = location.layout();
        let incomplete = || failure::cluster("a result has no address", "run the statement again");
        let executor = location.executor_meta.as_ref().ok_or_else(incomplete)?;
        let partition = location.partition_id.clone().ok_or_else(incomplete)?;
        let (host, port) = (executor.host.clone(), executor.port as u16);
        let lost = |e: ballista_core::error::BallistaError| {
            failure::cluster(
                format!("executor {} was lost with results it held: {e}", executor.id),
                "run the statement again",
            )
        };
        let known = self.clients.lock().get(&(host.clone(), port)).cloned();
        let mut client = match known {
            Some(client) => client,
            None => {
                let bytes = MESSAGE_BYTES as usize;
                let client = BallistaClient::try_new(&host, port, bytes, false, Some(watched()), 1, 50, 0, 0)
                    .await
                    .map_err(lost)?;
                let mut clients = self.clients.lock();
                // Executors come back at other ports; those that are still asked connect anew.
                if clients.len() >= MOST_CLIENTS {
                    clients.clear();
                }
                clients.insert((host.clone(), port), client.clone());
                drop(clients);
                client
            }
        };
        let fetched = client.fetch_partition(&executor.id, &partition.into(), location.file_id, layout, false).await;
        if fetched.is_err() {
            self.clients.lock().remove(&(host, port));
        }
        fetched.map_err(lost)
    }

    /// Cancels a job that still runs, and removes what is left of it.
    async fn clean_up(&self, id: JobId, ended: bool) {
        let Ok(server) = self.server() else { return };
        let started = Instant::now();
        let mut ended = ended;
        while !ended && started.elapsed() < CANCELLED {
            if let Err(error) = server.cancel_job(id.clone()).await {
                log::warn!("cancelling job {id}: {error}");
            }
            tokio::time::sleep(AGAIN).await;
            ended = matches!(self.state.get_job_status(&id).await, Ok(Some(status)) if over(&status));
        }
        self.refused.lock().remove(&id);
        self.members.forget_job(&id);
        server.state.executor_manager.clean_up_job_data(id.clone());
        if let Err(error) = self.state.remove_job(&id).await {
            log::debug!("forgetting job {id}: {error}");
        }
    }
}

impl Finished {
    /// Keeps the results where they are while `self` lives.
    pub fn jobs(&self) -> &Arc<Jobs> {
        &self.running.jobs
    }

    /// Rows of all results, where the executors told.
    pub fn rows(&self) -> Option<usize> {
        let rows = |location: &PartitionLocation| usize::try_from(location.partition_stats.as_ref()?.num_rows).ok();
        self.partitions.iter().map(rows).sum()
    }

    /// Bytes of all results.
    pub fn bytes(&self) -> u64 {
        let stats = self.partitions.iter().filter_map(|location| location.partition_stats.as_ref());
        stats.map(|stats| u64::try_from(stats.num_bytes).unwrap_or(0)).sum()
    }
}

/// The last result of every partition, in their order.
fn latest(locations: Vec<PartitionLocation>) -> Vec<PartitionLocation> {
    let mut latest = BTreeMap::new();
    for location in locations {
        if let Some(partition) = &location.partition_id {
            latest.insert(partition.partition_id, location);
        }
    }
    latest.into_values().collect()
}

/// An error as DataFusion's, for calls into Ballista that do not concern a job.
pub fn internal(error: ballista_core::error::BallistaError) -> DataFusionError {
    failure::cluster(error.to_string(), "look at the scheduler's log")
}

#[cfg(test)]
mod tests;
