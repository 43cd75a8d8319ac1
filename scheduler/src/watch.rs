//! Noticing at once that an executor's process is gone.
//!
//! A connection to the executor is held and read from. When the process dies, its system closes the
//! connection, and the executor is given up then, not when its signs of life have been missing for long
//! enough. A process that hangs, and a network that is cut, close nothing: those wait for the timeout.

use std::sync::Arc;
use std::time::Duration;

use ballista_core::serde::protobuf::ExecutorStoppedParams;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpc;
use ballista_scheduler::cluster::{ClusterState, ClusterStateEvent};
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::members::Members;
use crate::server::Server;

/// A process that is there accepts a connection sooner.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two connections to an executor that closes them.
const PAUSE: Duration = Duration::from_secs(1);

/// Watches every executor that joins, for as long as the process lives.
///
/// # Errors
/// When Ballista tells of no events.
pub async fn watch(server: Arc<Server>, members: Arc<Members>) -> ballista_core::error::Result<()> {
    let mut events = members.cluster_state_events().await?;
    while let Some(event) = events.next().await {
        let ClusterStateEvent::RegisteredExecutor { executor_id } = event else { continue };
        let Ok(metadata) = members.get_executor_metadata(&executor_id).await else { continue };
        let (server, members) = (Arc::clone(&server), Arc::clone(&members));
        tokio::spawn(async move {
            hold(&metadata.host, metadata.port, &members, &executor_id).await;
            // Someone else may have noticed before.
            if members.get_executor_metadata(&executor_id).await.is_ok() {
                let reason = "the connection to its process broke".to_string();
                let stopped = ExecutorStoppedParams { executor_id: executor_id.clone(), reason };
                if let Err(status) = SchedulerGrpc::executor_stopped(&*server, tonic::Request::new(stopped)).await {
                    log::error!("giving executor {executor_id} up: {status}");
                }
            }
        });
    }
    Ok(())
}

/// Returns when nothing listens at the executor's address any more, or it has left the cluster.
async fn hold(host: &str, port: u16, members: &Members, id: &str) {
    loop {
        match timeout(ANSWER, TcpStream::connect((host, port))).await {
            Ok(Ok(mut stream)) => {
                let mut byte = [0];
                // It sends nothing that matters here; what matters is that the connection ends.
                while matches!(stream.read(&mut byte).await, Ok(1..)) {}
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
