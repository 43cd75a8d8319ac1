//! Scoring as an operator: functions of models, computed on a device.
//!
//! ```text
//!  PREDICT(m, ..) in a projection, a filter, an aggregate or a window
//!    LiftScores    optimizer rule   the calls leave their expressions ..
//!    ScoreNode     logical          .. and become columns beside those of the input, one node for a model and its arguments
//!    ScorePlanner  planner          which device, as EXPLAIN shows it
//!    ScoreExec     physical         batches -> blocks -> Backend::score -> results
//! ```
//! Calls elsewhere (joins, sorts, constants), and those in the query of a training, stay functions on the CPU.

mod exec;
mod lift;
mod node;
mod planner;
#[cfg(test)]
mod tests;

pub use exec::ScoreExec;
pub use lift::LiftScores;
pub use node::ScoreNode;
pub use planner::ScorePlanner;

use serde::{Deserialize, Serialize};

use crate::device::{Device, Work};

/// Where rows are to be scored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScorePlace {
    /// The device that is asked for.
    pub device: Device,
    /// Whether it is an error that there is none; else the CPU does it.
    pub firm: bool,
    /// What decides `auto`.
    pub work: Work,
}
