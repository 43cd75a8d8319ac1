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
    /// Kingma and Ba, *Adam*, 2015: `x -= rate m / (1 - 0.9^t) / (sqrt(v / (1 - 0.999^t)) + 1e-8)`. With a decay,
    /// weights are first multiplied by `1 - rate decay` (Loshchilov and Hutter, *Decoupled Weight Decay
    /// Regularization*, 2019).
    Adam {
        /// Decay of weights; biases have none.
        decay: f64,
    },
}

impl Rule {
    /// How many vectors it remembers.
    pub fn memory(self) -> usize {
        match self {
            Self::Sgd { momentum, .. } => usize::from(momentum > 0.0),
            Self::Adam { .. } => 2,
        }
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
            Self::Adam { decay } => {
                let t = t as f64;
                let keep = R::of(if weights { 1.0 - rate * decay } else { 1.0 });
                let length = R::of(rate / (1.0 - libm::pow(0.9, t)));
                let unbias = R::of(1.0 / (1.0 - libm::pow(0.999, t)).sqrt());
                let (b1, c1, b2, c2) = (R::of(0.9), R::of(1.0 - 0.9), R::of(0.999), R::of(1.0 - 0.999));
                let least = R::of(1e-8);
                for (((x, g), m), v) in at.iter_mut().zip(g).zip(first).zip(second) {
                    *m = b1 * *m + c1 * *g;
                    *v = b2 * *v + c2 * *g * *g;
                    *x = *x * keep - length * *m / (v.root() * unbias + least);
                }
            }
        }
    }
}
