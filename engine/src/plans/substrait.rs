//! Plans in Substrait.

use datafusion::logical_expr::LogicalPlan;
use datafusion_substrait::logical_plan::consumer::from_substrait_plan;
use datafusion_substrait::serializer::deserialize_bytes;

use crate::error::{Result, SinewError};
use crate::session::Session;

/// The plan in the bytes of a `substrait.Plan`; its tables are those of the session.
///
/// # Errors
/// When it cannot be read, or names a table that is not there.
pub async fn read(session: &Session, bytes: &[u8]) -> Result<LogicalPlan> {
    let plan = deserialize_bytes(bytes).map_err(|e| SinewError::Request {
        what: format!("the plan cannot be read as Substrait: {}", e.strip_backtrace()),
        hint: "send the bytes of a substrait.Plan".into(),
    })?;
    let read = from_substrait_plan(&session.context().state(), &plan).await;
    read.map_err(|e| match e.strip_backtrace() {
        // As SQL says it.
        text if text.contains("No table named") => {
            let text = text.replace("No table named", "table").trim_end_matches('.').to_string() + " not found";
            datafusion::error::DataFusionError::Plan(text.replace("Error during planning: ", "")).into()
        }
        _ => e.into(),
    })
}
