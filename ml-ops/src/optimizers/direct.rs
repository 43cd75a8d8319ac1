//! Least squares in one step: the objective is a quadratic, known completely after one pass.

use serde::{Deserialize, Serialize};

use super::{l1_value, load, proximal, save, subgradient, usable};
use crate::error::{MlError, Result};
use crate::linalg::{Cholesky, Symmetric, add_scaled, dot, max_norm};
use crate::objective::{Evaluation, Want};
use crate::optimizer::{Ask, Iteration, Optimizer, Outcome};

/// Solves the normal equations, giving the shortest solution when there are many; under L1, coordinate
/// descent on the cross products down to rounding.
///
/// Cross products in single precision give a solution that is off by their rounding; the gradient there is known better, and
/// takes most of it back.
#[derive(Debug)]
pub struct NormalEquations {
    l1: Vec<f64>,
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    at: Vec<f64>,
    /// The cross products, while the gradient at their solution is waited for.
    matrix: Option<Symmetric>,
    done: bool,
}

impl NormalEquations {
    /// Starts from `start`; `l1` may be empty.
    pub fn new(start: Vec<f64>, l1: &[f64]) -> Self {
        let l1 = if l1.iter().any(|&l| l > 0.0) { l1.to_vec() } else { Vec::new() };
        Self { l1, state: State { at: start, matrix: None, done: false } }
    }

    /// The minimum of the quadratic with this gradient at `start`.
    fn minimum(&self, start: &[f64], gradient: &[f64], matrix: &Symmetric) -> Vec<f64> {
        if !self.l1.is_empty() {
            let scale = max_norm(gradient).max(max_norm(&self.l1));
            return proximal::minimise(start, gradient, matrix, &self.l1, 1e-15 * scale);
        }
        let factor = Cholesky::semidefinite(matrix);
        let mut step: Vec<f64> = factor.solve(gradient).iter().map(|s| -s).collect();
        // One round of refinement takes back most of the rounding of the factor.
        let rest: Vec<f64> = matrix.times(&step).iter().zip(gradient).map(|(a, g)| a + g).collect();
        add_scaled(&mut step, -1.0, &factor.solve(&rest));
        start.iter().zip(&step).map(|(a, s)| a + s).collect()
    }
}

impl Optimizer for NormalEquations {
    fn ask(&mut self) -> Ask {
        let at = self.state.at.clone();
        if self.state.done {
            return Ask::Done(Outcome { at, iterations: 1, converged: true, reason: "solved directly" });
        }
        Ask::Evaluate { at, want: if self.state.matrix.is_some() { Want::Gradient } else { Want::Curvature } }
    }

    fn tell(&mut self, evaluation: Evaluation) -> Result<Option<Iteration>> {
        usable(evaluation.value, &evaluation.gradient)?;
        let known = self.state.matrix.take();
        let refined = known.is_some();
        let taken = || evaluation.curvature.map(|metric| metric.matrix);
        let matrix = known.or_else(taken).ok_or_else(|| MlError::Internal("curvature was not answered".into()))?;
        let (start, gradient) = (&self.state.at, &evaluation.gradient);
        let at = self.minimum(start, gradient, &matrix);
        if evaluation.single && !refined {
            usable(evaluation.value, &at)?;
            self.state = State { at, matrix: Some(matrix), done: false };
            return Ok(None);
        }
        let step: Vec<f64> = at.iter().zip(start).map(|(n, o)| n - o).collect();
        let image = matrix.times(&step);
        let slope: Vec<f64> = image.iter().zip(gradient).map(|(b, g)| b + g).collect();
        let value = evaluation.value + dot(gradient, &step) + dot(&image, &step) / 2.0;
        let gradient_norm = max_norm(&subgradient(&at, &slope, &self.l1));
        let objective = value.max(0.0) + l1_value(&at, &self.l1);
        usable(objective, &at)?;
        self.state = State { at, matrix: None, done: true };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::Metric;

    #[test]
    fn the_rounding_of_cross_products_is_taken_back() {
        // Minimises half of (x - t) A (x - t), with A known to six digits and the gradient to all.
        let (truth, exact) = ([3.0, -2.0], [[1.0, 0.9], [0.9, 1.0]]);
        let mut known = Symmetric::zero(2);
        for (i, j) in [(0, 0), (0, 1), (1, 1)] {
            known.set(i, j, exact[i][j] + 1e-6 * (1 + i + 2 * j) as f64);
        }
        for (single, passes, near) in [(false, 1, 1e-4), (true, 2, 1e-9)] {
            let mut solver = NormalEquations::new(vec![0.0; 2], &[]);
            let mut asked = 0;
            let outcome = loop {
                let at = match solver.ask() {
                    Ask::Done(outcome) => break outcome,
                    Ask::Evaluate { at, .. } => at,
                };
                asked += 1;
                let off = [at[0] - truth[0], at[1] - truth[1]];
                let gradient: Vec<f64> = exact.iter().map(|row| dot(row, &off)).collect();
                let value = dot(&gradient, &off) / 2.0;
                let curvature = (asked == 1).then(|| Metric { matrix: known.clone(), repeat: 1, exact: true });
                assert!(solver.tell(Evaluation { value, gradient, curvature, single, ..Default::default() }).is_ok());
            };
            let error = outcome.at.iter().zip(truth).fold(0f64, |most, (x, t)| most.max((x - t).abs()));
            assert!(asked == passes && error < near && (single || error > 1e-7), "{asked} {error}");
        }
    }
}
