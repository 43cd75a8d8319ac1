//! The server: sockets, limits, and an orderly end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use futures::TryStreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::auth::{Guard, GuardOptions, Guarded};
use super::connection::{Connection, Peer};
use super::service::Service;
use super::sessions::Sessions;
use super::status::root_cause;
use super::tls::Tls;
use super::workers::Workers;
use crate::error::{Result, SinewError};
use crate::session::Session;

/// How often HTTP/2 asks a silent client whether it is there. A TRAIN MODEL may be silent for hours.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How long the answer to that may take.
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(20);
/// How often sessions are looked through for what has expired.
const SWEEP: Duration = Duration::from_secs(5);
/// How often it is looked whether statements have ended.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that may be on their way to the server on one stream, and on all of a connection: rows come as fast as
/// they are read.
const WINDOW: u32 = 4 << 20;
/// As [`WINDOW`], for a connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Time for clients to be told that their statements were cancelled.
const FAREWELL: Duration = Duration::from_millis(500);

/// Time for the checkpoints of trainings that were stopped to be stored.
const SETTLE: Duration = Duration::from_secs(2);

/// Called with each socket that is accepted.
pub type Accepted = Arc<dyn Fn(&TcpStream) + Send + Sync>;

/// How sessions are served.
#[derive(Clone)]
pub struct ServeOptions {
    /// The runtime that runs statements; `None` means the one that serves.
    pub workers: Option<Handle>,
    /// Sessions at the same time; `None` means the option `flight_sessions`.
    pub sessions: Option<usize>,
    /// How long a session lives that nobody uses.
    pub idle: Duration,
    /// How long statements may go on after the end was asked for.
    pub drain: Duration,
    /// Called with each socket that is accepted.
    pub accepted: Option<Accepted>,
    /// Who may come in; the default asks nobody.
    pub guard: Option<Arc<Guard>>,
    /// The server's certificate; `None` means without encryption.
    pub tls: Option<Tls>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            workers: None,
            sessions: None,
            idle: Duration::from_secs(1_800),
            drain: Duration::from_secs(10),
            accepted: None,
            guard: None,
            tls: None,
        }
    }
}

impl fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, idle, drain, .. } = self;
        let mut shown = f.debug_struct("ServeOptions");
        shown.field("sessions", sessions).field("idle", idle).field("drain", drain).finish_non_exhaustive()
    }
}

/// Serves Flight SQL on a socket until `shutdown` is ready and the statements that run then have ended, or
/// were cancelled. Each client has a session of its own, a sibling of `template`.
///
/// # Errors
/// When the socket cannot be served.
pub async fn serve(
    template: Session,
    listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let ending = template.clone();
    let workers = Workers(options.workers.clone().unwrap_or_else(Handle::current));
    let guard = match &options.guard {
        Some(guard) => Arc::clone(guard),
        None => Arc::new(Guard::new(GuardOptions::default())?),
    };
    let sessions = Arc::new(Sessions::new(template, options.sessions, options.idle, guard.audit().clone())?);
    let service = FlightServiceServer::new(Service::new(Arc::clone(&sessions), workers))
        .max_decoding_message_size(sessions.limits().message)
        .max_encoding_message_size(usize::MAX);
    let service = Guarded::new(service, Arc::clone(&guard));

    let (stopping, mut stopped) = watch::channel(false);
    let stop = async {
        shutdown.await;
        sessions.drain();
        stopping.send_replace(true);
        // A statement is two calls: one that begins it, and one that fetches. Connections close between neither.
        while !sessions.quiet() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let mut server = Server::builder();
    if let Some(tls) = &options.tls {
        server = tls.protect(server)?;
    }
    let server = server
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_ANSWER))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(service)
        .serve_with_incoming_shutdown(connections(listener, &sessions, options.accepted), stop);
    let late = async {
        let _ = stopped.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(options.drain).await;
        sessions.close_all();
        tokio::time::sleep(FAREWELL).await;
    };
    let result = tokio::select! {
        result = server => result,
        () = late => Ok(()),
        () = sweep(&sessions, &guard) => Ok(()),
    };
    sessions.close_all();
    ending.settle(SETTLE).await;
    result.map_err(|e| SinewError::Internal(format!("serving: {}", root_cause(&e))))
}

async fn sweep(sessions: &Sessions, guard: &Guard) {
    loop {
        tokio::time::sleep(SWEEP).await;
        sessions.sweep();
        guard.sweep();
    }
}

/// The sockets as they are accepted. Without TCP_NODELAY every answer would wait 40 ms for the client's
/// acknowledgement.
fn connections(
    listener: TcpListener,
    sessions: &Arc<Sessions>,
    accepted: Option<Accepted>,
) -> impl futures::Stream<Item = std::io::Result<Connection>> {
    let count = AtomicU64::new(0);
    let sessions = Arc::clone(sessions);
    let closed: Arc<dyn Fn(Peer) + Send + Sync> = Arc::new(move |peer| sessions.disconnected(peer));
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE));
    incoming.map_ok(move |socket| {
        if let Some(accepted) = &accepted {
            accepted(&socket);
        }
        Connection::new(socket, count.fetch_add(1, Ordering::Relaxed) + 1, Arc::clone(&closed))
    })
}
