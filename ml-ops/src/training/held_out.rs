//! Metrics over the held-out rows.

use crate::error::Result;
use crate::family::Task;
use crate::params::Params;
use crate::partial::Gathered;

/// The task's metrics from gathered `[y, w, score, ..]` rows.
pub fn metrics(_task: Task, _classes: usize, _params: &Params, _rows: &Gathered) -> Result<Vec<(String, Option<f64>)>> {
    Ok(Vec::new())
}
