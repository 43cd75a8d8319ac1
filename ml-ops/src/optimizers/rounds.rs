//! Rounds of steps over mini-batches: every virtual shard takes some from the same point, and the next round
//! begins at the mean of where they came to, what the rule remembers included.
//!
//! ```text
//!  loss at the start
//!  epoch:  [ steps in every shard -> mean ]*       the first round also measures the held-out rows
//!  loss of the last point
//! ```
//! With one shard, or one step in a round of plain SGD, this is mini-batch descent itself; in between it is
//! local SGD (Stich, *Local SGD Converges Fast and Communicates Little*, 2019). Without mini-batches each
//! iteration is one step along the gradient of all rows.

use serde::{Deserialize, Serialize};

use super::{MAX_ITER, load, save};
use crate::error::{MlError, Result};
use crate::linalg::max_norm;
use crate::network::{Layer, Rule};
use crate::objective::{Evaluation, Want};
use crate::optimizer::{Ask, Iteration, Optimizer, Outcome};

/// Step lengths over the epochs of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// The same throughout.
    Constant,
    /// `rate / sqrt(1 + epoch)`.
    InverseScaling,
    /// `rate (1 + cos(pi epoch / epochs)) / 2` (Loshchilov and Hutter, *SGDR*, 2017, without restarts).
    Cosine,
    /// A tenth of it from half of the epochs on, a hundredth from three quarters on.
    Step,
}

/// The steps of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// How gradients become steps.
    pub rule: Rule,
    /// Step length.
    pub rate: f64,
    /// How it changes.
    pub schedule: Schedule,
    /// Epochs, at most.
    pub epochs: u32,
    /// Steps of an epoch; 0 for one step along the gradient of all rows.
    pub per_epoch: u32,
    /// Steps of a round, at most.
    pub per_round: u32,
}

/// When a run ends before its last epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// Epochs in a row that may bring no progress; `None` to go through all epochs.
    pub epochs: Option<u32>,
    /// What the loss must fall by to count as progress.
    pub tol: f64,
}

/// Why a run ended: no progress.
const STALLED: &str = "the loss has not fallen by tol for n_iter_no_change epochs";

/// Why a run ended: it was to go through all epochs.
const ALL_EPOCHS: &str = "all max_iter epochs were run";

/// See the module.
#[derive(Debug)]
pub struct Rounds {
    pace: Pace,
    patience: Patience,
    /// The number of parameters.
    count: usize,
    layers: Vec<Layer>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    Start,
    Round,
    Last,
    Done,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    phase: Phase,
    /// Parameters, then what the rule remembers.
    at: Vec<f64>,
    /// Steps taken.
    steps: u64,
    /// Of the epoch under way: loss and weight of the rows that steps were taken over.
    loss: f64,
    weight: f64,
    /// Of the last gradient.
    norm: f64,
    /// Rows of an epoch.
    rows: u64,
    /// The least loss so far, where it was, and epochs since then.
    best: Option<f64>,
    best_at: Vec<f64>,
    stalled: u32,
    epochs: u32,
    converged: bool,
}

impl Rounds {
    /// Starts from the parameters `start` of these layers.
    pub fn new(start: Vec<f64>, layers: Vec<Layer>, pace: Pace, patience: Patience) -> Self {
        let count = start.len();
        let mut at = start;
        at.resize(count * (1 + pace.rule.memory()), 0.0);
        let state = State {
            phase: Phase::Start,
            at,
            steps: 0,
            loss: 0.0,
            weight: 0.0,
            norm: 0.0,
            rows: 0,
            best: None,
            best_at: Vec::new(),
            stalled: 0,
            epochs: 0,
            converged: false,
        };
        Self { pace, patience, count, layers, state }
    }

    fn per_epoch(&self) -> u64 {
        u64::from(self.pace.per_epoch.max(1))
    }

    /// The step length of an epoch, counted from 0.
    fn rate(&self, epoch: u64) -> f64 {
        let Pace { rate, schedule, epochs, .. } = self.pace;
        let epoch = epoch as f64;
        let part = epoch / f64::from(epochs.max(1));
        match schedule {
            Schedule::Constant => rate,
            Schedule::InverseScaling => rate / (1.0 + epoch).sqrt(),
            Schedule::Cosine => rate * (1.0 + libm::cos(std::f64::consts::PI * part)) / 2.0,
            Schedule::Step if part < 0.5 => rate,
            Schedule::Step if part < 0.75 => rate / 10.0,
            Schedule::Step => rate / 100.0,
        }
    }

    fn rate_now(&self) -> f64 {
        self.rate(self.state.steps / self.per_epoch())
    }

    /// Steps of the next round: it ends with its epoch.
    fn next_steps(&self) -> u32 {
        let left = self.per_epoch() - self.state.steps % self.per_epoch();
        self.pace.per_round.min(left as u32).max(1)
    }

    /// Whether the point is that of a whole number of epochs, and they were not reported yet.
    fn epoch_ended(&self) -> bool {
        self.state.steps / self.per_epoch() > u64::from(self.state.epochs)
    }

    /// Ends an epoch whose point has this held-out loss; what is reported of it.
    fn end_epoch(&mut self, eval_loss: Option<f64>) -> Iteration {
        let patience = self.patience;
        let learning_rate = self.rate(u64::from(self.state.epochs));
        let state = &mut self.state;
        state.epochs += 1;
        let objective = if state.weight > 0.0 { state.loss / state.weight } else { 0.0 };
        (state.loss, state.weight) = (0.0, 0.0);
        let watched = eval_loss.unwrap_or(objective);
        if state.best.is_none_or(|best| watched < best - patience.tol) {
            state.stalled = 0;
        } else {
            state.stalled += 1;
        }
        if state.best.is_none_or(|best| watched < best) {
            state.best = Some(watched);
            if eval_loss.is_some() && patience.epochs.is_some() {
                state.best_at = state.at[..self.count].to_vec();
            }
        }
        Iteration {
            number: state.epochs,
            objective,
            gradient_norm: state.norm,
            learning_rate,
            eval_loss,
            rows: state.rows,
        }
    }

    fn stalled(&self) -> bool {
        self.patience.epochs.is_some_and(|epochs| self.state.stalled >= epochs)
    }

    fn end(&mut self, converged: bool) {
        let state = &mut self.state;
        (state.phase, state.converged) = (Phase::Done, converged);
        if !state.best_at.is_empty() {
            state.at[..self.count].copy_from_slice(&state.best_at);
        }
    }

    /// A step along the gradient of all rows.
    fn step(&mut self, gradient: &[f64]) {
        let pace = (self.rate_now(), self.state.steps + 1);
        let (at, memory) = self.state.at.split_at_mut(self.count);
        let (first, second) = memory.split_at_mut(memory.len().min(self.count));
        for layer in &self.layers {
            for (piece, weights) in [(layer.weights.clone(), true), (layer.biases.clone(), false)] {
                let remembered =
                    [&mut *first, &mut *second].map(|m| if m.is_empty() { m } else { &mut m[piece.clone()] });
                self.pace.rule.step(pace, weights, &mut at[piece.clone()], &gradient[piece], remembered);
            }
        }
        self.state.steps += 1;
        self.state.norm = max_norm(gradient);
    }
}

fn usable(value: f64) -> Result<()> {
    if value.is_finite() {
        return Ok(());
    }
    Err(MlError::Numeric {
        reason: format!("the loss became {value}; use a smaller learn_rate, a larger reg_param, or solver = 'lbfgs'"),
    })
}

impl Optimizer for Rounds {
    fn ask(&mut self) -> Ask {
        let state = &self.state;
        let parameters = || state.at[..self.count].to_vec();
        let whole = self.pace.per_epoch == 0;
        match state.phase {
            Phase::Round if whole => Ask::Evaluate { at: parameters(), want: Want::Gradient },
            Phase::Round => Ask::Evaluate {
                at: state.at.clone(),
                want: Want::Steps {
                    rule: self.pace.rule,
                    rate: self.rate_now(),
                    first: state.steps,
                    count: self.next_steps(),
                    held: self.epoch_ended(),
                },
            },
            Phase::Start | Phase::Last => Ask::Evaluate { at: parameters(), want: Want::Loss },
            Phase::Done => Ask::Done(Outcome {
                at: parameters(),
                iterations: state.epochs,
                converged: state.converged,
                reason: match (state.converged, self.patience.epochs) {
                    (true, Some(_)) => STALLED,
                    (true, None) => ALL_EPOCHS,
                    (false, _) => MAX_ITER,
                },
            }),
        }
    }

    fn tell(&mut self, evaluation: Evaluation) -> Result<Option<Iteration>> {
        let numbers = evaluation.moved.iter().chain(&evaluation.gradient);
        usable(numbers.fold(evaluation.value, |seen, v| if v.is_finite() { seen } else { *v }))?;
        let (eval_loss, last) = (evaluation.eval_loss, u64::from(self.pace.epochs) * self.per_epoch());
        match self.state.phase {
            Phase::Done => Err(MlError::Internal("an optimizer that has ended was told more".into())),
            Phase::Start => {
                self.state.rows = evaluation.rows;
                self.state.phase = Phase::Round;
                if last == 0 {
                    self.end(false);
                }
                let (rows, objective, learning_rate) = (evaluation.rows, evaluation.value, self.rate(0));
                Ok(Some(Iteration { number: 0, objective, gradient_norm: 0.0, learning_rate, eval_loss, rows }))
            }
            Phase::Last => {
                if self.pace.per_epoch == 0 {
                    (self.state.loss, self.state.weight) = (evaluation.value, 1.0);
                }
                let iteration = self.end_epoch(eval_loss);
                self.end(self.stalled() || self.patience.epochs.is_none());
                Ok(Some(iteration))
            }
            Phase::Round => {
                let whole = self.pace.per_epoch == 0;
                if whole {
                    // A gradient comes with the loss of the point itself, which is that of the epoch before.
                    (self.state.loss, self.state.weight) = (evaluation.value, 1.0);
                }
                let iteration = self.epoch_ended().then(|| self.end_epoch(eval_loss));
                if self.stalled() {
                    self.end(true);
                    return Ok(iteration);
                }
                if whole {
                    self.step(&evaluation.gradient);
                } else {
                    let steps = self.next_steps();
                    let state = &mut self.state;
                    state.loss += evaluation.value * evaluation.weight;
                    state.weight += evaluation.weight;
                    state.norm = evaluation.gradient_norm;
                    state.at = evaluation.moved;
                    state.steps += u64::from(steps);
                }
                if self.state.steps >= last {
                    self.state.phase = Phase::Last;
                }
                Ok(iteration)
            }
        }
    }

    fn state(&self) -> Vec<u8> {
        save(&self.state)
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.state = load(state)?;
        Ok(())
    }
}
