//! What a fitted network says of rows.

use super::super::tile::{Cells, Tile};
use super::batch::Inputs;
use super::device::Device;
use super::net::Net;
use super::processor::{Loaded, Processor};
use crate::fold::Layout;
use crate::network::Network;

/// A network ready to score tiles, in double precision. Tiles come in multiples of the padding, so that a row's
/// outputs do not depend on the rows beside it.
pub(in crate::kernels) struct Outputs<'f> {
    net: Net<'f, Processor<f64>>,
    network: &'f Network,
    inputs: Inputs,
    batch: Loaded<f64>,
}

impl<'f> Outputs<'f> {
    pub fn new(network: &'f Network, layout: &Layout, parameters: &[f64]) -> Self {
        let mut net = Net::bare(Processor::default(), network, layout);
        *net.parameters() = net.load(parameters);
        let inputs = Inputs::new(network, layout, Processor::<f64>::INDICATORS);
        Self { net, network, inputs, batch: Loaded::default() }
    }

    pub fn count(&self) -> usize {
        self.network.outputs
    }

    /// Doubles of each row at work.
    pub fn scratch(&self) -> usize {
        self.inputs.scales().len() + 2 * self.network.hidden.iter().sum::<usize>() + self.network.outputs
    }

    /// Writes `out[s * rows + i]` for every output s and row i.
    pub fn compute(&mut self, tile: &Tile<'_>, out: &mut [f64]) {
        let number = |column: usize, i: usize| match tile.cells[column] {
            Cells::F32(v) => f64::from(v[i]),
            Cells::F64(v) => v[i],
            Cells::Codes(_) => 0.0,
        };
        let code = |column: usize, i: usize| match tile.cells[column] {
            Cells::Codes(v) => v[i],
            _ => u32::MAX,
        };
        self.batch.fill(|batch| self.inputs.fill(tile.rows, |i| i, number, code, batch));
        self.net.forward(&self.batch, None);
        let outputs = self.net.outputs();
        for (i, row) in outputs.chunks_exact(self.network.outputs.max(1)).enumerate() {
            row.iter().enumerate().for_each(|(s, value)| out[s * tile.rows + i] = *value);
        }
    }
}
