//! The executors of the cluster, and which task runs on which of them.
//!
//! Steps of a training go where their rows are: the step says for each partition which executor holds it, and
//! any other takes it when that one is gone. They take no core away from queries, which share the rest by
//! turns. How many cores are free is counted anew from the tasks that run, each time, because Ballista's own
//! counters drift when stages are rolled back.
//!
//! Nor are stages done again that had ended: Ballista keeps what the undone attempt of a stage has told the next
//! one, and the rows of tasks whose executors live on would count twice. Such a job gets no more tasks, and
//! [`crate::jobs`] runs it again from its beginning.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::{ExecutorHeartbeat, executor_status, job_status, task_status};
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata, TaskKey};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_graph::{
    ExecutionGraph, ExecutionGraphBox, TaskDescription, create_task_info,
};
use ballista_scheduler::state::execution_stage::ExecutionStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use parking_lot::Mutex;

/// One executor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: String,
    /// Tasks at a time.
    pub cores: usize,
}

/// All executors.
#[derive(Default)]
pub struct Members {
    inner: InMemoryClusterState,
    cores: Mutex<BTreeMap<String, u32>>,
    /// Executors that cannot see the warehouse, and why.
    blind: Mutex<HashMap<String, String>>,
    /// For each job that says where its partitions run: the executor of every partition.
    placements: Mutex<HashMap<String, Vec<String>>>,
    /// Jobs of which a stage was undone.
    undone: Mutex<HashSet<JobId>>,
    /// Where executors serve results to clients.
    results: Mutex<HashMap<String, String>>,
    /// For each job, the executors that got tasks of it, and how many of those were lost.
    users: Mutex<HashMap<JobId, (HashSet<String>, usize)>>,
}

impl Members {
    /// The executors that take tasks, in the order of their names.
    pub fn live(&self) -> Vec<Member> {
        let blind = self.blind.lock();
        let leaving = self.leaving();
        let cores = self.cores.lock();
        let usable = cores.iter().filter(|(id, _)| !blind.contains_key(*id) && !leaving.contains(*id));
        usable.map(|(id, cores)| Member { id: id.clone(), cores: *cores as usize }).collect()
    }

    /// Notes where an executor serves results to clients.
    pub fn serve_results_at(&self, id: &str, address: String) {
        self.results.lock().insert(id.into(), address);
    }

    /// Where an executor serves results to clients.
    pub fn results_at(&self, id: &str) -> Option<String> {
        self.results.lock().get(id).cloned()
    }

    /// Whether any executor serves results to clients.
    pub fn serves_results(&self) -> bool {
        !self.results.lock().is_empty()
    }

    /// Cores of all executors that take tasks.
    pub fn slots(&self) -> usize {
        self.live().iter().map(|member| member.cores).sum()
    }

    /// Cores of one executor.
    pub fn cores_of(&self, id: &str) -> u32 {
        self.cores.lock().get(id).copied().unwrap_or(0)
    }

    /// Executors that have said they are about to end.
    fn leaving(&self) -> HashSet<String> {
        let heartbeats = self.inner.executor_heartbeats().into_iter();
        let leaving = heartbeats.filter(|(_, heartbeat)| {
            matches!(
                heartbeat.status.as_ref().and_then(|status| status.status.as_ref()),
                Some(executor_status::Status::Terminating(_) | executor_status::Status::Dead(_))
            )
        });
        leaving.map(|(id, _)| id).collect()
    }

    /// Keeps an executor from tasks, with the reason, or lets it take them again.
    pub fn set_blind(&self, id: &str, reason: Option<String>) {
        let mut blind = self.blind.lock();
        match reason {
            // What is said of an executor that has left is not kept.
            Some(_) if !self.cores.lock().contains_key(id) => {}
            Some(reason) => drop(blind.insert(id.into(), reason)),
            None => drop(blind.remove(id)),
        }
    }

    /// Why no executor takes tasks, where there are some.
    pub fn why_none(&self) -> Option<String> {
        self.blind.lock().values().next().cloned()
    }

    /// Says where the partitions of a job run, before it is submitted.
    pub fn place(&self, job: &str, executors: Vec<String>) {
        self.placements.lock().insert(job.into(), executors);
    }

    /// Whether a stage of a job was undone, so that its result cannot be trusted.
    pub fn is_undone(&self, job: &JobId) -> bool {
        self.undone.lock().contains(job)
    }

    /// How many executors were lost that had tasks of a job.
    pub fn lost_with(&self, job: &JobId) -> usize {
        self.users.lock().get(job).map_or(0, |(_, lost)| *lost)
    }

    /// Notes who has tasks of which job.
    fn note_users(&self, bound: &[BoundTask]) {
        let mut users = self.users.lock();
        for (executor, task) in bound {
            let (executors, _) = users.entry(task.key.job_id.clone()).or_default();
            if !executors.contains(executor) {
                executors.insert(executor.clone());
            }
        }
    }

    /// Forgets what happened to a job that has ended.
    pub fn forget_job(&self, job: &JobId) {
        self.undone.lock().remove(job);
        self.users.lock().remove(job);
    }

    /// Forgets a job.
    pub fn forget(&self, job: &str) {
        self.placements.lock().remove(job);
    }

    /// Binds all waiting partitions of a placed job: one task for each executor.
    fn bind_placed(
        &self,
        graph: &mut ExecutionGraphBox,
        job: &JobId,
        placement: &[String],
        bound: &mut Vec<BoundTask>,
    ) {
        let blind = self.blind.lock().clone();
        let live: Vec<String> = self.cores.lock().keys().cloned().collect();
        // A placement may name an executor that is being proven; otherwise only those that take tasks.
        let usable: Vec<&String> = live.iter().filter(|id| !blind.contains_key(*id)).collect();
        let session_id = graph.session_id().to_string();
        let mut passed: Vec<usize> = Vec::new();
        while let Some(stage) = graph.fetch_running_stage(&passed) {
            let partitions = stage.pending.next_slice(usize::MAX);
            let mut tasks: BTreeMap<String, Vec<usize>> = BTreeMap::new();
            let mut waiting = Vec::new();
            for partition in partitions {
                let wanted = placement.get(partition).filter(|id| live.contains(*id));
                match wanted.or_else(|| usable.get(partition % usable.len().max(1)).copied()) {
                    Some(id) => tasks.entry(id.clone()).or_default().push(partition),
                    None => waiting.push(partition),
                }
            }
            stage.pending.reschedule(waiting);
            passed.push(stage.stage_id);
            for (id, partitions) in tasks {
                let task_id = stage.task_infos.len();
                let failures = |p: &usize| stage.task_failure_numbers.get(*p).copied().unwrap_or(0);
                let task_attempt = partitions.iter().map(failures).max().unwrap_or(0);
                let mut info = create_task_info(id.clone(), task_id);
                info.global_input_partition_ids = partitions.clone();
                stage.task_infos.push(info);
                let task = TaskDescription {
                    session_id: session_id.clone(),
                    key: TaskKey { job_id: job.clone(), stage_id: stage.stage_id, task_id },
                    stage_attempt_num: stage.stage_attempt_num,
                    task_attempt,
                    global_input_partition_ids: partitions,
                    vcores_consumed: 0,
                    plan: Arc::clone(&stage.plan),
                    session_config: Arc::clone(&stage.session_config),
                };
                bound.push((id, task));
            }
        }
    }

    /// Binds the tasks of queries to free cores, by turns.
    async fn bind_free(
        &self,
        queries: HashMap<JobId, JobInfoCache>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let mut busy: HashMap<String, u32> = HashMap::new();
        for job in queries.values() {
            count_running(&**job.execution_graph.read().await, &mut busy);
        }
        // Ballista's rules for queries are its own; they are asked with the free cores of this moment.
        let now = InMemoryClusterState::default();
        for member in self.live() {
            let total = member.cores as u32;
            let free = total.saturating_sub(busy.get(&member.id).copied().unwrap_or(0));
            if free > 0 {
                let metadata = self.inner.get_executor_metadata(&member.id).await?;
                let data = ExecutorData { executor_id: member.id, total_vcores: total, available_vcores: free };
                now.register_executor(metadata, data).await?;
            }
        }
        now.bind_schedulable_tasks(TaskDistributionPolicy::RoundRobin, Arc::new(queries), executors).await
    }
}

/// Whether a stage of a job runs for another time.
fn again(graph: &dyn ExecutionGraph) -> bool {
    graph.stages().values().any(|stage| match stage {
        ExecutionStage::UnResolved(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Resolved(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Running(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Successful(stage) => stage.stage_attempt_num > 0,
        ExecutionStage::Failed(_) => false,
    })
}

/// Cores that the running tasks of a job hold.
fn count_running(graph: &dyn ExecutionGraph, busy: &mut HashMap<String, u32>) {
    for stage in graph.stages().values() {
        let ExecutionStage::Running(stage) = stage else { continue };
        for task in &stage.task_infos {
            if let task_status::Status::Running(running) = &task.task_status {
                *busy.entry(running.executor_id.clone()).or_default() += task.vcores_consumed;
            }
        }
    }
}

#[async_trait]
impl ClusterState for Members {
    async fn bind_schedulable_tasks(
        &self,
        _distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let mut bound = Vec::new();
        let mut queries = HashMap::new();
        for (id, job) in active_jobs.iter() {
            if !matches!(job.status, Some(job_status::Status::Running(_))) {
                continue;
            }
            let (name, again) = {
                let graph = job.execution_graph.read().await;
                (graph.job_name().to_string(), again(&**graph))
            };
            if again {
                self.undone.lock().insert(id.clone());
                continue;
            }
            let placement = self.placements.lock().get(&name).cloned();
            match placement {
                Some(placement) => {
                    let mut graph = job.execution_graph.write().await;
                    self.bind_placed(&mut graph, id, &placement, &mut bound);
                }
                None => drop(queries.insert(id.clone(), job.clone())),
            }
        }
        if !queries.is_empty() {
            bound.extend(self.bind_free(queries, executors).await?);
        }
        self.note_users(&bound);
        Ok(bound)
    }

    /// Cores are counted when they are given out; there is nothing to give back.
    async fn unbind_tasks(&self, _executor_slots: Vec<ExecutorSlot>) -> Result<()> {
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        let (id, cores) = (metadata.id.clone(), spec.total_vcores);
        // Said before anyone hears that it has joined, and may have tried it already.
        let untried = format!("executor {id} has just joined and was not tried yet");
        let known = self.cores.lock().insert(id.clone(), cores);
        if known.is_none() {
            self.blind.lock().insert(id, untried);
        }
        self.inner.register_executor(metadata, spec).await
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.inner.save_executor_metadata(metadata).await
    }

    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        self.inner.get_executor_metadata(executor_id).await
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.inner.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.inner.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        let asked_to_leave = self.leaving().contains(executor_id);
        if self.cores.lock().remove(executor_id).is_some() {
            log::warn!("executor {executor_id} is gone; what it worked on is done again by others");
            if !asked_to_leave {
                for (executors, lost) in self.users.lock().values_mut() {
                    *lost += usize::from(executors.remove(executor_id));
                }
            }
        }
        self.blind.lock().remove(executor_id);
        self.results.lock().remove(executor_id);
        self.inner.remove_executor(executor_id).await
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.inner.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        self.inner.get_executor_heartbeat(executor_id)
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.inner.cluster_state_events().await
    }
}

#[cfg(test)]
mod tests;
