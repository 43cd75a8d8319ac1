//! Plans that were made elsewhere: by DataFusion in a client's program, or by another system as Substrait.
//!
//! A plan arrives with the names of the server's tables in it. [`settle`] puts the tables themselves in their
//! places, and looks at every scan on the way. A statement may come along, such as `TRAIN MODEL m .. FROM frame`,
//! which names the plans beside it like tables; [`over`] makes them tables, for that statement alone.

mod codec;
mod deep;
mod message;
mod over;
mod recorded;
mod scans;
#[cfg(feature = "substrait")]
mod substrait;

use std::sync::Arc;

use datafusion::datasource::ViewTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion_proto::bytes::{
    logical_plan_from_bytes_with_extension_codec, logical_plan_to_bytes_with_extension_codec,
};

pub(crate) use codec::{Frame, Named};
pub(crate) use message::{CommandPlan, Relation, TYPE_URL};
pub(crate) use over::Over;
pub(crate) use recorded::as_sql;
use scans::settle;

use crate::error::{Result, SinewError, plain_text};
use crate::session::{Piece, Prepared, Session};

/// The major version of DataFusion: plans travel between equal ones.
pub(crate) fn datafusion_version() -> u32 {
    let major = datafusion::DATAFUSION_VERSION.split('.').next();
    major.and_then(|major| major.parse().ok()).unwrap_or_default()
}

/// What names of relations over a client's plans begin with.
pub(crate) const FRAME: &str = "__dataframe";

/// Relations that may come with one statement.
const MOST_RELATIONS: usize = 1_000;

/// The bytes of a plan, for [`Relation::plan`].
///
/// # Errors
/// When the plan has a part that only this process has.
pub(crate) fn encode(plan: &LogicalPlan) -> Result<bytes::Bytes> {
    Ok(logical_plan_to_bytes_with_extension_codec(plan, &codec::Travel)?)
}

/// The plan of a client, with this session's tables in it.
async fn decode(session: &Session, bytes: &bytes::Bytes) -> Result<LogicalPlan> {
    let (context, bytes) = (session.context().task_ctx(), bytes.clone());
    let read = deep::read(move || async move {
        let plan = logical_plan_from_bytes_with_extension_codec(&bytes, &context, &codec::Travel);
        let plan = plan.map_err(|e| match plain_text(&e) {
            text if text.contains("SINEW-") => SinewError::from(e),
            text if text.contains("recursion limit") => SinewError::Request {
                what: "the plan is nested too deeply to travel".into(),
                hint: "send the optimized plan, or put a part of it into a view or a table".into(),
            },
            text => SinewError::Request {
                what: format!("the plan cannot be read: {text}"),
                hint: "send what LogicalPlan.to_bytes of DataFusion gives".into(),
            },
        })?;
        scans::not_too_deep(&plan)?;
        Ok(plan)
    });
    let plan = settle(session, read.await?).await?;
    session.roots().admit_plan(&plan)?;
    Ok(plan)
}

/// Plans what a client sent: the session that its statement belongs to, which sees the relations, and the statement.
///
/// # Errors
/// When the client has another DataFusion, a plan cannot be used, or the statement cannot be planned.
pub(crate) async fn prepare(
    session: &Session,
    command: &CommandPlan,
    statement: &Piece,
) -> Result<(Session, Prepared)> {
    let ours = datafusion_version();
    if command.datafusion != ours {
        return Err(SinewError::PlanVersion { theirs: command.datafusion, ours });
    }
    if command.relations.len() > MOST_RELATIONS {
        return Err(SinewError::TooMany {
            what: format!("{MOST_RELATIONS} relations of one statement"),
            hint: "make tables or views of some of them".into(),
        });
    }
    let (over, relations) = session.over();
    let mut last = None;
    for relation in &command.relations {
        let plan = match relation.query.is_empty() {
            true => decode(&over, &relation.plan).await?,
            false => query(&over, &relation.query).await?,
        };
        reads(&plan)?;
        last = Some(plan.clone());
        relations.add(&relation.name, Arc::new(ViewTable::new(plan, None)))?;
    }
    if !statement.text.is_empty() {
        let prepared = over.prepare(statement).await?;
        return Ok((over, prepared));
    }
    match last {
        Some(plan) => Ok((over, Prepared::Query(plan))),
        None => Err(SinewError::Request {
            what: "the command has neither a statement nor a plan".into(),
            hint: "send one of them".into(),
        }),
    }
}

/// Plans what another system sent as Substrait.
///
/// # Errors
/// When it cannot be read, or this program was built without it.
pub(crate) async fn prepare_substrait(session: &Session, plan: &[u8]) -> Result<(Session, Prepared)> {
    #[cfg(feature = "substrait")]
    {
        let (over, _) = session.over();
        let (seen, plan) = (over.clone(), bytes::Bytes::copy_from_slice(plan));
        let plan = deep::read(move || async move { substrait::read(&seen, &plan).await }).await?;
        reads(&plan)?;
        over.roots().admit_plan(&plan)?;
        Ok((over, Prepared::Query(plan)))
    }
    #[cfg(not(feature = "substrait"))]
    {
        let _ = (session, plan);
        Err(SinewError::NotAvailable {
            what: "a plan in Substrait".into(),
            hint: "send SQL, or build sinew with the feature substrait".into(),
        })
    }
}

/// A relation that is written as SQL.
async fn query(session: &Session, text: &str) -> Result<LogicalPlan> {
    let piece = Piece { number: 1, line: 1, column: 1, text: text.into(), terminated: false };
    match session.prepare(&piece).await? {
        Prepared::Query(plan) => Ok(plan),
        _ => Err(SinewError::Request {
            what: format!("a relation is a query, and this is none: {}", text.chars().take(60).collect::<String>()),
            hint: "send other statements by themselves".into(),
        }),
    }
}

/// # Errors
/// When a plan changes something.
fn reads(plan: &LogicalPlan) -> Result<()> {
    match crate::session::only_reads(plan)? {
        true => Ok(()),
        false => Err(SinewError::Request {
            what: "a plan that writes cannot be sent".into(),
            hint: "send the statement as SQL: CREATE TABLE t AS SELECT .., INSERT INTO t SELECT .., COPY (..) TO .."
                .into(),
        }),
    }
}
