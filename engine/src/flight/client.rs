//! A connection to a server: statements go there as text, their rows come back as they are made.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, Ticket};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::status::{from_flight, from_status, root_cause};
use super::{COLUMN, COOKIE, LINE, PORT};
use crate::error::{Result, SinewError};
use crate::plans::CommandPlan;
use crate::session::{Execution, ExecutionKind, Piece};

/// How long the other side may take to answer the first call for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How often the connection is tried while a statement runs.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Bytes of rows that may be on their way on one stream, and on all of a connection.
const WINDOW: u32 = 4 << 20;
/// As [`WINDOW`], for the connection.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A server, and the session there.
#[derive(Debug)]
pub struct Remote {
    url: String,
    endpoint: Endpoint,
    client: FlightServiceClient<Channel>,
    /// The session's cookie, once the server has given one.
    cookie: Arc<Mutex<Option<String>>>,
}

impl Remote {
    /// Connects; the session begins with the first statement.
    ///
    /// # Errors
    /// When the address cannot be used or nobody answers there.
    pub async fn connect(url: &str) -> Result<Self> {
        let endpoint = endpoint(url)?;
        let channel = endpoint.connect().await;
        let channel = channel.map_err(|e| SinewError::Unreachable { url: url.to_string(), reason: root_cause(&e) })?;
        Ok(Self::over(url, endpoint, channel))
    }

    fn over(url: &str, endpoint: Endpoint, channel: Channel) -> Self {
        // A row may be as large as it is; the server sends batches of some MiB.
        let client = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        Self { url: url.to_string(), endpoint, client, cookie: Arc::default() }
    }

    /// Another session on the same server, over a connection of its own.
    pub fn sibling(&self) -> Self {
        Self::over(&self.url, self.endpoint.clone(), self.endpoint.connect_lazy())
    }

    /// Starts a statement; dropping what it returns cancels it there.
    ///
    /// # Errors
    /// The server's, or that it cannot be reached.
    pub async fn run(&self, piece: &Piece) -> Result<Execution> {
        let command = CommandStatementQuery { query: piece.text.clone(), transaction_id: None };
        self.start(command.as_any().encode_to_vec(), (piece.line, piece.column)).await
    }

    /// Starts a statement over plans, or the query that they are.
    ///
    /// # Errors
    /// The server's, or that it cannot be reached.
    pub async fn run_plans(&self, command: &CommandPlan) -> Result<Execution> {
        self.start(command.packed(), (1, 1)).await
    }

    /// The columns of a query's result.
    ///
    /// # Errors
    /// The server's, or that it cannot be reached.
    pub async fn columns(&self, query: &str) -> Result<SchemaRef> {
        let command = CommandStatementQuery { query: query.into(), transaction_id: None };
        self.described(command.as_any().encode_to_vec()).await
    }

    /// The columns of the result of plans.
    ///
    /// # Errors
    /// The server's, or that it cannot be reached.
    pub async fn columns_of_plans(&self, command: &CommandPlan) -> Result<SchemaRef> {
        self.described(command.packed()).await
    }

    async fn described(&self, command: Vec<u8>) -> Result<SchemaRef> {
        let request = self.request(FlightDescriptor::new_cmd(command));
        let answer = self.client.clone().get_schema(request).await.map_err(|s| self.failed(s))?;
        self.remember(answer.metadata());
        let schema = Schema::try_from(answer.into_inner());
        let schema = schema.map_err(|e| SinewError::Internal(format!("the schema of {}: {e}", self.url)))?;
        Ok(Arc::new(schema))
    }

    async fn start(&self, command: Vec<u8>, place: (u64, u64)) -> Result<Execution> {
        let mut request = self.request(FlightDescriptor::new_cmd(command));
        for (name, value) in [(LINE, place.0), (COLUMN, place.1)] {
            request.metadata_mut().insert(name, MetadataValue::from(value));
        }
        let answer = self.client.clone().poll_flight_info(request).await.map_err(|s| self.failed(s))?;
        self.remember(answer.metadata());
        let info = answer.into_inner().info.unwrap_or_default();
        let kind = match &*info.app_metadata {
            b"done" => return Ok(Execution::done()),
            b"training" => ExecutionKind::Training,
            _ => ExecutionKind::Rows,
        };
        let schema = info.clone().try_decode_schema();
        let schema = schema.map_err(|e| SinewError::Internal(format!("the schema of {}: {e}", self.url)))?;
        Ok(Execution::new(kind, Arc::new(schema), self.rows(info).await?))
    }

    /// The rows of all endpoints, one after another.
    async fn rows(
        &self,
        info: FlightInfo,
    ) -> Result<BoxStream<'static, Result<datafusion::arrow::array::RecordBatch>>> {
        let mut streams = Vec::new();
        for ticket in info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket) {
            streams.push(self.fetch(ticket).await?);
        }
        Ok(futures::stream::iter(streams).flatten().boxed())
    }

    async fn fetch(&self, ticket: Ticket) -> Result<BoxStream<'static, Result<datafusion::arrow::array::RecordBatch>>> {
        let answer = self.client.clone().do_get(self.request(ticket)).await.map_err(|s| self.failed(s))?;
        let messages = answer.into_inner().map_err(arrow_flight::error::FlightError::from);
        let url = self.url.clone();
        let rows = FlightRecordBatchStream::new_from_flight_data(messages);
        Ok(rows.map_err(move |e| from_flight(&url, e)).boxed())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let cookie = self.cookie.lock().as_ref().and_then(|name| format!("{COOKIE}={name}").parse().ok());
        if let Some(cookie) = cookie {
            request.metadata_mut().insert("cookie", cookie);
        }
        request
    }

    /// Keeps the session that the server has given.
    fn remember(&self, metadata: &MetadataMap) {
        let given = metadata.get("set-cookie").and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split(';').next()?.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        if let Some(name) = given {
            *self.cookie.lock() = Some(name.to_string());
        }
    }

    fn failed(&self, status: Status) -> SinewError {
        from_status(&self.url, status)
    }
}

/// `grpc://host[:port]`, as tonic wants it.
fn endpoint(url: &str) -> Result<Endpoint> {
    let refuse = |reason: &str| SinewError::Unreachable { url: url.to_string(), reason: reason.to_string() };
    let form = "write the address as grpc://host:50051";
    let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse(form))?;
    match scheme {
        "grpc" | "grpc+tcp" | "http" => {}
        "grpcs" | "grpc+tls" | "https" => {
            let hint = "use grpc:// inside a trusted network or a tunnel".into();
            return Err(SinewError::NotAvailable { what: format!("{scheme}://"), hint });
        }
        _ => return Err(refuse(form)),
    }
    let host = rest.trim_end_matches('/');
    let parsed = url::Url::parse(&format!("http://{host}")).map_err(|_| refuse(form))?;
    let bare = matches!(parsed.path(), "" | "/") && parsed.query().is_none() && parsed.username().is_empty();
    let name = parsed.host_str().filter(|_| bare).ok_or_else(|| refuse(form))?;
    // The parser leaves out the port of HTTP; written out it is meant.
    let port = parsed.port().unwrap_or(if host.ends_with(":80") { 80 } else { PORT });
    let endpoint = Endpoint::from_shared(format!("http://{name}:{port}")).map_err(|_| refuse(form))?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for (url, uri) in [
            ("grpc://localhost", "http://localhost:50051/"),
            ("grpc+tcp://127.0.0.1:1/", "http://127.0.0.1:1/"),
            ("grpc://[::1]:80", "http://[::1]:80/"),
        ] {
            assert_eq!(endpoint(url).map(|e| e.uri().to_string()).ok().as_deref(), Some(uri));
        }
        for url in ["localhost:50051", "ftp://h", "grpc://", "grpc://h:x", "grpc://h/path", "grpc://u@h", "grpcs://h"] {
            assert!(endpoint(url).is_err(), "{url}");
        }
    }
}
