//! What a family minimises: the sums one step needs, and what they say.

use std::fmt::Debug;

use crate::error::Result;
use crate::fold::Fold;
use crate::linalg::{Cholesky, Symmetric};
use crate::network::Rule;
use crate::partial::Partial;

/// What an optimizer wants to know at a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Want {
    /// Loss and gradient.
    Gradient,
    /// Loss and gradient over a pseudo-random fraction of the rows; the salt makes batches differ.
    Batch {
        /// Fraction of the rows, 0 to 1.
        fraction: f64,
        /// Makes batches differ.
        salt: u64,
    },
    /// Loss and gradient over the fixed sample of the rows that [`Self::Curvature`] uses.
    Sample,
    /// Loss alone.
    Loss,
    /// Where some steps over mini-batches lead, taken in every virtual shard from this point, which has what the
    /// rule remembers behind the parameters (networks only).
    Steps {
        /// How gradients become steps.
        rule: Rule,
        /// Step length.
        rate: f64,
        /// Steps taken before.
        first: u64,
        /// Steps to take.
        count: u32,
        /// Whether the held-out loss of this point is wanted too.
        held: bool,
    },
    /// A positive semi-definite matrix of curvature, exact or over a fixed sample of the rows,
    /// as the objective chooses by its shape.
    Curvature,
    /// Rows that could be centres (clustering only), as [`crate::fold::Kernel::Candidates`] says.
    Candidates {
        /// Makes rounds differ.
        salt: u64,
        /// Expected rows for each unit of cost.
        factor: f64,
        /// At most this many rows.
        keep: u32,
    },
}

/// An objective at a point: the penalised, weight-averaged loss and its derivatives.
/// L1 is not in it (see [`Penalty::l1`]); L2 is.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// The smooth part of the objective, or `NaN` when only curvature was wanted.
    pub value: f64,
    /// Its gradient; empty when only curvature was wanted.
    pub gradient: Vec<f64>,
    /// Curvature, when it was wanted.
    pub curvature: Option<Metric>,
    /// Mean loss over the held-out rows, unpenalised.
    pub eval_loss: Option<f64>,
    /// Rows counted.
    pub rows: u64,
    /// Sum of their weights.
    pub weight: f64,
    /// The weighted mean of the points that steps led to, when they were wanted; `gradient_norm` is then the
    /// largest entry of a shard's last gradient.
    pub moved: Vec<f64>,
    /// See `moved`.
    pub gradient_norm: f64,
    /// Candidate rows, when they were wanted.
    pub gathered: Vec<Vec<f64>>,
    /// Whether the sums are those of single precision, as a GPU has them, rather than exact.
    pub single: bool,
}

/// Curvature that comes with the gradient is solved with, so an error of its sums counts over this, twice refined.
const SOLVABLE: f64 = 1e-4;
/// Other curvature only leads the way; below this, relatively, a direction may curve for the rounding of its sums.
const LEADS: f64 = 1e-5;

impl Evaluation {
    /// Whether a direction curves so little that sums in single precision do not say how much.
    pub fn is_doubtful(&self) -> bool {
        let floor = if self.gradient.is_empty() { LEADS } else { SOLVABLE };
        self.curvature.as_ref().is_some_and(|metric| !Cholesky::is_curved(&metric.matrix, floor))
    }
}

/// Curvature as an optimizer can use it: the matrix of one block of coordinates, repeated
/// `repeat` times along the diagonal (softmax: once for each class).
#[derive(Clone, Debug)]
pub struct Metric {
    /// `[d, d]` with `d * repeat` the number of parameters.
    pub matrix: Symmetric,
    /// How often it repeats.
    pub repeat: usize,
    /// Whether it is the exact Hessian at the point (a full Newton step is then exact to second order).
    pub exact: bool,
}

/// `sum l1_j |b_j| + 1/2 sum l2_j b_j^2` in the coordinates of the parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Penalty {
    /// `[d]`; zero for what is not penalised (the intercept).
    pub l1: Vec<f64>,
    /// `[d]`.
    pub l2: Vec<f64>,
}

impl Penalty {
    /// Whether any coordinate has an L1 penalty.
    pub fn has_l1(&self) -> bool {
        self.l1.iter().any(|&l| l > 0.0)
    }

    /// The non-smooth part at `at`.
    pub fn l1_value(&self, at: &[f64]) -> f64 {
        self.l1.iter().zip(at).map(|(l, b)| l * b.abs()).sum()
    }
}

/// The sums one block of rows contributes to one step, and what the merged sums mean.
///
/// Points are vectors of the objective's own coordinates (standardised, for linear models); only the
/// objective knows how they map to the columns. It sees merged sums, never rows.
pub trait Objective: Debug + Send + Sync {
    /// Where the optimizer starts. Its length is the number of parameters.
    fn start(&self) -> Vec<f64>;

    /// The penalty, in the coordinates of the parameters.
    fn penalty(&self) -> &Penalty;

    /// Rows of the sample behind [`Want::Sample`], when that is a small part of all rows.
    fn sample_rows(&self) -> Option<u64> {
        None
    }

    /// The pass over the rows that answers `want` at the point `at`.
    ///
    /// # Errors
    /// When the point leaves the range of double precision.
    fn fold(&self, at: &[f64], want: Want) -> Result<Fold>;

    /// What the merged sums of that pass say. The L2 penalty is added here.
    ///
    /// # Errors
    /// When no row counted, or a sum is not finite.
    fn read(&self, at: &[f64], want: Want, partial: &Partial) -> Result<Evaluation>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curvature_near_rounding_is_doubtful() {
        let doubtful = |correlation: f64, gradient: Vec<f64>| {
            let mut matrix = Symmetric::zero(2);
            // A coordinate in other units, and one that is steep, change nothing.
            [(0, 0, 1e8), (0, 1, 1e2 * correlation), (1, 1, 1e-4)]
                .into_iter()
                .for_each(|(i, j, v)| matrix.set(i, j, v));
            let curvature = Some(Metric { matrix, repeat: 1, exact: true });
            Evaluation { curvature, gradient, ..Evaluation::default() }.is_doubtful()
        };
        for (rest, leads, solves) in [(1e-3, false, false), (5e-5, false, true), (1e-6, true, true)] {
            let correlation = (1f64 - rest).sqrt();
            assert_eq!(doubtful(correlation, Vec::new()), leads, "{rest}");
            assert_eq!(doubtful(correlation, vec![0.0; 2]), solves, "{rest}");
        }
        assert!(!Evaluation::default().is_doubtful());
    }
}
