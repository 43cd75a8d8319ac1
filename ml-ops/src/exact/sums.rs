//! A vector of exact sums: the payload of every partial result.

use serde::{Deserialize, Serialize};

use super::Grid;
use crate::error::{MlError, Result};

/// Exact sums, each on a grid of its own. Merging is associative and commutative to the last bit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    grids: Vec<Grid>,
    counts: Vec<i128>,
}

impl Sums {
    /// Sums that are all zero.
    pub fn zero(grids: Vec<Grid>) -> Self {
        let counts = vec![0; grids.len()];
        Self { grids, counts }
    }

    /// How many sums there are.
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether there is no sum at all.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The grid of sum `i`.
    #[inline]
    pub fn grid(&self, i: usize) -> Grid {
        self.grids[i]
    }

    /// All grids.
    pub fn grids(&self) -> &[Grid] {
        &self.grids
    }

    /// The counts of units, for kernels that add many at once.
    pub fn counts_mut(&mut self) -> &mut [i128] {
        &mut self.counts
    }

    /// Adds the term `a * b` to sum `i`.
    #[inline]
    pub fn add(&mut self, i: usize, a: f64, b: f64) {
        self.counts[i] += i128::from(self.grids[i].quantize(a, b));
    }

    /// Sum `i` as a double, rounded once.
    pub fn value(&self, i: usize) -> f64 {
        self.grids[i].value(self.counts[i])
    }

    /// All sums as doubles.
    pub fn values(&self) -> Vec<f64> {
        (0..self.len()).map(|i| self.value(i)).collect()
    }

    /// Adds the sums of `other`, which must be on the same grids.
    ///
    /// # Errors
    /// When the grids differ: the two belong to different steps.
    pub fn merge(&mut self, other: &Sums) -> Result<()> {
        if self.grids != other.grids {
            return Err(MlError::Internal("merged sums of two different steps".into()));
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        Ok(())
    }
}
