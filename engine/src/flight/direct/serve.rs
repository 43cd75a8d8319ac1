//! The second listener of an executor: it answers DoGet for granted parts of results, and nothing else.

use std::pin::Pin;
use std::sync::Arc;

use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, Result as ActionResult, SchemaResult, Ticket,
};
use async_trait::async_trait;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::future::BoxFuture;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Server, ServerTlsConfig};
use tonic::{Request, Response, Streaming};

use super::Verifier;
use crate::error::{Result, SinewError};
use crate::flight::calls;
use crate::flight::messages::{Answer, refused};
use crate::flight::schema::{client_batch, client_schema};
use crate::flight::status::{root_cause, to_status};

/// Reads what a grant names.
pub type Reader = Arc<
    dyn Fn(Vec<u8>) -> BoxFuture<'static, std::result::Result<SendableRecordBatchStream, DataFusionError>>
        + Send
        + Sync,
>;

/// Serves granted parts of results until the future is dropped.
///
/// # Errors
/// When the socket cannot be served.
pub async fn serve_results(
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
    verifier: Verifier,
    read: Reader,
) -> Result<()> {
    let failed = |e: tonic::transport::Error| SinewError::Internal(format!("serving results: {}", root_cause(&e)));
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).map_err(failed)?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server
        .add_service(FlightServiceServer::new(Results { verifier, read }).max_encoding_message_size(usize::MAX))
        .serve_with_incoming(incoming)
        .await
        .map_err(failed)
}

struct Results {
    verifier: Verifier,
    read: Reader,
}

type Messages<T> = Pin<Box<dyn Stream<Item = Answer<T>> + Send>>;

fn only_tickets<T>() -> Answer<T> {
    Err(refused("this port gives out results that were granted", "ask the scheduler's Flight SQL port"))
}

#[async_trait]
impl FlightService for Results {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoActionStream = Messages<ActionResult>;
    type ListActionsStream = Messages<ActionType>;
    type DoExchangeStream = Messages<FlightData>;

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Response<Self::DoGetStream>> {
        let grant = self.verifier.open(&request.into_inner().ticket).map_err(|e| to_status(&e))?;
        let status = |e: DataFusionError| to_status(&SinewError::from(e));
        let rows = (self.read)(grant.what).await.map_err(status)?;
        let schema = client_schema(&rows.schema());
        let sent = Arc::clone(&schema);
        let rows = rows.map(move |batch| client_batch(&sent, &batch.map_err(SinewError::from)?));
        let rows = rows.map_err(|e| to_status(&e));
        Ok(Response::new(calls::encode(schema, rows).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Response<Self::HandshakeStream>> {
        // Some clients shake hands with every address; there is nothing to agree on.
        Ok(Response::new(futures::stream::iter([Ok(HandshakeResponse::default())]).boxed()))
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Response<Self::ListFlightsStream>> {
        only_tickets()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<Response<FlightInfo>> {
        only_tickets()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<Response<PollInfo>> {
        only_tickets()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<Response<SchemaResult>> {
        only_tickets()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoPutStream>> {
        only_tickets()
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Response<Self::DoActionStream>> {
        only_tickets()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Response<Self::ListActionsStream>> {
        only_tickets()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Response<Self::DoExchangeStream>> {
        only_tickets()
    }
}
