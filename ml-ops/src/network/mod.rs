//! Feed-forward networks as plain data: their shape, where each parameter stands, and where they start.
//!
//! ```text
//!  a_0 = (x - shift) scale          a_l = f(a_(l-1) W_l + b_l)          z = a_(L-1) W_L + b_L
//! ```
//! `W_l` is `[in, out]`, an input's weights side by side, so that a category gathers one row of `W_1`.
//! All parameters are one vector: `W_1, b_1, W_2, b_2, ..`, each matrix row by row.

pub mod real;
mod rule;
mod work;

use std::ops::Range;

use serde::{Deserialize, Serialize};

pub use rule::Rule;
pub use work::{Steps, Work, shard_of};

use crate::fold::{mix, uniform};

/// The function between two layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activation {
    /// `max(0, z)`.
    Relu,
    /// `tanh z`.
    Tanh,
    /// `1 / (1 + e^-z)`.
    Sigmoid,
    /// `z Phi(z)` with the normal distribution function (Hendrycks and Gimpel, 2016).
    Gelu,
}

/// What the outputs mean, and the loss of one row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Head {
    /// One output for each class: `-ln softmax(z)_y`.
    Softmax,
    /// One output: `(z - (y - center) scale)^2 / 2`.
    Squared {
        /// Taken off the label.
        center: f64,
        /// Multiplies it then.
        scale: f64,
    },
}

/// The shape of a network over the coordinates of a [`crate::fold::Layout`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Taken off each coordinate; zero for categories. `[P]`.
    pub shift: Vec<f64>,
    /// Multiplies it then; zero for a column that is constant, one for categories. `[P]`.
    pub scale: Vec<f64>,
    /// Units of the hidden layers; there may be none.
    pub hidden: Vec<usize>,
    /// Outputs.
    pub outputs: usize,
    /// Between layers.
    pub activation: Activation,
    /// Meaning of the outputs.
    pub head: Head,
}

/// Where the parameters of one layer stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Units before it.
    pub inputs: usize,
    /// Its units.
    pub units: usize,
    /// Its matrix, `[inputs, units]`.
    pub weights: Range<usize>,
    /// Its biases, `[units]`.
    pub biases: Range<usize>,
}

impl Network {
    /// Its layers in order, the outputs last.
    pub fn layers(&self) -> Vec<Layer> {
        let (mut inputs, mut at) = (self.shift.len(), 0);
        let layer = |&units: &usize| {
            let (start, middle) = (at, at + inputs * units);
            let layer = Layer { inputs, units, weights: start..middle, biases: middle..middle + units };
            (at, inputs) = (middle + units, units);
            layer
        };
        self.hidden.iter().chain([&self.outputs]).map(layer).collect()
    }

    /// The number of parameters.
    pub fn parameters(&self) -> usize {
        self.layers().last().map_or(0, |layer| layer.biases.end)
    }

    /// Where training starts: weights uniform in `[-r, r]` by the seed, biases zero.
    ///
    /// `r = sqrt(6 / in)` before relu and gelu (He et al., *Delving Deep into Rectifiers*, 2015), else
    /// `sqrt(6 / (in + out))` (Glorot and Bengio, 2010). `features` is what a row really has as inputs of the
    /// first layer, where a category counts once.
    pub fn start(&self, features: usize, seed: u64) -> Vec<f64> {
        let mut start = vec![0.0; self.parameters()];
        let layers = self.layers();
        for (i, layer) in layers.iter().enumerate() {
            let inputs = if i == 0 { features } else { layer.inputs }.max(1) as f64;
            let rectified = matches!(self.activation, Activation::Relu | Activation::Gelu) && i + 1 < layers.len();
            let spread = if rectified { inputs } else { inputs + layer.units as f64 };
            let reach = (6.0 / spread).sqrt();
            for (j, weight) in start[layer.weights.clone()].iter_mut().enumerate() {
                let salt = seed.wrapping_add((i as u64 + 1) << 48).wrapping_add((j as u64 >> 32) << 40);
                *weight = reach * (2.0 * uniform(mix(j as u32, salt)) - 1.0);
            }
        }
        start
    }

    /// Whether each parameter is a weight: biases are neither penalised nor decayed.
    pub fn is_weight(&self) -> Vec<bool> {
        let mut weights = vec![false; self.parameters()];
        for layer in self.layers() {
            weights[layer.weights].fill(true);
        }
        weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_stand_one_after_another() {
        let network = Network {
            shift: vec![0.0; 3],
            scale: vec![1.0; 3],
            hidden: vec![4, 2],
            outputs: 5,
            activation: Activation::Relu,
            head: Head::Softmax,
        };
        let layers = network.layers();
        assert_eq!(layers.iter().map(|l| (l.inputs, l.units)).collect::<Vec<_>>(), [(3, 4), (4, 2), (2, 5)]);
        assert_eq!(layers[1].weights, 16..24);
        assert_eq!(layers[1].biases, 24..26);
        assert_eq!(network.parameters(), 12 + 4 + 8 + 2 + 10 + 5);
        let start = network.start(3, 7);
        assert_eq!(start, network.start(3, 7));
        assert_ne!(start, network.start(3, 8));
        let reach = 2.0_f64.sqrt();
        assert!(start[..12].iter().all(|w| w.abs() <= reach) && start[..12].iter().any(|w| w.abs() > reach / 2.0));
        assert!(start[12..16].iter().all(|b| *b == 0.0));
        assert_eq!(network.is_weight().iter().filter(|w| **w).count(), 12 + 8 + 10);
    }
}
