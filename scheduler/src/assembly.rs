//! Ballista's scheduler, put together with our cluster state, launcher and codec.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::cluster::{BallistaCluster, ClusterState, JobState};
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::metrics::{SchedulerMetricsCollector, default_metrics_collector};
use datafusion::error::Result;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;

use crate::jobs::{Jobs, internal};
use crate::launch::{Launcher, MESSAGE_BYTES, Refused};
use crate::members::Members;
use crate::server::Server;

/// The parts of a scheduler that runs.
pub struct Ballista {
    /// Ballista's scheduler.
    pub server: Arc<Server>,
    /// Jobs on it.
    pub jobs: Arc<Jobs>,
    /// Its executors.
    pub members: Arc<Members>,
    /// Its counters.
    pub theirs: Arc<dyn SchedulerMetricsCollector>,
}

/// A scheduler that executors reach at `endpoint`. It listens nowhere yet.
///
/// # Errors
/// When Ballista cannot begin.
pub async fn assemble(
    endpoint: &str,
    codec: &Arc<dyn PhysicalExtensionCodec>,
    timeout_seconds: u64,
    grace: Duration,
) -> Result<Ballista> {
    let members = Arc::new(Members::default());
    let session_builder = Arc::new(|config: SessionConfig| {
        Ok(SessionStateBuilder::new_with_default_features().with_config(config).build())
    });
    let config_producer = Arc::new(SessionConfig::new_with_ballista);
    let job_state: Arc<dyn JobState> = Arc::new(InMemoryJobState::new(endpoint, session_builder, config_producer));
    let refused = Refused::default();
    let jobs = Arc::new(Jobs::new(Arc::clone(&job_state), Arc::clone(&members), Arc::clone(&refused), grace));
    let config = SchedulerConfig {
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        task_distribution: TaskDistributionPolicy::RoundRobin,
        grpc_server_max_decoding_message_size: MESSAGE_BYTES,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES,
        grpc_client_max_message_size: MESSAGE_BYTES,
        executor_timeout_seconds: timeout_seconds,
        expire_dead_executor_interval_seconds: 1,
        executor_termination_grace_period: 0,
        no_executors_grace_period_seconds: grace.as_secs(),
        // Results go when the statement that reads them has ended, however long that takes.
        finished_job_data_clean_up_interval_seconds: 0,
        // A task sleeps for so long for each job. What is known of a job goes when its results do; this is for what
        // Ballista writes down after that.
        finished_job_state_clean_up_interval_seconds: 60,
        override_physical_codec: Some(Arc::clone(codec)),
        // Ballista's own page at this path leads to a site elsewhere.
        web_tui_route: "/ballista".into(),
        cors_allowed_origins: "http://localhost".into(),
        ..SchedulerConfig::default()
    };
    let theirs = default_metrics_collector().map_err(internal)?;
    let mut server = Server::new_with_task_launcher(
        endpoint.into(),
        BallistaCluster::new(Arc::clone(&members) as Arc<dyn ClusterState>, job_state),
        BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::clone(codec)),
        Arc::new(config),
        Arc::clone(&theirs),
        Arc::new(Launcher::new(endpoint.into(), refused)),
    );
    server.init().await.map_err(internal)?;
    let server = Arc::new(server);
    jobs.bind(Arc::clone(&server));
    Ok(Ballista { server, jobs, members, theirs })
}
