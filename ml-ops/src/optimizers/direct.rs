//! Least squares in one step: the objective is a quadratic, known completely after one pass.

use serde::{Deserialize, Serialize};

use super::{l1_value, load, proximal, save, subgradient, usable};
use crate::error::{MlError, Result};
use crate::linalg::{Cholesky, add_scaled, dot, max_norm};
use crate::objective::{Evaluation, Want};
use crate::optimizer::{Ask, Iteration, Optimizer, Outcome};

/// Solves the normal equations, giving the shortest solution when there are many; under L1, coordinate
/// descent on the cross products down to rounding.
#[derive(Debug)]
pub struct NormalEquations {
    l1: Vec<f64>,
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    at: Vec<f64>,
    done: bool,
}

impl NormalEquations {
    /// Starts from `start`; `l1` may be empty.
    pub fn new(start: Vec<f64>, l1: &[f64]) -> Self {
        let l1 = if l1.iter().any(|&l| l > 0.0) { l1.to_vec() } else { Vec::new() };
        Self { l1, state: State { at: start, done: false } }
    }
}

impl Optimizer for NormalEquations {
    fn ask(&mut self) -> Ask {
        let at = self.state.at.clone();
        if self.state.done {
            return Ask::Done(Outcome { at, iterations: 1, converged: true, reason: "solved directly" });
        }
        Ask::Evaluate { at, want: Want::Curvature }
    }

    fn tell(&mut self, evaluation: Evaluation) -> Result<Option<Iteration>> {
        usable(evaluation.value, &evaluation.gradient)?;
        let metric = evaluation.curvature.ok_or_else(|| MlError::Internal("curvature was not answered".into()))?;
        let (start, gradient, matrix) = (&self.state.at, &evaluation.gradient, &metric.matrix);
        let at = if self.l1.is_empty() {
            let factor = Cholesky::semidefinite(matrix);
            let mut step: Vec<f64> = factor.solve(gradient).iter().map(|s| -s).collect();
            // One round of refinement takes back most of the rounding of the factor.
            let rest: Vec<f64> = matrix.times(&step).iter().zip(gradient).map(|(a, g)| a + g).collect();
            add_scaled(&mut step, -1.0, &factor.solve(&rest));
            start.iter().zip(&step).map(|(a, s)| a + s).collect()
        } else {
            let scale = max_norm(gradient).max(max_norm(&self.l1));
            proximal::minimise(start, gradient, matrix, &self.l1, 1e-15 * scale)
        };
        let step: Vec<f64> = at.iter().zip(start).map(|(n, o)| n - o).collect();
        let image = matrix.times(&step);
        let slope: Vec<f64> = image.iter().zip(gradient).map(|(b, g)| b + g).collect();
        let value = evaluation.value + dot(gradient, &step) + dot(&image, &step) / 2.0;
        let gradient_norm = max_norm(&subgradient(&at, &slope, &self.l1));
        let objective = value.max(0.0) + l1_value(&at, &self.l1);
        usable(objective, &at)?;
        self.state = State { at, done: true };
        let rows = evaluation.rows;
        Ok(Some(Iteration { number: 1, objective, gradient_norm, learning_rate: 1.0, eval_loss: None, rows }))
    }

    fn state(&self) -> Vec<u8> {
        save(&self.state)
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.state = load(state)?;
        Ok(())
    }
}
