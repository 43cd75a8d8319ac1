//! What Ballista gets wrong about a job's end, and what we make of it.

use std::collections::HashSet;

use ballista_core::serde::protobuf::SuccessfulJob;
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::cluster::{ClusterState, JobStateEventStream};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::task_manager::JobInfoCache;
use datafusion::prelude::SessionConfig;

use super::*;
use crate::testing::{Done, graph, members, metadata, succeeded};

/// An executor is lost after one of its tasks has ended, while another's still runs.
#[tokio::test]
async fn a_result_that_was_lost_is_not_read() -> Done {
    let members = members(&[("e0", 1), ("e1", 1)]).await?;
    members.place("step", ["e0", "e1"].map(String::from).to_vec());
    let id = JobId::from("step".to_string());
    let mut graph = graph("step", 2)?;
    let running = JobStatus {
        job_id: id.to_string(),
        job_name: id.to_string(),
        status: Some(Status::Running(Default::default())),
    };
    graph.update_status(running);
    let jobs = Arc::new(HashMap::from([(id.clone(), JobInfoCache::new(graph))]));
    let bind =
        async || members.bind_schedulable_tasks(TaskDistributionPolicy::RoundRobin, Arc::clone(&jobs), None).await;
    let first = bind().await?;
    let ended = |bound: &[ballista_scheduler::cluster::BoundTask], id: &str| {
        bound.iter().filter(|(executor, _)| executor == id).map(succeeded).collect::<Vec<_>>()
    };
    let job = &jobs[&id].execution_graph;
    job.write().await.update_task_status(&metadata("e0", 1), ended(&first, "e0"), 4, 4)?;
    members.remove_executor("e0").await?;
    job.write().await.reset_stages_on_lost_executor("e0")?;
    let again = bind().await?;
    job.write().await.update_task_status(&metadata("e1", 1), ended(&again, "e1"), 4, 4)?;
    job.write().await.update_task_status(&metadata("e1", 1), ended(&first, "e1"), 4, 4)?;
    assert!(job.read().await.is_successful());
    let Some(Status::Successful(done)) = job.read().await.status().status.clone() else {
        return Err("the job has not ended".into());
    };
    assert_eq!(done.partition_location.len(), 3, "Ballista lists the lost result, too");
    let latest = latest(done.partition_location);
    let holders = latest.iter().filter_map(|location| location.executor_meta.as_ref()).map(|meta| meta.id.as_str());
    assert_eq!(holders.collect::<Vec<_>>(), ["e1", "e1"]);
    Ok(())
}

/// A record of jobs whose news get lost.
struct Silent {
    inner: InMemoryJobState,
    status: Mutex<Option<JobStatus>>,
}

type Told<T> = ballista_core::error::Result<T>;

#[async_trait::async_trait]
impl JobState for Silent {
    fn accept_job(&self, id: &JobId, name: &str, at: u64) -> Told<()> {
        self.inner.accept_job(id, name, at)
    }
    fn pending_job_number(&self) -> usize {
        self.inner.pending_job_number()
    }
    async fn submit_job(&self, id: JobId, graph: &ExecutionGraphBox, _: Option<mpsc::Sender<JobStatus>>) -> Told<()> {
        self.inner.submit_job(id, graph, None).await
    }
    async fn get_jobs(&self) -> Told<HashSet<JobId>> {
        self.inner.get_jobs().await
    }
    async fn get_all_jobs(&self) -> Told<HashSet<JobId>> {
        self.inner.get_all_jobs().await
    }
    async fn get_job_status(&self, _: &JobId) -> Told<Option<JobStatus>> {
        Ok(self.status.lock().clone())
    }
    async fn get_execution_graph(&self, id: &JobId) -> Told<Option<ExecutionGraphBox>> {
        self.inner.get_execution_graph(id).await
    }
    async fn save_job(&self, id: &JobId, graph: &ExecutionGraphBox) -> Told<()> {
        self.inner.save_job(id, graph).await
    }
    async fn fail_unscheduled_job(&self, id: &JobId, reason: String) -> Told<()> {
        self.inner.fail_unscheduled_job(id, reason).await
    }
    async fn remove_job(&self, id: &JobId) -> Told<()> {
        self.inner.remove_job(id).await
    }
    async fn try_acquire_job(&self, id: &JobId) -> Told<Option<ExecutionGraphBox>> {
        self.inner.try_acquire_job(id).await
    }
    async fn job_state_events(&self) -> Told<JobStateEventStream> {
        self.inner.job_state_events().await
    }
    async fn create_or_update_session(&self, id: &str, config: &SessionConfig) -> Told<Arc<SessionContext>> {
        self.inner.create_or_update_session(id, config).await
    }
    async fn remove_session(&self, id: &str) -> Told<()> {
        self.inner.remove_session(id).await
    }
    fn produce_config(&self) -> SessionConfig {
        self.inner.produce_config()
    }
}

#[tokio::test]
async fn a_job_whose_end_was_not_told_ends() -> Done {
    let inner = InMemoryJobState::new(
        "scheduler",
        Arc::new(|config| Ok(SessionStateBuilder::new_with_default_features().with_config(config).build())),
        Arc::new(SessionConfig::new),
    );
    let status = |status| JobStatus { job_id: "job".into(), job_name: "job".into(), status: Some(status) };
    let running = status(Status::Running(Default::default()));
    let state = Arc::new(Silent { inner, status: Mutex::new(Some(running)) });
    let members = Arc::new(members(&[]).await?);
    let jobs = Jobs::new(Arc::clone(&state) as Arc<dyn JobState>, members, Refused::default(), Duration::ZERO);
    let id = JobId::from("job".to_string());
    // The channel stays open and says nothing.
    let (_sender, news) = mpsc::channel(NEWS);
    let tell = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        *state.status.lock() = Some(status(Status::Successful(SuccessfulJob::default())));
    };
    let (ended, ()) = tokio::join!(timeout(LOOK * 20, jobs.wait(&id, news, true)), tell);
    assert!(matches!(ended??.and_then(|told| told.status), Some(Status::Successful(_))));
    // One that is in no book any more does not hang either.
    *state.status.lock() = None;
    let (_sender, news) = mpsc::channel(NEWS);
    assert!(timeout(LOOK * 20, jobs.wait(&id, news, true)).await?.is_err());
    Ok(())
}
