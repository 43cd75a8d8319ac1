//! Results for clients, on a listener of their own: only what the scheduler has signed leave for.

use std::path::Path;
use std::sync::Arc;

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
use tonic::Request;

use crate::{ports, scheduler};

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
    let failed = |source| SinewError::Io { what: format!("listening on {address}"), source };
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    let files = Arc::new(BallistaFlightService::new(folder.display().to_string()));
    let read: Reader = Arc::new(move |what| Box::pin(read(Arc::clone(&files), what)));
    tokio::spawn(async move {
        if let Err(error) = serve_results(listener, tls.map(|tls| tls.config()), verifier, read).await {
            log::error!("{error}");
        }
    });
    scheduler::serves_results(scheduler_host, scheduler_port, id, &shown).await?;
    log::info!("results for clients at {shown}");
    Ok(())
}

/// Reads one part of a result as Ballista's own port for data does.
async fn read(
    files: Arc<BallistaFlightService>,
    what: Vec<u8>,
) -> std::result::Result<SendableRecordBatchStream, DataFusionError> {
    let gone = |status: tonic::Status| DataFusionError::Execution(format!("a result is gone: {}", status.message()));
    let sent = files.do_get(Request::new(Ticket::new(what))).await.map_err(gone)?.into_inner();
    let mut rows = FlightRecordBatchStream::new_from_flight_data(sent.map_err(FlightError::from));
    let external = |e: FlightError| DataFusionError::External(Box::new(e));
    // The schema comes with the first message.
    let first = rows.next().await.transpose().map_err(external)?;
    let schema = rows.schema().cloned().ok_or_else(|| DataFusionError::Execution("a result has no columns".into()))?;
    let rows = futures::stream::iter(first.map(Ok)).chain(rows.map_err(external));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}
