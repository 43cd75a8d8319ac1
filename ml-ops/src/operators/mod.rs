//! The physical operators of a training, and how they travel.
//!
//! ```text
//!  TrainExec           the loop; in the process that hosts the session
//!    MergeExec         only where partials are large: merges them before the driver reads them
//!    GradientExec      one pass: every block of rows -> one partial for each partition
//!      FeatureCacheExec  rows read once, kept as blocks, prepared once
//!        the query's physical plan
//! ```
//! Models in queries have operators of their own: [`score`].

pub mod codec;
mod feature_cache;
mod gradient;
mod local;
mod merge;
pub mod parcel;
mod planner;
pub mod score;
mod shard;
mod sources;
mod spent;
mod train;
mod train_node;
mod unit_reader;
pub mod units;

pub use codec::SinewPhysicalCodec;
pub use feature_cache::{FeatureCacheExec, Rows, Stage};
pub use gradient::{GradientExec, JOINED, Pass, Placement, covered, ran, results};
pub use local::Local;
pub use merge::MergeExec;
pub use parcel::Parcel;
pub use planner::TrainPlanner;
pub use score::{LiftScores, ScoreExec, ScoreNode, ScorePlace, ScorePlanner};
pub use shard::ShardExec;
pub use sources::Sources;
pub use spent::{DeviceCounts, Spent, spent};
pub use train::TrainExec;
pub use train_node::TrainNode;

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::{Partitioning, PlanProperties};

/// The properties of an operator whose partitions are nothing but a number.
fn properties(schema: SchemaRef, partitions: usize, emission: EmissionType) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        Partitioning::UnknownPartitioning(partitions),
        emission,
        Boundedness::Bounded,
    ))
}

/// The one child an operator has.
///
/// # Errors
/// When there is none, or more than one.
pub fn only_child(
    name: &str,
    mut children: Vec<Arc<dyn datafusion::physical_plan::ExecutionPlan>>,
) -> datafusion::error::Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
    match (children.pop(), children.is_empty()) {
        (Some(child), true) => Ok(child),
        _ => Err(crate::error::MlError::Internal(format!("{name} has one child")).into()),
    }
}
