//! What the families minimise: each objective turns a point into a fold and merged sums into derivatives.

mod clusters;
mod curvature;
mod glm;
mod least_squares;
mod network;
mod scaling;
mod softmax;

pub use clusters::Clusters;
pub(crate) use clusters::coordinates as cluster_coordinates;
pub use glm::Glm;
pub use least_squares::LeastSquares;
pub use network::{Lessons, NetworkLoss};
pub(crate) use scaling::is_constant;
pub use scaling::{Deviation, Scaling};
pub use softmax::Softmax;

use crate::error::{MlError, Result};
use crate::fold::Sample;
use crate::objective::Want;
use crate::partial::Partial;

/// The part of the rows that an evaluation counts.
fn sample_of(want: Want, scaling: &Scaling) -> Option<Sample> {
    match want {
        Want::Sample => scaling.sample(),
        Want::Batch { fraction, salt } if fraction < 1.0 => Some(Sample::fraction(fraction, salt)),
        _ => None,
    }
}

/// The sum of weights of a partial, which must be positive.
fn counted(partial: &Partial) -> Result<f64> {
    let weight = partial.weight();
    if partial.rows == 0 || weight <= 0.0 {
        return Err(MlError::Data {
            reason: "no training row has a positive weight; look at the WEIGHT BY column, the SPLIT clause and \
                     mini_batch_fraction"
                .into(),
        });
    }
    Ok(weight)
}

/// The sums of a partial, all finite.
fn finite(partial: &Partial) -> Result<Vec<f64>> {
    let sums = partial.sums.values();
    if sums.iter().all(|v| v.is_finite()) {
        return Ok(sums);
    }
    Err(MlError::Numeric { reason: "a sum left the range of double precision; scale the columns down".into() })
}
