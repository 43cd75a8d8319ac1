//! Lloyd's algorithm for k-means, and the choice of its first centres.

use serde::{Deserialize, Serialize};

use super::generator::Generator;
use super::{MAX_ITER, Stopping, load, save};
use crate::error::{MlError, Result};
use crate::objective::{Evaluation, Want};
use crate::optimizer::{Ask, Iteration, Optimizer, Outcome};

/// How the first centres are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// k rows at random.
    Random,
    /// k-means|| with oversampling 2k (Bahmani et al., *Scalable K-Means++*, 2012): so many rounds.
    Parallel {
        /// Rounds of sampling.
        rounds: u32,
    },
}

/// Candidates wanted for each centre and round.
const OVERSAMPLING: f64 = 2.0;
/// Rounds after which fewer than k candidates mean that there are fewer distinct rows.
const ROUNDS: u32 = 64;

/// Moves centres to the means of their rows until none moves more than `tol`. An empty cluster keeps
/// its centre.
#[derive(Debug)]
pub struct Lloyd {
    centers: usize,
    width: usize,
    start: Start,
    stopping: Stopping,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Phase {
    /// Rows drawn without regard to distance.
    Draw,
    /// The cost of the candidates so far.
    Cost,
    /// Rows drawn by distance.
    Sample,
    /// The weight of each candidate.
    Weigh,
    Move,
    Done,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    phase: Phase,
    /// Centres or candidates, `[any, width]`.
    at: Vec<f64>,
    round: u32,
    /// The summed cost of the candidates.
    cost: f64,
    random: Generator,
    salt: u64,
    iterations: u32,
    converged: bool,
}

impl Lloyd {
    /// `centers` of `width` coordinates each.
    pub fn new(centers: usize, width: usize, start: Start, stopping: Stopping, seed: u64) -> Self {
        let mut random = Generator::new(seed);
        let salt = random.bits();
        let state = State {
            phase: Phase::Draw,
            at: Vec::new(),
            round: 0,
            cost: 0.0,
            random,
            salt,
            iterations: 0,
            converged: false,
        };
        Self { centers, width, start, stopping, state }
    }

    fn count(&self) -> usize {
        self.state.at.len() / self.width.max(1)
    }

    fn rounds(&self) -> u32 {
        if let Start::Parallel { rounds } = self.start { rounds } else { 0 }
    }

    fn too_few(&self, found: usize) -> MlError {
        MlError::Data {
            reason: format!("k = {} and only {found} distinct rows were found; choose a smaller k", self.centers),
        }
    }

    /// Adds the rows that are new.
    fn add(&mut self, rows: Vec<Vec<f64>>) {
        for row in rows {
            if row.len() == self.width && !self.state.at.chunks_exact(self.width.max(1)).any(|old| old == row) {
                self.state.at.extend(row);
            }
        }
    }

    /// k-means++ over the candidates, each as heavy as the rows nearest to it (Arthur and
    /// Vassilvitskii, *k-means++*, 2007).
    fn choose(&mut self, weights: &[f64]) {
        let candidates: Vec<&[f64]> = self.state.at.chunks_exact(self.width.max(1)).collect();
        let mut cost = weights.to_vec();
        let mut distance = vec![f64::INFINITY; candidates.len()];
        let mut chosen: Vec<f64> = Vec::with_capacity(self.centers * self.width);
        for _ in 0..self.centers {
            let total: f64 = cost.iter().sum();
            let mut left = self.state.random.uniform() * total;
            // The last with any cost at all stands in for what rounding leaves over.
            let mut pick = (0..cost.len())
                .rev()
                .find(|&i| cost[i] > 0.0)
                .unwrap_or_else(|| (0..distance.len()).find(|&i| distance[i] > 0.0).unwrap_or(0));
            for (i, c) in cost.iter().enumerate() {
                if *c > left {
                    pick = i;
                    break;
                }
                left -= c;
            }
            chosen.extend(candidates[pick]);
            for (i, row) in candidates.iter().enumerate() {
                let square: f64 = row.iter().zip(candidates[pick]).map(|(a, b)| (a - b) * (a - b)).sum();
                distance[i] = distance[i].min(square);
                cost[i] = weights[i] * distance[i];
            }
        }
        self.state.at = chosen;
    }

    /// What follows a round of candidates.
    fn after_round(&mut self) -> Result<()> {
        let (count, round) = (self.count(), self.state.round);
        self.state.phase = if count < self.centers && round >= ROUNDS {
            return Err(self.too_few(count));
        } else if count == self.centers && round >= self.rounds() {
            Phase::Move
        } else if count > self.centers && round >= self.rounds() {
            Phase::Weigh
        } else {
            Phase::Cost
        };
        Ok(())
    }

    fn advance(&mut self, evaluation: &Evaluation) -> Iteration {
        let number = self.state.iterations;
        let (mut moved, mut most) = (Vec::with_capacity(self.state.at.len()), 0.0f64);
        for (row, center) in evaluation.gathered.iter().zip(self.state.at.chunks_exact(self.width.max(1))) {
            let square: f64 = row[1..].iter().zip(center).map(|(a, b)| (a - b) * (a - b)).sum();
            most = most.max(square);
            moved.extend(&row[1..]);
        }
        if number >= self.stopping.max_iter {
            self.state.phase = Phase::Done;
        } else {
            self.state.at = moved;
            self.state.iterations += 1;
            if most <= self.stopping.tol * self.stopping.tol {
                self.state.phase = Phase::Done;
                self.state.converged = true;
            }
        }
        let gradient_norm = crate::linalg::max_norm(&evaluation.gradient);
        let (objective, eval_loss, rows) = (evaluation.value, evaluation.eval_loss, evaluation.rows);
        Iteration { number, objective, gradient_norm, learning_rate: 1.0, eval_loss, rows }
    }
}

impl Optimizer for Lloyd {
    fn ask(&mut self) -> Ask {
        let (state, at) = (&self.state, self.state.at.clone());
        let salt = state.salt;
        let want = match state.phase {
            Phase::Draw => {
                let keep = if self.start == Start::Random { self.centers } else { 1 };
                Want::Candidates { salt, factor: 0.0, keep: keep as u32 }
            }
            Phase::Cost | Phase::Weigh | Phase::Move => Want::Gradient,
            Phase::Sample => {
                let wanted = OVERSAMPLING * self.centers as f64;
                // Room for luck; a truncated round only means a smaller one.
                Want::Candidates { salt, factor: wanted / state.cost, keep: (8.0 * wanted) as u32 + 64 }
            }
            Phase::Done => {
                return Ask::Done(Outcome {
                    at,
                    iterations: state.iterations,
                    converged: state.converged,
                    reason: if state.converged { "no centre moved more than tol" } else { MAX_ITER },
                });
            }
        };
        Ask::Evaluate { at, want }
    }

    fn tell(&mut self, evaluation: Evaluation) -> Result<Option<Iteration>> {
        if !evaluation.value.is_finite() {
            return Err(MlError::Numeric {
                reason: "the distances of rows are not finite; scale the columns down".into(),
            });
        }
        match self.state.phase {
            Phase::Draw => {
                self.add(evaluation.gathered);
                if self.start == Start::Random {
                    if self.count() < self.centers {
                        return Err(self.too_few(self.count()));
                    }
                    self.state.phase = Phase::Move;
                } else {
                    self.after_round()?;
                }
            }
            Phase::Cost => {
                self.state.cost = evaluation.value * evaluation.weight;
                if self.state.cost > 0.0 {
                    self.state.phase = Phase::Sample;
                } else if self.count() < self.centers {
                    return Err(self.too_few(self.count()));
                } else {
                    // Every row is a candidate already.
                    self.state.round = self.rounds().max(self.state.round);
                    self.after_round()?;
                }
            }
            Phase::Sample => {
                self.add(evaluation.gathered);
                self.state.salt = self.state.random.bits();
                self.state.round += 1;
                self.after_round()?;
            }
            Phase::Weigh => {
                let weights: Vec<f64> = evaluation.gathered.iter().map(|row| row[0]).collect();
                self.choose(&weights);
                self.state.phase = Phase::Move;
            }
            Phase::Move => return Ok(Some(self.advance(&evaluation))),
            Phase::Done => return Err(MlError::Internal("an optimizer that has ended was told more".into())),
        }
        Ok(None)
    }

    fn state(&self) -> Vec<u8> {
        save(&self.state)
    }

    fn restore(&mut self, state: &[u8]) -> Result<()> {
        self.state = load(state)?;
        Ok(())
    }
}
