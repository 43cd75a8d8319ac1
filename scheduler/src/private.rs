//! The address for executors: Ballista's gRPC and REST interface, and ours, on one listener.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{get, put};
use axum::serve::{ListenerExt, TapIo};
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_scheduler::api::get_routes;
use ballista_scheduler::metrics::SchedulerMetricsCollector;
use sinew::{Result, SinewError};
use tokio::net::{TcpListener, TcpStream};
use tonic::service::Routes;

use crate::launch::MESSAGE_BYTES;
use crate::members::Members;
use crate::metrics::Metrics;
use crate::server::Server;

/// What is served.
pub struct Private {
    /// Ballista's scheduler.
    pub server: Arc<Server>,
    /// The executors.
    pub members: Arc<Members>,
    /// The public half of the key that signs leave to read results.
    pub key: String,
    /// Our counters.
    pub metrics: Arc<Metrics>,
    /// Ballista's counters.
    pub theirs: Arc<dyn SchedulerMetricsCollector>,
}

/// Serves until the future is dropped. Ballista's own listener waits 40 ms for the other side's
/// acknowledgement of every small answer; this one does not.
///
/// # Errors
/// When the socket cannot be served.
pub async fn serve(listener: TcpListener, private: Private) -> Result<()> {
    let grpc = SchedulerGrpcServer::new(private.server.as_ref().clone())
        .max_encoding_message_size(MESSAGE_BYTES as usize)
        .max_decoding_message_size(MESSAGE_BYTES as usize);
    let Private { server, members, key, metrics, theirs } = private;
    let (ready, serving) = (Arc::clone(&members), Arc::clone(&members));
    let own = Router::new()
        .route("/sinew/version", get(|| async { env!("CARGO_PKG_VERSION") }))
        .route("/sinew/results-key", get(move || async move { key }))
        .route(
            "/sinew/results/{executor}",
            put(move |Path(executor): Path<String>, address: String| async move {
                serving.serve_results_at(&executor, address);
            }),
        )
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(move || async move {
                match ready.slots() {
                    0 => (StatusCode::SERVICE_UNAVAILABLE, "no executor takes tasks"),
                    _ => (StatusCode::OK, "ok"),
                }
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                let theirs = theirs.gather_metrics().ok().flatten().map(|(text, _)| text).unwrap_or_default();
                let ours = metrics.text(members.live().len(), members.slots());
                format!("{}{ours}", String::from_utf8_lossy(&theirs))
            }),
        );
    let grpc = Routes::new(grpc).into_axum_router().fallback(|| async { StatusCode::NOT_FOUND });
    let router = get_routes(server).merge(grpc).merge(own);
    axum::serve(prompt(listener), router.into_make_service_with_connect_info::<SocketAddr>())
        .await
        .map_err(|source| SinewError::Io { what: "serving executors".into(), source })
}

/// A listener whose connections send at once.
fn prompt(listener: TcpListener) -> TapIo<TcpListener, fn(&mut TcpStream)> {
    listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            log::warn!("TCP_NODELAY: {error}");
        }
    })
}

#[cfg(test)]
mod tests {
    use axum::serve::Listener;

    use super::*;

    #[tokio::test]
    async fn connections_send_at_once() -> std::io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut listener = prompt(listener);
        let _client = TcpStream::connect(address).await?;
        assert!(listener.accept().await.0.nodelay()?);
        Ok(())
    }
}
