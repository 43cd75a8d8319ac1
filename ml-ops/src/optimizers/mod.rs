//! How parameters move: second order, first order, direct, and by assignment.

mod descent;
mod direct;
mod generator;
mod lloyd;
mod memory;
mod proximal;
mod rounds;
mod stochastic;

pub use descent::{Descent, Method};
pub use direct::NormalEquations;
pub use lloyd::{Lloyd, Start};
pub use rounds::{Pace, Patience, Rounds, Schedule};
pub use stochastic::{Rule, Stochastic};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{MlError, Result};
use crate::linalg::max_norm;

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stopping {
    /// The gradient's max-norm is at most this times `max(1, |objective|)`.
    pub tol: f64,
    /// At most this many iterations.
    pub max_iter: u32,
}

/// Why a run ended: the stopping rule.
const SMALL_GRADIENT: &str = "the gradient is as small as tol asks";
/// Why a run ended: the limit.
const MAX_ITER: &str = "max_iter was reached";
/// Why a run ended: rounding.
const NO_PROGRESS: &str = "no step improves the objective in double precision";
/// Why a run ended: the rounding of a GPU.
const SINGLE_PROGRESS: &str = "no step improves the objective in the GPU's single precision";

/// The bytes of an optimizer's state.
fn save<T: Serialize>(state: &T) -> Vec<u8> {
    // Writing plain data to memory cannot fail; an empty state is refused by `load`.
    postcard::to_allocvec(state).unwrap_or_default()
}

/// Reads what [`save`] wrote.
fn load<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|e| MlError::Internal(format!("the bytes are no state of this optimizer: {e}")))
}

/// The smallest subgradient of `f + sum l1_j |x_j|` at `at`, coordinate by coordinate; the gradient
/// itself without L1.
fn subgradient(at: &[f64], gradient: &[f64], l1: &[f64]) -> Vec<f64> {
    let one = |((x, g), l): ((&f64, &f64), &f64)| {
        if *x > 0.0 {
            g + l
        } else if *x < 0.0 {
            g - l
        } else {
            soft_threshold(*g, *l)
        }
    };
    if l1.is_empty() { gradient.to_vec() } else { at.iter().zip(gradient).zip(l1).map(one).collect() }
}

/// `sign(x) max(|x| - by, 0)`.
fn soft_threshold(x: f64, by: f64) -> f64 {
    if x > by {
        x - by
    } else if x < -by {
        x + by
    } else {
        0.0
    }
}

/// `sum l1_j |x_j|`.
fn l1_value(at: &[f64], l1: &[f64]) -> f64 {
    l1.iter().zip(at).map(|(l, x)| l * x.abs()).sum()
}

/// Whether a gradient meets the stopping rule.
fn is_small(norm: f64, objective: f64, tol: f64) -> bool {
    norm <= tol * objective.abs().max(1.0)
}

/// Checks that an evaluation can be used.
fn usable(value: f64, gradient: &[f64]) -> Result<()> {
    if value.is_finite() && max_norm(gradient).is_finite() {
        return Ok(());
    }
    Err(MlError::Numeric {
        reason: "the objective is not finite; use a smaller learning_rate, a larger reg_param, or solver = 'auto'"
            .into(),
    })
}
