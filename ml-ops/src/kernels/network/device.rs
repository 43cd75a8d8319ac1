//! The operations a network is made of, as any device does them.
//!
//! They are coarse, so that a device can do each in one go, and none of them gives a number back: what a pass
//! reports (losses, the largest entry of a gradient) is kept on the device and read once, at its end.

use super::batch::{Inputs, Rows};
use crate::block::Block;
use crate::error::Result;
use crate::network::{Activation, Head, Rule};

/// The units that a step leaves out: each with this probability, chosen by the salt.
pub(crate) type Dropout = (f64, u64);

/// What goes into a layer.
pub(crate) enum Input<'a, D: Device + ?Sized> {
    /// The rows themselves.
    Rows(&'a D::Batch),
    /// Units of the layer before.
    Units(&'a D::Matrix),
}

/// What a pass reports, in the order of the calls that asked for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    /// Of each batch, its loss.
    pub losses: Vec<f64>,
    /// The largest magnitude of all entries that were looked at; NaN if one of them is.
    pub largest: f64,
}

/// Where the arithmetic of a network runs. Matrices are row by row; shapes must fit, which is checked.
///
/// A device that cannot go on remembers why and does nothing from then on: its numbers are of no use then, and
/// whoever runs the pass asks it.
pub(crate) trait Device {
    /// A matrix on the device.
    type Matrix;
    /// Rows that go through the network together.
    type Batch: Default;

    /// Categories of a feature up to which they are columns of the input, one for each; those of a feature with
    /// more are rows of a table.
    const INDICATORS: usize;

    /// Rows that go through the network together where all of them do, if its widest layer has so many units.
    fn tile(&self, widest: usize) -> usize;

    /// Tiles whose gradients may be added up on the device; `None` for all.
    fn most_tiles(&self) -> Option<u32>;

    /// A matrix of these values, rounded to the device's precision.
    fn load(&mut self, rows: usize, columns: usize, values: &[f64]) -> Self::Matrix;

    /// The values of some matrices.
    fn read(&mut self, matrices: &[&Self::Matrix]) -> Vec<Vec<f64>>;

    /// Makes every entry zero.
    fn clear(&mut self, matrix: &mut Self::Matrix);

    /// Brings the rows of a shard near, for batches to be picked of them; `classes` is 0 for a value.
    ///
    /// # Errors
    /// When a row's class is not among them, or the label is of another kind.
    fn hold(&mut self, inputs: &Inputs, block: &Block, classes: usize) -> Result<()>;

    /// Makes a batch of some rows of the shard.
    ///
    /// # Errors
    /// As for [`Self::hold`].
    fn pick(
        &mut self,
        inputs: &Inputs,
        block: &Block,
        rows: &Rows,
        classes: usize,
        batch: &mut Self::Batch,
    ) -> Result<()>;

    /// `z = input weights + bias` of `(weights, table, bias)`, with those rows of `table` added that the codes of the input name, and `a = f(z)`
    /// where there is a function. A device that needs `z` no more where there is `a` need not write it.
    fn layer(
        &mut self,
        input: Input<'_, Self>,
        parameters: (&Self::Matrix, Option<&Self::Matrix>, &Self::Matrix),
        f: Option<Activation>,
        z: &mut Self::Matrix,
        a: &mut Self::Matrix,
    );

    /// `kept = a mask`, a mask that the salt decides: entry i of `a`, counted row by row, is left out or scaled up.
    fn drop_out(&mut self, dropout: Dropout, a: &Self::Matrix, mask: &mut Self::Matrix, kept: &mut Self::Matrix);

    /// `to = (delta weights^T) mask f'(z)`, where `a = f(z)`.
    fn back(
        &mut self,
        delta: &Self::Matrix,
        weights: &Self::Matrix,
        dropout: Option<(Dropout, &Self::Matrix)>,
        f: (Activation, &Self::Matrix, &Self::Matrix),
        to: &mut Self::Matrix,
    );

    /// Adds to the gradients of `(weights, table, bias)`: `input^T delta` to that of the weights, row i of `delta` to those
    /// rows of the table's that the codes of row i name, and the sum of its rows to that of the biases.
    fn slope(
        &mut self,
        input: Input<'_, Self>,
        delta: &Self::Matrix,
        gradient: (&mut Self::Matrix, Option<&mut Self::Matrix>, &mut Self::Matrix),
    );

    /// Turns the outputs `z` of a batch into the derivative of its weighted loss times `share`, and tallies that.
    fn loss(&mut self, head: Head, z: &mut Self::Matrix, batch: &Self::Batch, share: f64);

    /// `g += by x`.
    fn add_scaled(&mut self, x: &Self::Matrix, by: f64, g: &mut Self::Matrix);

    /// Tallies the largest entry's magnitude.
    fn largest(&mut self, matrix: &Self::Matrix);

    /// A step of `rule` with step length and number `pace`; `weights` says that `at` are no biases.
    fn step(
        &mut self,
        rule: Rule,
        pace: (f64, u64),
        weights: bool,
        at: &mut Self::Matrix,
        g: &Self::Matrix,
        memory: &mut [Self::Matrix; 2],
    );

    /// What was tallied since the last call.
    fn tally(&mut self) -> Tally;

    /// A step or a tile has been asked for: what waits may be sent off.
    fn pause(&mut self);
}
