//! A connection to a server: statements go there as text, their rows come back as they are made.

use std::sync::Arc;

use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandStatementQuery, ProstMessageExt};
use arrow_flight::{FlightDescriptor, FlightInfo, HandshakeRequest, Ticket};
use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{Int64Type, Schema, SchemaRef};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use prost::Message;
use sinew_sql::name::quote;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::connect::{ConnectOptions, Login, Target};
use super::status::{from_flight, from_status, hinted, root_cause};
use super::{COLUMN, COOKIE, LINE};
use crate::error::{Result, SinewError};
use crate::plans::CommandPlan;
use crate::session::{Execution, ExecutionKind, Piece, Warnings};

/// Rows as they come.
type Rows = BoxStream<'static, Result<RecordBatch>>;

/// A server, and the session there.
#[derive(Clone, Debug)]
pub struct Remote {
    url: String,
    endpoint: Endpoint,
    client: FlightServiceClient<Channel>,
    /// Who asks.
    login: Option<Login>,
    /// The token that the server has given for a password; sessions on the same server share it.
    token: Arc<Mutex<Option<String>>>,
    /// The session's cookie, once the server has given one.
    cookie: Arc<Mutex<Option<String>>>,
}

impl Remote {
    /// Connects, and logs in where there is somebody to log in; the session begins with the first statement.
    ///
    /// # Errors
    /// When the address cannot be used, nobody answers there, or the server does not let that user in.
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self> {
        let Target { endpoint, login } = Target::new(url, &options)?;
        let channel = endpoint.connect().await;
        let unreachable = |reason| SinewError::Unreachable { url: url.to_string(), reason: hinted(reason) };
        let channel = channel.map_err(|e| unreachable(root_cause(&e)))?;
        let remote = Self {
            url: url.to_string(),
            endpoint,
            client: client(channel),
            login,
            token: Arc::default(),
            cookie: Arc::default(),
        };
        remote.log_in().await?;
        Ok(remote)
    }

    /// Another session on the same server, over a connection of its own.
    pub fn sibling(&self) -> Self {
        Self {
            url: self.url.clone(),
            endpoint: self.endpoint.clone(),
            client: client(self.endpoint.connect_lazy()),
            login: self.login.clone(),
            token: Arc::clone(&self.token),
            cookie: Arc::default(),
        }
    }

    /// Asks for a token in exchange for the password, if there is one.
    async fn log_in(&self) -> Result<()> {
        let Some(login @ Login::Basic(_)) = &self.login else { return Ok(()) };
        let mut request = Request::new(futures::stream::iter([HandshakeRequest::default()]));
        authorize(&mut request, &login.header());
        let answer = self.client.clone().handshake(request).await.map_err(|s| self.failed(s))?;
        let header = answer.metadata().get("authorization").and_then(|value| value.to_str().ok());
        *self.token.lock() = header.and_then(|header| header.strip_prefix("Bearer ")).map(str::to_string);
        self.remember(answer.metadata());
        Ok(())
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
        let descriptor = FlightDescriptor::new_cmd(command);
        let begin = async || {
            let mut request = self.request(descriptor.clone());
            for (name, value) in [(LINE, place.0), (COLUMN, place.1)] {
                request.metadata_mut().insert(name, MetadataValue::from(value));
            }
            self.client.clone().poll_flight_info(request).await
        };
        let answer = match begin().await {
            // The token is not valid any more; the password still is.
            Err(status) if status.code() == Code::Unauthenticated && self.token.lock().is_some() => {
                self.log_in().await?;
                begin().await
            }
            answer => answer,
        };
        let answer = answer.map_err(|s| self.failed(s))?;
        self.remember(answer.metadata());
        let info = answer.into_inner().info.unwrap_or_default();
        let kind = match &*info.app_metadata {
            b"done" => return Ok(Execution::done()),
            b"training" => ExecutionKind::Training,
            _ => ExecutionKind::Rows,
        };
        let schema = info.clone().try_decode_schema();
        let schema = schema.map_err(|e| SinewError::Internal(format!("the schema of {}: {e}", self.url)))?;
        let rows = self.rows(info).await?;
        match kind {
            ExecutionKind::Training => Ok(self.training(schema, rows)),
            _ => Ok(Execution::new(kind, Arc::new(schema), rows)),
        }
    }

    /// The rows of a training. What it warns of is asked for when they have ended: the report has no place for it.
    fn training(&self, schema: Schema, rows: Rows) -> Execution {
        let (warnings, trained) = (Warnings::default(), Arc::new(Mutex::new(None)));
        let (remote, found, seen) = (self.clone(), warnings.clone(), Arc::clone(&trained));
        let rows = rows.inspect_ok(move |batch| {
            if let Some(model) = published(batch) {
                *seen.lock() = Some(model);
            }
        });
        let last = futures::stream::once(async move {
            let trained = trained.lock().take();
            if let Some((model, version)) = trained {
                match remote.warnings(&model, version).await {
                    Ok(warnings) => found.set(warnings),
                    Err(error) => log::debug!("the warnings of '{model}', version {version}: {error}"),
                }
            }
        });
        let rows = rows.chain(last.filter_map(|()| std::future::ready(None)));
        Execution::new(ExecutionKind::Training, Arc::new(schema), rows.boxed()).with_warnings(warnings)
    }

    /// What the training of a version warned of.
    async fn warnings(&self, model: &str, version: i64) -> Result<Vec<String>> {
        let query = format!("DESCRIBE MODEL {}@{version}", quote(model));
        let command = CommandStatementQuery { query, transaction_id: None };
        let described = self.start(command.as_any().encode_to_vec(), (1, 1));
        // This statement trains nothing, so the recursion ends here.
        let described = Box::pin(described).await?.collect().await?;
        let mut warnings = Vec::new();
        for batch in &described {
            let (Some(properties), Some(values)) = (text(batch, "property"), text(batch, "value")) else { continue };
            let found = properties.iter().zip(values.iter()).filter(|(property, _)| *property == Some("warning"));
            warnings.extend(found.filter_map(|(_, value)| value.map(str::to_string)));
        }
        Ok(warnings)
    }

    /// The rows of all endpoints, one after another.
    async fn rows(&self, info: FlightInfo) -> Result<Rows> {
        let mut streams = Vec::new();
        for ticket in info.endpoint.into_iter().filter_map(|endpoint| endpoint.ticket) {
            streams.push(self.fetch(ticket).await?);
        }
        Ok(futures::stream::iter(streams).flatten().boxed())
    }

    async fn fetch(&self, ticket: Ticket) -> Result<Rows> {
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
        let token = self.token.lock().clone().map(Login::Bearer);
        if let Some(login) = token.as_ref().or(self.login.as_ref()) {
            authorize(&mut request, &login.header());
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

/// The model and version that the last row of a report names.
fn published(batch: &RecordBatch) -> Option<(String, i64)> {
    let row = batch.num_rows().checked_sub(1)?;
    let version = batch.column_by_name("version")?.as_primitive_opt::<Int64Type>()?;
    let model = text(batch, "model")?;
    (version.is_valid(row) && model.is_valid(row)).then(|| (model.value(row).to_string(), version.value(row)))
}

fn text<'a>(batch: &'a RecordBatch, column: &str) -> Option<&'a StringArray> {
    batch.column_by_name(column)?.as_string_opt::<i32>()
}

fn client(channel: Channel) -> FlightServiceClient<Channel> {
    // A row may be as large as it is; the server sends batches of some MiB.
    FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX)
}

/// Says in a request who makes it. What cannot stand in a header is left out, and the server asks for it.
fn authorize<T>(request: &mut Request<T>, header: &str) {
    if let Ok(mut value) = MetadataValue::try_from(header) {
        value.set_sensitive(true);
        request.metadata_mut().insert("authorization", value);
    }
}
