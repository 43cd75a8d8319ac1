//! How a gradient becomes a step.

use serde::{Deserialize, Serialize};

use super::real::Real;

/// A rule of steps, in the forms that PyTorch computes. `t` counts steps from 1, `g` is the gradient with the
/// L2 penalty's. What a rule remembers stands behind the parameters, in vectors of the same length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rule {
    /// `v = momentum v + g`, then `x -= rate v`, or with `nesterov` `x -= rate (g + momentum v)`.
    Sgd {
        /// From 0, below 1.
        momentum: f64,
        /// Nesterov's form.
        nesterov: bool,
    },
    /// Kingma and Ba, *Adam*, 2015: `x -= rate m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)`. With a decay,
    /// weights are first multiplied by `1 - rate decay` (Loshchilov and Hutter, *Decoupled Weight Decay
    /// Regularization*, 2019).
    Adam {
        /// Decay of weights; biases have none.
        decay: f64,
        /// `b1` and `b2`, the parts of the running means of gradients and of their squares that stay; from 0, below 1.
        betas: [f64; 2],
        /// Added to the divisor; above 0.
        epsilon: f64,
    },
}

impl Rule {
    /// Adam with the constants of its paper.
    pub const fn usual_adam(decay: f64) -> Self {
        Self::Adam { decay, betas: [0.9, 0.999], epsilon: 1e-8 }
    }

    /// How many vectors it remembers.
    pub fn memory(self) -> usize {
        match self {
            Self::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            Self::Adam { .. } => 2,
        }
    }

    /// The constants of a step of Adam: `(b1, 1 - b1, b2, 1 - b2)`, what weights are multiplied by, the step length
    /// without bias, what makes the root unbiased, and the least divisor.
    pub fn adam(self, (rate, t): (f64, u64), weights: bool) -> [f64; 8] {
        let (decay, [b1, b2], epsilon) = match self {
            Self::Adam { decay, betas, epsilon } => (if weights { decay } else { 0.0 }, betas, epsilon),
            Self::Sgd { .. } => (0.0, [0.0; 2], 1.0),
        };
        let t = t as f64;
        let length = rate / (1.0 - libm::pow(b1, t));
        let unbias = 1.0 / (1.0 - libm::pow(b2, t)).sqrt();
        [b1, 1.0 - b1, b2, 1.0 - b2, 1.0 - rate * decay, length, unbias, epsilon]
    }

    /// Step `t` along `gradient`, of parameters that are weights or biases.
    pub fn step<R: Real>(self, (rate, t): (f64, u64), weights: bool, at: &mut [R], g: &[R], memory: [&mut [R]; 2]) {
        let [first, second] = memory;
        match self {
            Self::Sgd { momentum: 0.0, .. } => {
                let rate = R::of(rate);
                at.iter_mut().zip(g).for_each(|(x, g)| *x = *x - rate * *g);
            }
            Self::Sgd { momentum, nesterov } => {
                let (rate, momentum) = (R::of(rate), R::of(momentum));
                for ((x, g), v) in at.iter_mut().zip(g).zip(first) {
                    *v = momentum * *v + *g;
                    *x = *x - rate * if nesterov { *g + momentum * *v } else { *v };
                }
            }
            Self::Adam { .. } => {
                let [b1, c1, b2, c2, keep, length, unbias, least] = self.adam((rate, t), weights).map(R::of);
                for (((x, g), m), v) in at.iter_mut().zip(g).zip(first).zip(second) {
                    *m = b1 * *m + c1 * *g;
                    *v = b2 * *v + c2 * *g * *g;
                    *x = *x * keep - length * *m / (v.root() * unbias + least);
                }
            }
        }
    }
}
