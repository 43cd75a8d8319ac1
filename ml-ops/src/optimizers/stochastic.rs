//! Fixed-length steps over mini-batches: stochastic gradient descent and Adam.

use serde::{Deserialize, Serialize};

use super::generator::Generator;
use super::{MAX_ITER, SMALL_GRADIENT, Stopping, is_small, l1_value, load, save, soft_threshold, subgradient, usable};
use crate::error::{MlError, Result};
use crate::linalg::max_norm;
use crate::objective::{Evaluation, Want};
use crate::optimizer::{Ask, Iteration, Optimizer, Outcome};

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `x -= rate / sqrt(t) * g` at step t = 1, 2, ..
    Sgd,
    /// Kingma and Ba, *Adam*, 2015: `x -= rate * m / (sqrt(v) + 1e-8)`, decay rates 0.9 and 0.999.
    Adam,
}

/// Steps of [`Rule`] over mini-batches; L1 by the proximal operator of each step.
///
/// With the whole data as batch it stops by the rule of [`Stopping`]; with mini-batches, whose gradients
/// are noise near the optimum, after `max_iter` steps and a last evaluation over all rows.
#[derive(Debug)]
pub struct Stochastic {
    rule: Rule,
    rate: f64,
    fraction: f64,
    stopping: Stopping,
    l1: Vec<f64>,
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    at: Vec<f64>,
    /// Of the gradients, and of their squares (Adam).
    mean: Vec<f64>,
    square: Vec<f64>,
    iterations: u32,
    salts: Generator,
    salt: u64,
    done: bool,
    converged: bool,
}

impl Stochastic {
    /// Starts from `start`; `l1` may be empty; `fraction` of the rows (0 to 1) make a batch.
    pub fn new(
        rule: Rule,
        start: Vec<f64>,
        l1: &[f64],
        rate: f64,
        fraction: f64,
        stopping: Stopping,
        seed: u64,
    ) -> Self {
        let mut salts = Generator::new(seed);
        let salt = salts.bits();
        let state = State {
            mean: vec![0.0; start.len()],
            square: vec![0.0; start.len()],
            at: start,
            iterations: 0,
            salts,
            salt,
            done: false,
            converged: false,
        };
        Self { rule, rate, fraction, stopping, l1: l1.to_vec(), state }
    }

    /// Whether the next evaluation is over all rows.
    fn is_full(&self) -> bool {
        self.fraction >= 1.0 || self.state.iterations >= self.stopping.max_iter
    }

    fn step(&mut self, gradient: &[f64]) -> f64 {
        let state = &mut self.state;
        state.iterations += 1;
        let t = f64::from(state.iterations);
        let rate = match self.rule {
            Rule::Sgd => self.rate / t.sqrt(),
            Rule::Adam => self.rate,
        };
        let (unbias_mean, unbias_square) = (1.0 - libm::pow(0.9, t), 1.0 - libm::pow(0.999, t));
        for (j, &g) in gradient.iter().enumerate() {
            let (length, by) = match self.rule {
                Rule::Sgd => (rate, g),
                Rule::Adam => {
                    state.mean[j] = 0.9 * state.mean[j] + 0.1 * g;
                    state.square[j] = 0.999 * state.square[j] + 0.001 * g * g;
                    (rate / ((state.square[j] / unbias_square).sqrt() + 1e-8), state.mean[j] / unbias_mean)
                }
            };
            let l1 = self.l1.get(j).copied().unwrap_or(0.0);
            // A coordinate that has never had a gradient has no reason to move.
            if by != 0.0 || l1 > 0.0 {
                state.at[j] = soft_threshold(state.at[j] - length * by, length * l1);
            }
        }
        state.salt = state.salts.bits();
        rate
    }
}

impl Optimizer for Stochastic {
    fn ask(&mut self) -> Ask {
        let at = self.state.at.clone();
        if self.state.done {
            let (iterations, converged) = (self.state.iterations, self.state.converged);
            return Ask::Done(Outcome {
                at,
                iterations,
                converged,
                reason: if converged { SMALL_GRADIENT } else { MAX_ITER },
            });
        }
        let batch = Want::Batch { fraction: self.fraction, salt: self.state.salt };
        Ask::Evaluate { at, want: if self.is_full() { Want::Gradient } else { batch } }
    }

    fn tell(&mut self, evaluation: Evaluation) -> Result<Option<Iteration>> {
        if self.state.done {
            return Err(MlError::Internal("an optimizer that has ended was told more".into()));
        }
        usable(evaluation.value, &evaluation.gradient)?;
        let objective = evaluation.value + l1_value(&self.state.at, &self.l1);
        let gradient_norm = max_norm(&subgradient(&self.state.at, &evaluation.gradient, &self.l1));
        let (number, mut learning_rate) = (self.state.iterations, self.rate);
        if self.is_full() && is_small(gradient_norm, objective, self.stopping.tol) {
            (self.state.done, self.state.converged) = (true, true);
        } else if number >= self.stopping.max_iter {
            self.state.done = true;
        } else {
            learning_rate = self.step(&evaluation.gradient);
        }
        let (eval_loss, rows) = (evaluation.eval_loss, evaluation.rows);
        Ok(Some(Iteration { number, objective, gradient_norm, learning_rate, eval_loss, rows }))
    }

    fn state(&self) -> Vec<u8> {
        save(&self.state)
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.state = load(state)?;
        Ok(())
    }
}
