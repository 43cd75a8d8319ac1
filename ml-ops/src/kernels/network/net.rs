//! Forward and backward through a network, on any device.

use super::batch::Inputs;
use super::device::{Device, Dropout, Input};
use crate::fold::Layout;
use crate::network::{Network, Rule};

/// A matrix of parameters: which of the flat vector's they are.
#[derive(Debug)]
struct Piece {
    rows: usize,
    columns: usize,
    weights: bool,
    /// Where each row begins.
    places: Vec<usize>,
}

/// A network on a device. Parameters are matrices: the first layer's weights of columns, those of a table's
/// categories, its biases, then weights and biases of every other layer.
pub(crate) struct Net<'f, D: Device> {
    pub device: D,
    network: &'f Network,
    pieces: Vec<Piece>,
    at: Vec<D::Matrix>,
    gradient: Vec<D::Matrix>,
    /// Of each layer: what goes into the function, what comes out, and what is left of that by dropout.
    z: Vec<D::Matrix>,
    a: Vec<D::Matrix>,
    kept: Vec<D::Matrix>,
    masks: Vec<D::Matrix>,
    delta: D::Matrix,
    next: D::Matrix,
}

impl<'f, D: Device> Net<'f, D> {
    /// The network with these parameters, `[P]`, ready to be trained.
    pub fn new(device: D, network: &'f Network, layout: &Layout, parameters: &[f64]) -> Self {
        let mut net = Self::bare(device, network, layout);
        net.at = net.load(parameters);
        net.gradient = net.load(&vec![0.0; parameters.len()]);
        net
    }

    /// The network without parameters and gradient: [`Self::forward`] works once [`Self::parameters`] are there.
    pub fn bare(mut device: D, network: &'f Network, layout: &Layout) -> Self {
        let mut pieces = Vec::new();
        let (numbers, categories) = Inputs::new(network, layout, D::INDICATORS).rows();
        for (l, layer) in network.layers().into_iter().enumerate() {
            let (start, columns) = (layer.weights.start, layer.units);
            let mut weights = |rows: Vec<usize>| {
                let places: Vec<usize> = rows.iter().map(|row| start + row * columns).collect();
                pieces.push(Piece { rows: places.len(), columns, weights: true, places });
            };
            if l == 0 {
                weights(numbers.clone());
                weights(categories.clone());
            } else {
                weights((0..layer.inputs).collect());
            }
            pieces.push(Piece { rows: 1, columns, weights: false, places: vec![layer.biases.start] });
        }
        let layers = network.hidden.len() + 1;
        let mut empty = || device.load(0, 0, &[]);
        let (delta, next) = (empty(), empty());
        let mut each = || (0..layers).map(|_| empty()).collect();
        let (z, a, kept, masks) = (each(), each(), each(), each());
        Self { device, network, pieces, at: vec![], gradient: vec![], z, a, kept, masks, delta, next }
    }

    /// The parameters, as [`Self::load`] brings them to the device.
    pub fn parameters(&mut self) -> &mut Vec<D::Matrix> {
        &mut self.at
    }

    /// A flat vector of the parameters' length as matrices.
    pub fn load(&mut self, flat: &[f64]) -> Vec<D::Matrix> {
        let device = &mut self.device;
        let load = |piece: &Piece| {
            let rows = piece.places.iter().flat_map(|place| &flat[*place..place + piece.columns]);
            device.load(piece.rows, piece.columns, &rows.copied().collect::<Vec<f64>>())
        };
        self.pieces.iter().map(load).collect()
    }

    /// Matrices without entries, as many as there are of parameters.
    pub fn nothing(&mut self) -> Vec<D::Matrix> {
        self.pieces.iter().map(|_| self.device.load(0, 0, &[])).collect()
    }

    fn flat(pieces: &[Piece], values: &[Vec<f64>], flat: &mut [f64]) {
        for (piece, values) in pieces.iter().zip(values) {
            for (place, row) in piece.places.iter().zip(values.chunks_exact(piece.columns.max(1))) {
                flat[*place..place + piece.columns].copy_from_slice(row);
            }
        }
    }

    /// The parameters, followed by what a rule remembers.
    pub fn moved(&mut self, memory: &[Vec<D::Matrix>]) -> Vec<f64> {
        let count = self.network.parameters();
        let mut flat = vec![0.0; count * (1 + memory.len())];
        let values = self.device.read(&self.at.iter().chain(memory.iter().flatten()).collect::<Vec<_>>());
        let parts = values.chunks(self.pieces.len().max(1)).zip(flat.chunks_exact_mut(count.max(1)));
        parts.for_each(|(values, flat)| Self::flat(&self.pieces, values, flat));
        flat
    }

    /// The sum of gradients since [`Self::clear`].
    pub fn gradient(&mut self) -> Vec<f64> {
        let mut flat = vec![0.0; self.network.parameters()];
        let values = self.device.read(&self.gradient.iter().collect::<Vec<_>>());
        Self::flat(&self.pieces, &values, &mut flat);
        flat
    }

    /// Rows that go through it together where all of them do.
    pub fn tile(&self) -> usize {
        self.device.tile(self.pieces.iter().map(|piece| piece.columns).max().unwrap_or(1))
    }

    /// Forgets the gradients so far.
    pub fn clear(&mut self) {
        self.gradient.iter_mut().for_each(|piece| self.device.clear(piece));
    }

    /// Computes the outputs of some rows.
    pub fn forward(&mut self, batch: &D::Batch, dropout: Option<Dropout>) {
        let last = self.network.hidden.len();
        for l in 0..=last {
            let (before, here) = self.a.split_at_mut(l);
            let (input, table, weights) = match (l, dropout) {
                (0, _) => (Input::Rows(batch), Some(&self.at[1]), &self.at[0]),
                (_, None) => (Input::Units(&before[l - 1]), None, &self.at[1 + 2 * l]),
                (_, Some(_)) => (Input::Units(&self.kept[l - 1]), None, &self.at[1 + 2 * l]),
            };
            let f = (l < last).then_some(self.network.activation);
            self.device.layer(input, (weights, table, &self.at[2 + 2 * l]), f, &mut self.z[l], &mut here[0]);
            if let (Some((probability, salt)), true) = (dropout, l < last) {
                let here = (probability, salt.wrapping_add((l as u64) << 40));
                self.device.drop_out(here, &self.a[l], &mut self.masks[l], &mut self.kept[l]);
            }
        }
    }

    /// The outputs of the last rows, on the device.
    pub fn last(&self) -> &D::Matrix {
        &self.z[self.network.hidden.len()]
    }

    /// The outputs of the last rows, row by row.
    pub fn outputs(&mut self) -> Vec<f64> {
        self.device.read(&[&self.z[self.network.hidden.len()]]).pop().unwrap_or_default()
    }

    /// Tallies the loss of the last rows times `share`; their outputs become its derivative.
    pub fn loss(&mut self, batch: &D::Batch, share: f64) {
        let last = self.network.hidden.len();
        self.device.loss(self.network.head, &mut self.z[last], batch, share);
    }

    /// Adds the gradient of the loss of the last rows.
    pub fn backward(&mut self, batch: &D::Batch, dropout: Option<Dropout>) {
        let last = self.network.hidden.len();
        std::mem::swap(&mut self.delta, &mut self.z[last]);
        for l in (0..=last).rev() {
            let (table, rest) = self.gradient.split_at_mut(2);
            let [first, table] = table else { return };
            let (layer, bias) = if l == 0 {
                (first, &mut rest[0])
            } else {
                let [weights, bias, ..] = &mut rest[2 * l - 1..] else { return };
                (weights, bias)
            };
            let input = match (l, dropout) {
                (0, _) => Input::Rows(batch),
                (_, None) => Input::Units(&self.a[l - 1]),
                (_, Some(_)) => Input::Units(&self.kept[l - 1]),
            };
            self.device.slope(input, &self.delta, (layer, (l == 0).then_some(table), bias));
            if l > 0 {
                let before = l - 1;
                let mask = dropout.map(|(probability, salt)| {
                    ((probability, salt.wrapping_add((before as u64) << 40)), &self.masks[before])
                });
                let f = (self.network.activation, &self.z[before], &self.a[before]);
                self.device.back(&self.delta, &self.at[1 + 2 * l], mask, f, &mut self.next);
                std::mem::swap(&mut self.delta, &mut self.next);
            }
        }
    }

    /// Adds the gradient of the L2 penalty, `l2` times every weight.
    pub fn penalise(&mut self, l2: f64) {
        let penalised = self.pieces.iter().zip(&self.at).zip(&mut self.gradient);
        for ((_, at), gradient) in penalised.filter(|((piece, _), _)| piece.weights && l2 > 0.0) {
            self.device.add_scaled(at, l2, gradient);
        }
    }

    /// Tallies the largest entry of the gradient.
    pub fn norm(&mut self) {
        self.gradient.iter().for_each(|piece| self.device.largest(piece));
    }

    /// A step along the gradient. `memory` has two entries for each matrix.
    pub fn step(&mut self, rule: Rule, pace: (f64, u64), memory: &mut [[D::Matrix; 2]]) {
        let all = self.at.iter_mut().zip(&self.gradient).zip(memory).zip(&self.pieces);
        for (((at, gradient), memory), piece) in all {
            self.device.step(rule, pace, piece.weights, at, gradient, memory);
        }
    }
}
