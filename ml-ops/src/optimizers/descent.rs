//! Descent with a line search: Newton, L-BFGS, OWL-QN, proximal Newton and steepest descent are one
//! loop with different directions.
//!
//! ```text
//! gradient at the start -> [curvature] -> direction -> gradient at a trial point
//!                              ^              ^           | too far: a shorter step
//!                              | when it pays |           v
//!                              +--------------+------- accepted
//! ```
//! A pass over the rows is what costs. A trial point is evaluated with its gradient, so that an accepted
//! one needs no second pass; curvature is kept and improved by BFGS updates until taking it anew is
//! expected to save more passes than it costs.
//!
//! Where the rows are many, the first steps need few of them: the descent begins on the fixed sample that
//! curvature is taken over, goes on there until the sample's gradient is as small as the sample is
//! accurate, and only then looks at all rows. The optimum is that of all rows; only the way is shorter.

use serde::{Deserialize, Serialize};

use super::memory::{Memory, Preconditioner};
use super::{
    MAX_ITER, NO_PROGRESS, SINGLE_PROGRESS, SMALL_GRADIENT, Stopping, is_small, l1_value, load, proximal, save,
    soft_threshold, subgradient, usable,
};
use crate::error::{MlError, Result};
use crate::linalg::{Cholesky, Symmetric, dot, max_norm};
use crate::objective::{Evaluation, Metric, Want};
use crate::optimizer::{Ask, Iteration, Optimizer, Outcome};

/// Which direction is searched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Curvature from the rows, improved by L-BFGS; under L1, coordinate descent on that model.
    Newton {
        /// The passes that one evaluation of curvature costs; `None` when it is the same everywhere,
        /// or only a bound, and one evaluation is all that helps.
        refresh: Option<f64>,
    },
    /// L-BFGS with ten pairs; OWL-QN under L1.
    Lbfgs,
    /// The (proximal) gradient, with a step length that follows the line search.
    Steepest {
        /// The first step length.
        rate: f64,
    },
}

/// A step is good when it brings this part of what the slope promises.
const SUFFICIENT: f64 = 1e-4;
/// Differences of the objective below this, relatively, are rounding.
const ROUNDING: f64 = 2e-14;
/// The same where sums are those of single precision.
const SINGLE_ROUNDING: f64 = 1e-7;
/// Iterations on the sample.
const WARM_ITERATIONS: u32 = 30;
/// Trials along one direction.
const TRIALS: u32 = 30;

/// See the module.
#[derive(Debug)]
pub struct Descent {
    method: Method,
    stopping: Stopping,
    /// Weights of the L1 penalty; empty without one.
    l1: Vec<f64>,
    /// The norm of the gradient at which a sample has taught what it can.
    warm: f64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    Start,
    Curvature,
    Search,
    Done,
}

/// A point and what is known there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Point {
    at: Vec<f64>,
    /// The smooth part.
    value: f64,
    /// Of the smooth part.
    gradient: Vec<f64>,
    /// L1 included.
    objective: f64,
    /// Of the (sub)gradient.
    norm: f64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    phase: Phase,
    /// Whether evaluations are over the sample.
    warming: bool,
    point: Point,
    direction: Vec<f64>,
    /// The objective's derivative along the direction, or the decrease the model promises.
    slope: f64,
    step: f64,
    trial: Vec<f64>,
    trials: u32,
    iterations: u32,
    /// Iterations since curvature was taken, and the gradient's norm then.
    age: u32,
    norm_then: f64,
    memory: Memory,
    base: Option<Preconditioner>,
    /// The whole model's matrix, under L1.
    model: Option<Symmetric>,
    /// The learning rate of steepest descent.
    rate: f64,
    converged: bool,
    reason: u8,
    /// Whether gradients have the rounding of single precision.
    single: bool,
}

const REASONS: [&str; 4] = [SMALL_GRADIENT, MAX_ITER, NO_PROGRESS, SINGLE_PROGRESS];

impl Descent {
    /// Starts from `start`; `l1` may be empty. With `sample_rows` it begins on a sample of so many rows.
    pub fn new(method: Method, start: Vec<f64>, l1: &[f64], stopping: Stopping, sample_rows: Option<u64>) -> Self {
        let l1 = if l1.iter().any(|&l| l > 0.0) { l1.to_vec() } else { Vec::new() };
        let rate = if let Method::Steepest { rate } = method { rate } else { 1.0 };
        let state = State {
            phase: Phase::Start,
            warming: sample_rows.is_some(),
            point: Point { at: start.clone(), ..Default::default() },
            direction: Vec::new(),
            slope: 0.0,
            step: 1.0,
            trial: start,
            trials: 0,
            iterations: 0,
            age: 0,
            norm_then: 0.0,
            memory: Memory::default(),
            base: None,
            model: None,
            rate,
            converged: false,
            reason: 0,
            single: false,
        };
        // A quarter of a standardised gradient's standard error.
        let warm = sample_rows.map_or(0.0, |rows| 0.25 / (rows.max(1) as f64).sqrt());
        Self { method, stopping, l1, warm, state }
    }

    fn point(&self, at: Vec<f64>, evaluation: &mut Evaluation) -> Result<Point> {
        usable(evaluation.value, &evaluation.gradient)?;
        let gradient = std::mem::take(&mut evaluation.gradient);
        let objective = evaluation.value + l1_value(&at, &self.l1);
        let norm = max_norm(&subgradient(&at, &gradient, &self.l1));
        Ok(Point { at, value: evaluation.value, gradient, objective, norm })
    }

    fn iteration(&self, evaluation: &Evaluation) -> Iteration {
        Iteration {
            number: self.state.iterations,
            objective: self.state.point.objective,
            gradient_norm: self.state.point.norm,
            learning_rate: self.state.step,
            eval_loss: evaluation.eval_loss,
            rows: evaluation.rows,
        }
    }

    /// Decides what follows an accepted point.
    fn go_on(&mut self) {
        let state = &mut self.state;
        if state.warming && (state.point.norm <= self.warm || state.iterations >= WARM_ITERATIONS) {
            self.cool();
        } else if is_small(state.point.norm, state.point.objective, self.stopping.tol) {
            self.end(0);
        } else if state.iterations >= self.stopping.max_iter {
            self.end(1);
        } else if self.wants_curvature() {
            self.state.phase = Phase::Curvature;
        } else {
            self.search();
        }
    }

    /// Leaves the sample: the point is evaluated over all rows, and what was learnt of curvature is kept.
    fn cool(&mut self) {
        let state = &mut self.state;
        state.warming = false;
        state.iterations = 0;
        state.step = 1.0;
        state.trial = state.point.at.clone();
        state.phase = Phase::Start;
    }

    fn end(&mut self, reason: u8) {
        if self.state.warming {
            return self.cool();
        }
        self.state.phase = Phase::Done;
        self.state.reason = reason;
        self.state.converged = reason == 0;
    }

    /// Whether curvature at this point would save more passes than it costs.
    fn wants_curvature(&self) -> bool {
        let Method::Newton { refresh } = self.method else { return false };
        let state = &self.state;
        if state.base.is_none() && state.model.is_none() {
            return true;
        }
        let Some(cost) = refresh else { return false };
        if state.age == 0 {
            return false;
        }
        let rate = libm::log(state.norm_then / state.point.norm) / f64::from(state.age);
        let left = libm::log(state.point.norm / (self.stopping.tol * state.point.objective.abs().max(1.0)));
        // Two more passes follow a new curvature at best.
        left > 0.0 && (rate <= 0.0 || left / rate > 2.0 + cost)
    }

    fn take_curvature(&mut self, metric: &Metric) {
        let state = &mut self.state;
        state.memory.clear();
        state.age = 0;
        state.norm_then = state.point.norm;
        if self.l1.is_empty() {
            // Exact gradients have no part in directions without curvature; those of single precision have their
            // rounding there, which must not be divided by what makes the matrix regular.
            let factor = match state.single {
                true => Cholesky::curved(&metric.matrix),
                false => Cholesky::regularised(&metric.matrix),
            };
            state.base = Some(Preconditioner { factor, width: metric.matrix.size });
        } else {
            state.model = Some(Symmetric::repeated(&metric.matrix, metric.repeat));
        }
    }

    /// Whether the base metric is the objective's own curvature rather than a bound.
    fn is_curvature(&self) -> bool {
        matches!(self.method, Method::Newton { refresh: Some(_) })
    }

    /// Finds a direction and the first trial point along it.
    fn search(&mut self) {
        let exact = self.is_curvature();
        let (l1, state) = (&self.l1, &mut self.state);
        let point = &state.point;
        let sub = subgradient(&point.at, &point.gradient, l1);
        state.step = 1.0;
        state.direction = match (self.method, &state.model) {
            (Method::Newton { .. }, Some(model)) => {
                // Below the rounding of the gradient, coordinate descent would follow that alone.
                let least = if state.single { SINGLE_ROUNDING } else { 1e-15 };
                let tolerance = (1e-3 * point.norm).min(0.1 * self.stopping.tol).max(least);
                let best = proximal::minimise(&point.at, &point.gradient, model, l1, tolerance);
                best.iter().zip(&point.at).map(|(b, a)| b - a).collect()
            }
            (Method::Steepest { .. }, _) => {
                let rate = state.rate;
                let penalty = |j: usize| l1.get(j).copied().unwrap_or(0.0);
                let to = |(j, (x, g)): (usize, (&f64, &f64))| soft_threshold(x - rate * g, rate * penalty(j)) - x;
                point.at.iter().zip(&point.gradient).enumerate().map(to).collect()
            }
            _ => {
                let mut direction = state.memory.direction(&sub, state.base.as_ref(), exact);
                if !l1.is_empty() {
                    proximal::align(&mut direction, &sub);
                }
                if state.memory.is_empty() && state.base.is_none() {
                    state.step = 1.0 / dot(&sub, &sub).sqrt().max(1.0);
                }
                direction
            }
        };
        let slope = if self.is_composite() { self.promise() } else { dot(&sub, &self.state.direction) };
        self.state.slope = slope;
        let state = &mut self.state;
        if state.slope.is_nan() || state.slope >= 0.0 {
            // Only rounding makes a direction point up; the gradient itself is what is left.
            state.memory.clear();
            state.direction = sub.iter().map(|g| -g).collect();
            state.slope = -dot(&sub, &sub);
        }
        state.trials = 0;
        state.phase = Phase::Search;
        self.set_trial();
    }

    /// Whether a step is a proximal one, whose promise is not a derivative.
    fn is_composite(&self) -> bool {
        !self.l1.is_empty() && self.method != Method::Lbfgs
    }

    /// What the step changes to first order, L1 included.
    fn promise(&self) -> f64 {
        let (point, direction) = (&self.state.point, &self.state.direction);
        let full: Vec<f64> = point.at.iter().zip(direction).map(|(a, d)| a + d).collect();
        dot(&point.gradient, direction) + l1_value(&full, &self.l1) - l1_value(&point.at, &self.l1)
    }

    fn set_trial(&mut self) {
        let state = &mut self.state;
        let point = &state.point;
        state.trial = if self.l1.is_empty() || self.method != Method::Lbfgs {
            let step = state.step;
            // A whole step lands exactly on the model's zeros.
            let to = |(a, d): (&f64, &f64)| if step == 1.0 && *d == -*a { 0.0 } else { a + step * d };
            point.at.iter().zip(&state.direction).map(to).collect()
        } else {
            let sub = subgradient(&point.at, &point.gradient, &self.l1);
            proximal::in_orthant(&point.at, &state.direction, state.step, &sub, &self.l1)
        };
    }

    /// A point that was evaluated during a search: the next one, or too far.
    fn judge(&mut self, new: Point, evaluation: &Evaluation) -> Option<Iteration> {
        let old = &self.state.point;
        let change = new.objective - old.objective;
        let rounding = if self.state.single { SINGLE_ROUNDING } else { ROUNDING };
        let noise = rounding * old.objective.abs().max(1e-3);
        let good = change <= SUFFICIENT * self.state.step * self.state.slope
            || (change <= noise && new.norm < 0.999 * old.norm);
        if !good {
            self.shorten(&new, change);
            return None;
        }
        let step: Vec<f64> = new.at.iter().zip(&old.at).map(|(n, o)| n - o).collect();
        let bend: Vec<f64> = new.gradient.iter().zip(&old.gradient).map(|(n, o)| n - o).collect();
        let state = &mut self.state;
        match (&mut state.model, self.method) {
            (_, Method::Steepest { .. }) => state.rate *= if state.step == 1.0 { 1.5 } else { state.step },
            (Some(model), Method::Newton { refresh }) => {
                proximal::update(model, &step, &bend, refresh.is_none() && state.age == 0);
            }
            _ => state.memory.push(step, bend),
        }
        state.point = new;
        state.iterations += 1;
        state.age += 1;
        let iteration = self.iteration(evaluation);
        self.go_on();
        Some(iteration)
    }

    /// The step went too far: the minimum of the parabola through what is known, within reason.
    fn shorten(&mut self, new: &Point, change: f64) {
        let state = &mut self.state;
        state.trials += 1;
        let length = max_norm(&state.direction) * state.step;
        if state.trials >= TRIALS || length <= f64::EPSILON * max_norm(&state.point.at) {
            if state.memory.is_empty() && state.age == 0 {
                let reason = if state.single { 3 } else { 2 };
                return self.end(reason);
            }
            // Once more from this point, without what was remembered.
            state.memory.clear();
            state.model = None;
            state.base = None;
            if matches!(self.method, Method::Newton { .. }) {
                state.phase = Phase::Curvature;
            } else {
                state.age = 0;
                self.search();
            }
            return;
        }
        let promised = state.slope * state.step;
        let mut factor = -promised / (2.0 * (change - promised));
        if self.l1.is_empty() {
            // The derivative at the trial point is known too: the secant of the two derivatives.
            let slope = dot(&new.gradient, &state.direction);
            if slope > 0.0 {
                factor = state.slope / (state.slope - slope);
            }
        }
        let factor = if factor.is_finite() { factor.clamp(0.1, 0.6) } else { 0.1 };
        state.step *= factor;
        self.set_trial();
    }
}

impl Optimizer for Descent {
    fn ask(&mut self) -> Ask {
        let state = &self.state;
        let at = state.trial.clone();
        match state.phase {
            Phase::Start | Phase::Search => {
                Ask::Evaluate { at, want: if state.warming { Want::Sample } else { Want::Gradient } }
            }
            Phase::Curvature => Ask::Evaluate { at: state.point.at.clone(), want: Want::Curvature },
            Phase::Done => Ask::Done(Outcome {
                at: state.point.at.clone(),
                iterations: state.iterations,
                converged: state.converged,
                reason: REASONS[usize::from(state.reason) % REASONS.len()],
            }),
        }
    }

    fn tell(&mut self, mut evaluation: Evaluation) -> Result<Option<Iteration>> {
        if self.state.phase != Phase::Curvature {
            self.state.single = evaluation.single;
        }
        match self.state.phase {
            Phase::Start => {
                self.state.point = self.point(self.state.trial.clone(), &mut evaluation)?;
                self.state.age = 0;
                self.state.norm_then = self.state.point.norm;
                let iteration = self.iteration(&evaluation);
                let shown = !self.state.warming;
                self.go_on();
                Ok(Some(iteration).filter(|_| shown))
            }
            Phase::Curvature => {
                let metric =
                    evaluation.curvature.ok_or_else(|| MlError::Internal("curvature was not answered".into()))?;
                self.take_curvature(&metric);
                self.search();
                Ok(None)
            }
            Phase::Search => {
                let new = self.point(self.state.trial.clone(), &mut evaluation)?;
                let shown = !self.state.warming;
                Ok(self.judge(new, &evaluation).filter(|_| shown))
            }
            Phase::Done => Err(MlError::Internal("an optimizer that has ended was told more".into())),
        }
    }

    fn state(&self) -> Vec<u8> {
        save(&self.state)
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        let state: State = load(state)?;
        if state.point.at.len() != self.state.point.at.len() {
            return Err(MlError::Internal("the state belongs to another number of parameters".into()));
        }
        self.state = state;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::Want;

    /// Minimises half of `(x - [1, 1]) A (x - [1, 1])` with A = [1 1; 1 1], which is flat along [1, -1], from zero. What a
    /// gradient in single precision adds to it is `noise`.
    fn flat(noise: [f64; 2], single: bool) -> Outcome {
        let mut matrix = Symmetric::zero(2);
        [(0, 0), (0, 1), (1, 1)].into_iter().for_each(|(i, j)| matrix.set(i, j, 1.0));
        let stopping = Stopping { tol: 1e-9, max_iter: 50 };
        let mut descent = Descent::new(Method::Newton { refresh: Some(0.0) }, vec![0.0; 2], &[], stopping, None);
        loop {
            let (at, want) = match descent.ask() {
                Ask::Done(outcome) => return outcome,
                Ask::Evaluate { at, want } => (at, want),
            };
            let off = at[0] + at[1] - 2.0;
            let mut evaluation =
                Evaluation { value: off * off / 2.0, single, rows: 1, weight: 1.0, ..Default::default() };
            match want {
                Want::Curvature => {
                    evaluation.curvature = Some(Metric { matrix: matrix.clone(), repeat: 1, exact: true })
                }
                _ => evaluation.gradient = noise.iter().map(|noise| off + noise).collect(),
            }
            assert!(descent.tell(evaluation).is_ok());
        }
    }

    #[test]
    fn rounding_of_single_precision_does_not_move_along_a_flat_direction() {
        let exact = flat([0.0; 2], false);
        assert!(exact.converged && (exact.at[0] - 1.0).abs() < 1e-8, "{exact:?}");
        let single = flat([3e-8, -2e-8], true);
        assert!(single.at.iter().all(|x| (x - 1.0).abs() < 1e-7), "{single:?}");
        assert!(!single.converged && single.reason == SINGLE_PROGRESS, "{single:?}");
    }
}
