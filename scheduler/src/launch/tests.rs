//! A task that no message can carry is refused before anybody is asked to run it.

use ballista_core::serde::BallistaCodec;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::cluster::memory::{InMemoryClusterState, InMemoryJobState};
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::metrics::default_metrics_collector;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionConfig;

use super::*;
use crate::server::Server;
use crate::testing::{Done, metadata};

fn task(job: &str, bytes: usize) -> MultiTaskDefinition {
    MultiTaskDefinition {
        task_ids: Vec::new(),
        job_id: job.into(),
        stage_id: 1,
        stage_attempt_num: 0,
        plan: vec![0; bytes],
        session_id: "session".into(),
        launch_time: 0,
        props: Vec::new(),
    }
}

#[tokio::test]
async fn a_large_task_fails_its_job_and_no_executor() -> Done {
    let state = InMemoryJobState::new(
        "scheduler",
        Arc::new(|config| Ok(SessionStateBuilder::new_with_default_features().with_config(config).build())),
        Arc::new(SessionConfig::new),
    );
    let refused = Refused::default();
    let server = Server::new(
        "127.0.0.1:1".into(),
        BallistaCluster::new(Arc::new(InMemoryClusterState::default()), Arc::new(state)),
        BallistaCodec::default(),
        Arc::new(SchedulerConfig::default()),
        default_metrics_collector()?,
    );
    let launcher = Launcher::new("127.0.0.1:1".into(), Arc::clone(&refused));
    let large = task("large", MESSAGE_BYTES as usize);
    // Nobody listens at the executor's address, so that an attempt to send anything would be an error.
    let failed = launcher.launch_tasks(&metadata("e0", 1), vec![large], &server.state.executor_manager).await?;
    let job = JobId::from("large".to_string());
    assert_eq!(failed, HashSet::from([job.clone()]));
    let reason = refused.lock().get(&job).cloned().unwrap_or_default();
    assert!(reason.starts_with("SINEW-3401") && reason.contains(&MESSAGE_BYTES.to_string()), "{reason}");
    Ok(())
}
