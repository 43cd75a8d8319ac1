//! How parameters move: ask for an evaluation, be told its result.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::objective::{Evaluation, Want};

/// What an optimizer asks next.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Evaluate the objective.
    Evaluate {
        /// The point.
        at: Vec<f64>,
        /// What is wanted there.
        want: Want,
    },
    /// It has ended.
    Done(Outcome),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The parameters.
    pub at: Vec<f64>,
    /// Iterations accepted.
    pub iterations: u32,
    /// Whether the stopping rule was met (else the iteration limit, or no further progress).
    pub converged: bool,
    /// Why it stopped, in words.
    pub reason: &'static str,
}

/// An accepted iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Iteration {
    /// Counted from 0, the starting point.
    pub number: u32,
    /// The whole objective, L1 included.
    pub objective: f64,
    /// Max-norm of the gradient, or of the proximal gradient under L1.
    pub gradient_norm: f64,
    /// Step length or learning rate.
    pub learning_rate: f64,
    /// Mean held-out loss at this point.
    pub eval_loss: Option<f64>,
    /// Rows that counted.
    pub rows: u64,
}

/// A method that improves parameters from evaluations of an objective.
///
/// It never touches rows and never waits: the loop asks, evaluates wherever the rows are, and tells.
/// The same answers in the same order give the same questions, and [`Self::state`] captures everything
/// between two of them.
pub trait Optimizer: Send {
    /// The next question. Asking twice gives the same answer.
    fn ask(&mut self) -> Ask;

    /// The answer to the last question. Returns an iteration when one was accepted.
    ///
    /// # Errors
    /// When the objective is not finite where it must be.
    fn tell(&mut self, evaluation: Evaluation) -> Result<Option<Iteration>>;

    /// Everything needed to go on later, in another process.
    fn state(&self) -> Vec<u8>;

    /// Goes on from [`Self::state`].
    ///
    /// # Errors
    /// When the bytes are not a state of this optimizer.
    fn restore(&mut self, state: &[u8]) -> Result<()>;
}
