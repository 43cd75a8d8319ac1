//! The last few steps and what they did to the gradient: limited-memory BFGS.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::linalg::{Cholesky, add_scaled, dot};

/// Pairs remembered.
const MEMORY: usize = 10;

/// A metric to start from: the factor of one block, repeated along the diagonal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Preconditioner {
    pub factor: Cholesky,
    /// Coordinates of a block.
    pub width: usize,
}

impl Preconditioner {
    fn solve(&self, x: &[f64]) -> Vec<f64> {
        x.chunks(self.width.max(1)).flat_map(|block| self.factor.solve(block)).collect()
    }
}

/// Steps `s` and gradient differences `y` (Nocedal, *Updating Quasi-Newton Matrices with Limited
/// Storage*, 1980).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    pairs: VecDeque<(Vec<f64>, Vec<f64>)>,
}

impl Memory {
    pub fn clear(&mut self) {
        self.pairs.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Remembers a step, unless the objective does not curve along it.
    pub fn push(&mut self, step: Vec<f64>, change: Vec<f64>) {
        let curvature = dot(&step, &change);
        if curvature > 1e-14 * (dot(&step, &step) * dot(&change, &change)).sqrt() {
            if self.pairs.len() == MEMORY {
                self.pairs.pop_front();
            }
            self.pairs.push_back((step, change));
        }
    }

    /// `-H gradient`. The metric H starts from is `base`, or the identity; unless it is `exact`
    /// it is scaled to fit the last step.
    pub fn direction(&self, gradient: &[f64], base: Option<&Preconditioner>, exact: bool) -> Vec<f64> {
        let mut q = gradient.to_vec();
        let mut weights = Vec::with_capacity(self.pairs.len());
        for (s, y) in self.pairs.iter().rev() {
            let alpha = dot(s, &q) / dot(s, y);
            add_scaled(&mut q, -alpha, y);
            weights.push(alpha);
        }
        let solve = |x: &[f64]| base.map_or_else(|| x.to_vec(), |base| base.solve(x));
        let mut r = solve(&q);
        if let Some((s, y)) = self.pairs.back().filter(|_| !exact) {
            let scale = dot(s, y) / dot(y, &solve(y));
            if scale.is_finite() && scale > 0.0 {
                r.iter_mut().for_each(|v| *v *= scale);
            }
        }
        for ((s, y), alpha) in self.pairs.iter().zip(weights.iter().rev()) {
            let beta = dot(y, &r) / dot(s, y);
            add_scaled(&mut r, alpha - beta, s);
        }
        r.iter_mut().for_each(|v| *v = -*v);
        r
    }
}
