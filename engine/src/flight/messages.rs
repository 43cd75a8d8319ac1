//! Messages of Flight SQL, read and written: what cannot be read is the client's error and says so.

use arrow_flight::sql::{Any, Command, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{Action, FlightEndpoint, FlightInfo, IpcMessage, SchemaAsIpc, Ticket};
use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::ipc::writer::IpcWriteOptions;
use prost::Message;
use tonic::Status;

use super::direct::Part;
use super::expiry;
use super::status::to_status;
use crate::error::{Result, SinewError};
use crate::plans::CommandPlan;
use crate::session::{Piece, split};

/// What a message that is not one should have been.
const FORM: &str = "send a message of FlightSql.proto in a google.protobuf.Any";

/// The address of the connection that a description came over.
const HERE: &str = "arrow-flight-reuse-connection://?";

/// What every call returns.
pub type Answer<T> = std::result::Result<T, Status>;

/// The status of a request that cannot be served as it is.
pub fn refused(what: impl Into<String>, hint: impl Into<String>) -> Status {
    to_status(&SinewError::Request { what: what.into(), hint: hint.into() })
}

/// The message in a descriptor or ticket.
pub fn command(bytes: &[u8]) -> Answer<Command> {
    let any = Any::decode(bytes).map_err(|e| refused(format!("the message cannot be read: {e}"), FORM))?;
    Command::try_from(any).map_err(|e| refused(format!("the message cannot be read: {e}"), FORM))
}

/// The plans in a command of ours.
pub fn plans_of(any: &Any) -> Answer<CommandPlan> {
    CommandPlan::decode(&*any.value).map_err(|e| {
        refused(format!("the command of plans cannot be read: {e}"), "see docs/flight-sql.md for its form")
    })
}

/// The status of a message that a call has no answer to.
pub fn unknown(call: &str, command: &Command) -> Status {
    let name = command.type_url().rsplit('.').next().unwrap_or_default();
    to_status(&SinewError::NotAvailable {
        what: format!("{call} of '{}'", shown(name)),
        hint: "send statements as CommandStatementQuery".into(),
    })
}

/// A client's word, at a readable length.
pub fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

/// The request in the body of an action of Flight SQL.
pub fn unpack<M: ProstMessageExt>(action: &Action) -> Answer<M> {
    let wrong = |e: &dyn std::fmt::Display| {
        refused(format!("the body of {} cannot be read: {e}", shown(&action.r#type)), "send its request in an Any")
    };
    let any = Any::decode(&*action.body).map_err(|e| wrong(&e))?;
    any.unpack().map_err(|e| wrong(&e))?.ok_or_else(|| wrong(&format!("it is a '{}'", shown(&any.type_url))))
}

/// The request in the body of an action of Flight.
pub fn decode<M: Message + Default>(action: &Action) -> Answer<M> {
    M::decode(&*action.body).map_err(|e| {
        refused(format!("the body of {} cannot be read: {e}", shown(&action.r#type)), "send its request as it is")
    })
}

/// The one statement of a text of at most `longest` bytes, which begins at `place` of the client's script.
///
/// # Errors
/// When it is too long, or more than one.
pub fn single(text: &str, place: (u64, u64), longest: usize) -> Result<Piece> {
    if text.len() > longest {
        return Err(SinewError::TooMany {
            what: format!("{longest} bytes of text in one statement (flight_text)"),
            hint: "put the values into a table or a file".into(),
        });
    }
    let mut pieces = split(text);
    if pieces.len() > 1 {
        let what = format!("the text has {} statements", pieces.len());
        return Err(SinewError::Request { what, hint: "send one at a time".into() });
    }
    let empty = Piece { number: 1, line: 1, column: 1, text: String::new(), terminated: false };
    let mut piece = pieces.pop().unwrap_or(empty);
    if piece.line == 1 {
        piece.column += place.1 - 1;
    }
    piece.line += place.0 - 1;
    Ok(piece)
}

/// # Errors
/// When a request names a transaction.
pub fn no_transaction(id: Option<&Bytes>) -> Result<()> {
    match id {
        Some(id) if !id.is_empty() => Err(SinewError::Request {
            what: "there are no transactions; each statement is one of its own".into(),
            hint: "leave the transaction id out".into(),
        }),
        _ => Ok(()),
    }
}

/// The answer of GetFlightInfo: columns, and the ticket for the rows on the same connection.
pub fn info(schema: &Schema, ticket: impl Into<Bytes>) -> Answer<FlightInfo> {
    let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(ticket));
    expiry::set(&mut endpoint);
    let info = FlightInfo::new().try_with_schema(schema).map_err(|e| Status::internal(e.to_string()))?;
    Ok(info.with_endpoint(endpoint).with_total_records(-1).with_ordered(true))
}

/// A part of a result at an executor; this connection gives it out as well.
pub fn part(part: &Part) -> FlightEndpoint {
    let mut endpoint = FlightEndpoint::new().with_ticket(Ticket::new(part.ticket.clone()));
    for address in [part.address.as_str(), HERE] {
        endpoint = endpoint.with_location(address);
    }
    expiry::set(&mut endpoint);
    endpoint
}

/// The bytes of a ticket.
pub fn ticket(name: &str) -> Vec<u8> {
    TicketStatementQuery { statement_handle: name.to_string().into() }.as_any().encode_to_vec()
}

/// A schema as IPC.
pub fn ipc(schema: &Schema) -> Answer<Bytes> {
    let options = IpcWriteOptions::default();
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &options));
    message.map(|message| message.0).map_err(|e| Status::internal(e.to_string()))
}
