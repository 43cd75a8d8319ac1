//! Noticing at once that an executor's process is gone.
//!
//! A connection to the executor is held and read from. When the process dies, its system closes the
//! connection, and the executor is given up then, not when its signs of life have been missing for long
//! enough. A process that hangs, and a network that is cut, close nothing: those wait for the timeout.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_core::serde::protobuf::{ExecutorStoppedParams, UpdateTaskStatusParams};
use ballista_scheduler::cluster::{ClusterState, ClusterStateEvent};
use futures::StreamExt;
use sinew::Session;
use sinew::warehouse::Location;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::Request;

use crate::jobs::Jobs;
use crate::members::Members;
use crate::probe::prove;
use crate::server::Server;

/// A process that is there accepts a connection sooner.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is looked whether an executor whose connection says nothing is still a member.
const GLANCE: Duration = Duration::from_secs(30);
/// Between two connections to an executor that closes them.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two attempts of an executor to show that it shares the warehouse, at most.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// What is needed to judge an executor.
#[derive(Clone)]
pub struct Watch {
    /// Ballista's scheduler.
    pub server: Arc<Server>,
    /// Jobs, and the executors.
    pub jobs: Arc<Jobs>,
    /// Where executors must be able to write.
    pub warehouse: Location,
    /// A session of the scheduler's own.
    pub session: Session,
}

impl Watch {
    /// Watches every executor that joins, for as long as the process lives.
    ///
    /// # Errors
    /// When Ballista tells of no events.
    pub async fn run(self) -> ballista_core::error::Result<()> {
        let mut events = self.jobs.members.cluster_state_events().await?;
        while let Some(event) = events.next().await {
            let ClusterStateEvent::RegisteredExecutor { executor_id } = event else { continue };
            let Ok(metadata) = self.jobs.members.get_executor_metadata(&executor_id).await else { continue };
            let (this, id) = (self.clone(), executor_id.clone());
            tokio::spawn(async move { this.try_out(&id).await });
            let this = self.clone();
            tokio::spawn(async move {
                hold(&metadata.host, metadata.port, &this.jobs.members, &executor_id).await;
                this.give_up(&executor_id).await;
            });
        }
        Ok(())
    }

    /// Lets an executor take tasks when it has shown that it can.
    async fn try_out(&self, id: &str) {
        let context = self.session.context().task_ctx();
        let cores = self.jobs.members.cores_of(id);
        let mut pause = PAUSE;
        while let Err(reason) = prove(&self.jobs, &self.warehouse, id, Arc::clone(&context)).await {
            log::error!("{reason}; it gets no tasks until it does");
            self.jobs.members.set_blind(id, Some(reason));
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
            if self.jobs.members.get_executor_metadata(id).await.is_err() {
                return;
            }
        }
        log::info!("executor {id} takes tasks: {cores} cores");
        self.jobs.members.set_blind(id, None);
        // Jobs that wait are looked at again when a task reports.
        let nothing = UpdateTaskStatusParams { executor_id: id.into(), task_status: Vec::new() };
        if let Err(status) = SchedulerGrpc::update_task_status(&*self.server, Request::new(nothing)).await {
            log::warn!("waking jobs that wait: {status}");
        }
    }

    async fn give_up(&self, id: &str) {
        // Someone else may have noticed before.
        if self.jobs.members.get_executor_metadata(id).await.is_err() {
            return;
        }
        let reason = "the connection to its process broke".to_string();
        let stopped = ExecutorStoppedParams { executor_id: id.into(), reason };
        if let Err(status) = SchedulerGrpc::executor_stopped(&*self.server, Request::new(stopped)).await {
            log::error!("giving executor {id} up: {status}");
        }
    }
}

/// Returns when nothing listens at the executor's address any more, or it has left the cluster.
async fn hold(host: &str, port: u16, members: &Members, id: &str) {
    loop {
        match timeout(ANSWER, TcpStream::connect((host, port))).await {
            Ok(Ok(mut stream)) => {
                let mut byte = [0];
                // It sends nothing that matters here; what matters is that the connection ends. A host that
                // vanished ends none: such an executor has left by its missing signs of life.
                loop {
                    match timeout(GLANCE, stream.read(&mut byte)).await {
                        Ok(Ok(1..)) => {}
                        Ok(_) => break,
                        Err(_) if members.get_executor_metadata(id).await.is_err() => return,
                        Err(_) => {}
                    }
                }
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => return,
            // A network that is cut is judged by the timeout of signs of life.
            Ok(Err(_)) | Err(_) => sleep(PAUSE).await,
        }
        if members.get_executor_metadata(id).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
}
