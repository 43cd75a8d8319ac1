//! Forward and backward through a network, on any device.

use super::batch::{Batch, Inputs};
use super::device::Device;
use crate::fold::{Layout, mix, uniform};
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

/// A network on a device. Parameters are matrices: the first layer's weights of numbers, those of categories,
/// its biases, then weights and biases of every other layer.
pub(crate) struct Net<'f, D: Device> {
    pub device: D,
    network: &'f Network,
    pieces: Vec<Piece>,
    at: Vec<D::Matrix>,
    gradient: Vec<D::Matrix>,
    x: D::Matrix,
    /// Of each layer: what goes into the function, what comes out, and what is left of that by dropout.
    z: Vec<D::Matrix>,
    a: Vec<D::Matrix>,
    kept: Vec<D::Matrix>,
    masks: Vec<D::Matrix>,
    delta: D::Matrix,
    next: D::Matrix,
}

/// The units that a step leaves out: each with this probability, chosen by the salt.
pub(crate) type Dropout = (f64, u64);

impl<'f, D: Device> Net<'f, D> {
    /// The network with these parameters, `[P]`.
    pub fn new(mut device: D, network: &'f Network, layout: &Layout, parameters: &[f64]) -> Self {
        let mut pieces = Vec::new();
        let (numbers, categories) = Inputs::new(network, layout).rows();
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
        let (x, delta, next) = (empty(), empty(), empty());
        let mut each = || (0..layers).map(|_| empty()).collect();
        let (z, a, kept, masks) = (each(), each(), each(), each());
        let mut net = Self { device, network, pieces, at: vec![], gradient: vec![], x, z, a, kept, masks, delta, next };
        net.at = net.load(parameters);
        net.gradient = net.load(&vec![0.0; parameters.len()]);
        net
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

    fn read(&mut self, matrices: &[D::Matrix], flat: &mut [f64]) {
        for (piece, matrix) in self.pieces.iter().zip(matrices) {
            let values = self.device.read(matrix);
            for (place, row) in piece.places.iter().zip(values.chunks_exact(piece.columns.max(1))) {
                flat[*place..place + piece.columns].copy_from_slice(row);
            }
        }
    }

    /// The parameters, followed by what a rule remembers.
    pub fn moved(&mut self, memory: &[Vec<D::Matrix>]) -> Vec<f64> {
        let count = self.network.parameters();
        let mut flat = vec![0.0; count * (1 + memory.len())];
        let (first, rest) = flat.split_at_mut(count);
        let at = std::mem::take(&mut self.at);
        self.read(&at, first);
        self.at = at;
        for (memory, flat) in memory.iter().zip(rest.chunks_exact_mut(count.max(1))) {
            self.read(memory, flat);
        }
        flat
    }

    /// The sum of gradients since [`Self::clear`].
    pub fn gradient(&mut self) -> Vec<f64> {
        let mut flat = vec![0.0; self.network.parameters()];
        let gradient = std::mem::take(&mut self.gradient);
        self.read(&gradient, &mut flat);
        self.gradient = gradient;
        flat
    }

    /// Forgets the gradients so far.
    pub fn clear(&mut self) {
        self.gradient.iter_mut().for_each(|piece| self.device.clear(piece));
    }

    /// Computes the outputs of some rows.
    pub fn forward(&mut self, batch: &Batch, dropout: Option<Dropout>) {
        let (device, rows) = (&mut self.device, batch.rows);
        let numbers = batch.x.len() / rows.max(1);
        self.x = device.load(rows, numbers, &batch.x);
        let last = self.network.hidden.len();
        for l in 0..=last {
            let columns = self.pieces[2 + 2 * l].columns;
            let (weights, biases) = (&self.at[if l == 0 { 0 } else { 1 + 2 * l }], &self.at[2 + 2 * l]);
            device.shape(&mut self.z[l], rows, columns);
            match (l, dropout) {
                (0, _) => {
                    device.product((&self.x, false), (weights, false), false, &mut self.z[0]);
                    device.gather(&self.at[1], &batch.codes, &mut self.z[0]);
                }
                (_, None) => device.product((&self.a[l - 1], false), (weights, false), false, &mut self.z[l]),
                (_, Some(_)) => device.product((&self.kept[l - 1], false), (weights, false), false, &mut self.z[l]),
            }
            device.add_bias(&mut self.z[l], biases);
            if l < last {
                device.activate(self.network.activation, &self.z[l], &mut self.a[l]);
                if let Some((probability, salt)) = dropout {
                    let layer = salt.wrapping_add((l as u64) << 40);
                    let left = |i: usize| if uniform(mix(i as u32, layer)) < probability { 0.0 } else { 1.0 };
                    let mask: Vec<f64> = (0..rows * columns).map(|i| left(i) / (1.0 - probability)).collect();
                    self.masks[l] = device.load(rows, columns, &mask);
                    device.mask(&self.a[l], &self.masks[l], &mut self.kept[l]);
                }
            }
        }
    }

    /// The outputs of the last rows, row by row.
    pub fn outputs(&mut self) -> Vec<f64> {
        self.device.read(&self.z[self.network.hidden.len()])
    }

    /// The loss of the last rows, with their weights; their outputs become its derivative.
    pub fn loss(&mut self, batch: &Batch, w: &[f64]) -> f64 {
        let last = self.network.hidden.len();
        self.device.loss(self.network.head, &mut self.z[last], &batch.y, w)
    }

    /// Adds the gradient of the loss of the last rows.
    pub fn backward(&mut self, batch: &Batch, dropout: Option<Dropout>) {
        let device = &mut self.device;
        let last = self.network.hidden.len();
        std::mem::swap(&mut self.delta, &mut self.z[last]);
        for l in (0..=last).rev() {
            let place = if l == 0 { 0 } else { 1 + 2 * l };
            let input = match (l, dropout) {
                (0, _) => &self.x,
                (_, None) => &self.a[l - 1],
                (_, Some(_)) => &self.kept[l - 1],
            };
            device.product((input, true), (&self.delta, false), true, &mut self.gradient[place]);
            if l == 0 {
                device.scatter(&self.delta, &batch.codes, &mut self.gradient[1]);
            }
            device.sum_rows(&self.delta, &mut self.gradient[2 + 2 * l]);
            if l > 0 {
                device.shape(&mut self.next, batch.rows, self.pieces[2 * l].columns);
                device.product((&self.delta, false), (&self.at[place], true), false, &mut self.next);
                match dropout {
                    None => std::mem::swap(&mut self.delta, &mut self.next),
                    Some(_) => device.mask(&self.next, &self.masks[l - 1], &mut self.delta),
                }
                device.slope(self.network.activation, &self.z[l - 1], &self.a[l - 1], &mut self.delta);
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

    /// The largest entry of the gradient.
    pub fn norm(&mut self) -> f64 {
        let device = &mut self.device;
        self.gradient.iter().map(|piece| device.largest(piece)).fold(0.0, |a, b| if b <= a { a } else { b })
    }

    /// A step along the gradient. `memory` has two entries for each matrix.
    pub fn step(&mut self, rule: Rule, pace: (f64, u64), memory: &mut [[D::Matrix; 2]]) {
        let all = self.at.iter_mut().zip(&self.gradient).zip(memory).zip(&self.pieces);
        for (((at, gradient), memory), piece) in all {
            self.device.step(rule, pace, piece.weights, at, gradient, memory);
        }
    }
}
