//! Results for clients, on a listener of their own: only what the scheduler has signed leave for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::Ticket;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService;
use ballista_executor::flight_service::BallistaFlightService;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt};
use sinew::flight::{Reader, Tls, Verifier, serve_results};
use sinew::{Result, SinewError};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::Request;

use crate::{ports, scheduler};

/// Results that are read at a time.
const STREAMS: usize = 64;
/// How long a client waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the scheduler is told, and asked for its key.
const AGAIN: Duration = Duration::from_secs(10);

/// Listens at `address`, with encryption where there is a certificate, and tells the scheduler.
///
/// # Errors
/// When the address is taken, or the scheduler does not answer.
pub async fn serve(
    address: &str,
    advertised: Option<&str>,
    (scheduler_host, scheduler_port): (&str, u16),
    id: &str,
    folder: &Path,
    tls: Option<Tls>,
) -> Result<()> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) = parts.ok_or_else(|| SinewError::Config {
        name: "--results".into(),
        value: address.into(),
        expected: "an address with a port, as in 127.0.0.1:50062; port 0 takes a free one".into(),
    })?;
    let listener = ports::listen(host, port, "--results")?;
    let scheme = if tls.is_some() { "grpc+tls" } else { "grpc+tcp" };
    let shown = format!("{scheme}://{}:{}", advertised.unwrap_or(host), ports::port_of(&listener));
    let key = scheduler::results_key(scheduler_host, scheduler_port).await?;
    let verifier = Verifier::new(&key, id)?;
    let files = Arc::new(BallistaFlightService::new(folder.display().to_string()));
    let open = Arc::new(Semaphore::new(STREAMS));
    let read: Reader = Arc::new(move |what| Box::pin(read(Arc::clone(&files), Arc::clone(&open), what)));
    let (known, what) = (verifier.clone(), format!("listening on {address}"));
    apart(async move {
        let listener = tokio::net::TcpListener::from_std(listener).map_err(|source| SinewError::Io { what, source })?;
        serve_results(listener, tls.map(|tls| tls.config()), known, read).await
    })?;
    scheduler::serves_results(scheduler_host, scheduler_port, id, &shown).await?;
    log::info!("results for clients at {shown}");
    let (host, id) = (scheduler_host.to_string(), id.to_string());
    tokio::spawn(async move {
        // A scheduler that was started anew has another key, and one that gave this executor up forgot its address.
        loop {
            tokio::time::sleep(AGAIN).await;
            if let Ok(key) = scheduler::results_key(&host, scheduler_port).await
                && let Err(error) = verifier.renew(&key)
            {
                log::warn!("{error}");
            }
            if let Err(error) = scheduler::serves_results(&host, scheduler_port, &id, &shown).await {
                log::debug!("{error}");
            }
        }
    });
    Ok(())
}

/// Runs a server on threads of its own: clients that are slow, or many, keep no task and no sign of life waiting.
fn apart(server: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let failed = |source| SinewError::Io { what: "starting threads for results".into(), source };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(STREAMS + 2)
        .thread_name("sinew-results")
        .enable_all()
        .build()
        .map_err(failed)?;
    let run = move || {
        if let Err(error) = runtime.block_on(server) {
            log::error!("{error}");
        }
    };
    std::thread::Builder::new().name("sinew-results".into()).spawn(run).map(drop).map_err(failed)
}

/// Reads one part of a result as Ballista's own port for data does.
async fn read(
    files: Arc<BallistaFlightService>,
    open: Arc<Semaphore>,
    what: Vec<u8>,
) -> std::result::Result<SendableRecordBatchStream, DataFusionError> {
    // Each open stream holds a thread that reads its file.
    let busy = || DataFusionError::ResourcesExhausted(format!("{STREAMS} results are being read here; try again"));
    let permit = timeout(PATIENCE, open.acquire_owned()).await.ok().and_then(|permit| permit.ok()).ok_or_else(busy)?;
    let gone = |status: tonic::Status| DataFusionError::Execution(format!("a result is gone: {}", status.message()));
    let sent = files.do_get(Request::new(Ticket::new(what))).await.map_err(gone)?.into_inner();
    let mut rows = FlightRecordBatchStream::new_from_flight_data(sent.map_err(FlightError::from));
    let external = |e: FlightError| DataFusionError::External(Box::new(e));
    // The schema comes with the first message.
    let first = rows.next().await.transpose().map_err(external)?;
    let schema = rows.schema().cloned().ok_or_else(|| DataFusionError::Execution("a result has no columns".into()))?;
    let rows = futures::stream::iter(first.map(Ok)).chain(rows.map_err(external));
    let rows = rows.inspect(move |_| _ = &permit);
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}
