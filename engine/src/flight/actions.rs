//! The actions of Flight and Flight SQL: prepared statements, cancelling, the session itself.

use std::sync::Arc;

use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    ActionCreatePreparedSubstraitPlanRequest, Command, ProstMessageExt,
};
use arrow_flight::{
    Action, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightEndpoint, FlightInfo,
    RenewFlightEndpointRequest,
};
use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use prost::Message;

use super::auth::roles::setting;
use super::calls::plan;
use super::direct::Grant;
use super::messages::{Answer, command, decode, ipc, no_transaction, part, refused, shown, single, unpack};
use super::protocol::{CLOSED, CloseSessionResult, SetSessionOptionsRequest};
use super::sessions::{ClientSession, Sessions};
use super::statements::{Carried, Outcome, Text};
use super::status::to_status;
use super::workers::Workers;
use super::{expiry, options};
use crate::error::SinewError;
use crate::session::numbered;

/// Names and descriptions of all actions.
pub const ACTIONS: [(&str, &str); 9] = [
    ("CreatePreparedStatement", "Plans a statement, to be run later and more than once"),
    ("CreatePreparedSubstraitPlan", "Plans a query in Substrait, to be run later and more than once"),
    ("ClosePreparedStatement", "Forgets a prepared statement"),
    ("CancelFlightInfo", "Cancels a statement and drops its result"),
    ("RenewFlightEndpoint", "Keeps a result for longer"),
    ("CancelQuery", "Cancels a statement, as older clients ask for it"),
    ("SetSessionOptions", "Sets options of the session, as SET does; catalog and schema are the current ones"),
    ("GetSessionOptions", "The options of the session"),
    ("CloseSession", "Ends the session and its statements"),
];

/// `CANCEL_RESULT_CANCELLED` of FlightSql.proto.
const QUERY_CANCELLED: i32 = 1;

/// Does what an action asks for; the bodies of its results.
pub async fn act(sessions: &Sessions, workers: &Workers, client: &ClientSession, action: Action) -> Answer<Vec<Bytes>> {
    let statements = &client.statements;
    let one = |body: Vec<u8>| Ok(vec![body.into()]);
    match action.r#type.as_str() {
        "CreatePreparedStatement" => create(workers, client, unpack(&action)?).await,
        "CreatePreparedSubstraitPlan" => {
            let request: ActionCreatePreparedSubstraitPlanRequest = unpack(&action)?;
            no_transaction(request.transaction_id.as_ref()).map_err(|e| to_status(&e))?;
            let plan = request.plan.unwrap_or_default().plan;
            let piece = single("", (1, 1), client.limits.text).map_err(|e| to_status(&e))?;
            let plan = Some(Arc::new(Carried::Substrait(plan)));
            prepare(workers, client, Text { piece, values: None, plan }).await
        }
        "ClosePreparedStatement" => {
            let close: ActionClosePreparedStatementRequest = unpack(&action)?;
            statements.unprepare(&close.prepared_statement_handle);
            Ok(Vec::new())
        }
        "CancelFlightInfo" => {
            let request: CancelFlightInfoRequest = decode(&action)?;
            cancel(client, &request.info.unwrap_or_default())?;
            one(CancelFlightInfoResult::new(CancelStatus::Cancelled).encode_to_vec())
        }
        "CancelQuery" => {
            let request: ActionCancelQueryRequest = unpack(&action)?;
            let info = FlightInfo::decode(request.info)
                .map_err(|e| refused(format!("the FlightInfo to cancel cannot be read: {e}"), "send it as it came"))?;
            cancel(client, &info)?;
            one(ActionCancelQueryResult { result: QUERY_CANCELLED }.as_any().encode_to_vec())
        }
        "RenewFlightEndpoint" => {
            let request: RenewFlightEndpointRequest = decode(&action)?;
            one(renew(client, request.endpoint.unwrap_or_default())?.encode_to_vec())
        }
        "SetSessionOptions" => {
            let request: SetSessionOptionsRequest = decode(&action)?;
            for name in request.session_options.keys() {
                client.allows(setting(name), name).map_err(|e| to_status(&e))?;
            }
            one(options::set(&client.session, request).await.encode_to_vec())
        }
        "GetSessionOptions" => one(options::get(&client.session).encode_to_vec()),
        "CloseSession" => {
            sessions.close(client);
            one(CloseSessionResult { status: CLOSED }.encode_to_vec())
        }
        "BeginTransaction" | "BeginSavepoint" | "EndTransaction" | "EndSavepoint" => {
            Err(to_status(&SinewError::NotAvailable {
                what: "a transaction".into(),
                hint: "each statement is one of its own".into(),
            }))
        }
        other => Err(to_status(&SinewError::NotAvailable {
            what: format!("the action '{}'", shown(other)),
            hint: "ListActions names those there are".into(),
        })),
    }
}

async fn create(
    workers: &Workers,
    client: &ClientSession,
    request: ActionCreatePreparedStatementRequest,
) -> Answer<Vec<Bytes>> {
    let text = no_transaction(request.transaction_id.as_ref()).and_then(|()| {
        let mut piece = single(&request.query, (1, 1), client.limits.text)?;
        piece.text = numbered(&piece.text)?;
        Ok(Text { piece, values: None, plan: None })
    });
    prepare(workers, client, text.map_err(|e| to_status(&e))?).await
}

async fn prepare(workers: &Workers, client: &ClientSession, text: Text) -> Answer<Vec<Bytes>> {
    let (schema, parameters) = plan(workers, client, text.clone()).await?;
    // A parameter of any type has the type of NULL.
    let field = |(at, kind): (usize, Option<DataType>)| {
        Field::new(format!("${}", at + 1), kind.unwrap_or(DataType::Null), true)
    };
    let parameters = Schema::new(parameters.into_iter().enumerate().map(field).collect::<Vec<_>>());
    let handle = client.statements.prepare(text).map_err(|e| to_status(&e))?;
    let result = ActionCreatePreparedStatementResult {
        prepared_statement_handle: handle.into(),
        dataset_schema: ipc(&schema)?,
        parameter_schema: ipc(&parameters)?,
    };
    Ok(vec![result.as_any().encode_to_vec().into()])
}

/// The result that a ticket stands for, by its name in the session that has it; `None` for a ticket of another kind.
fn named(ticket: &[u8]) -> Answer<Option<Bytes>> {
    // A grant need not be checked here: its name is looked up in the caller's own session.
    if let Some(grant) = Grant::unchecked(ticket) {
        return Ok(Some(grant.result.into()));
    }
    Ok(match command(ticket)? {
        Command::TicketStatementQuery(ticket) => Some(ticket.statement_handle),
        _ => None,
    })
}

/// Keeps the result of an endpoint for longer; a part that an executor holds gets a ticket that is signed anew.
fn renew(client: &ClientSession, mut endpoint: FlightEndpoint) -> Answer<FlightEndpoint> {
    let ticket = endpoint.ticket.clone().unwrap_or_default().ticket;
    let Some(name) = named(&ticket)? else { return Ok(endpoint) };
    let outcome = client.statements.result(&name).map_err(|e| to_status(&e))?;
    match (Grant::unchecked(&ticket), outcome) {
        (Some(grant), Outcome::Placed(placed, _)) => {
            let renewed = placed.parts(&grant.result).get(grant.part as usize).map(part);
            let lost = || SinewError::UnknownHandle {
                what: "the ticket (its executor is gone)".into(),
                hint: "run the statement again".into(),
            };
            let renewed = renewed.ok_or_else(|| to_status(&lost()))?;
            Ok(FlightEndpoint { app_metadata: endpoint.app_metadata, ..renewed })
        }
        _ => {
            expiry::set(&mut endpoint);
            Ok(endpoint)
        }
    }
}

/// Cancels what the tickets of an answer stand for.
fn cancel(client: &ClientSession, info: &FlightInfo) -> Answer<()> {
    let mut any = false;
    for ticket in info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()) {
        // The parts of one result have one name.
        any |= named(&ticket.ticket)?.is_some_and(|name| client.statements.cancel(&name));
    }
    match any {
        true => Ok(()),
        false => Err(to_status(&SinewError::UnknownHandle {
            what: "the statement to cancel".into(),
            hint: "it may have ended long ago".into(),
        })),
    }
}
