//! What each operation of a network dispatches.

use super::super::rows::GpuBatch;
use super::{GpuDevice, Held};
use crate::gpu::Refusal;
use crate::gpu::matrix::{Matrix, Step, net, net_in};
use crate::gpu::shaders::{Activation as Function, NetStep, Stepping};
use crate::gpu::worker::Part;
use crate::kernels::network::{Dropout, Input};
use crate::network::{Activation, Head, Rule};

pub(super) fn function(activation: Activation) -> Function {
    match activation {
        Activation::Relu => Function::Relu,
        Activation::Tanh => Function::Tanh,
        Activation::Sigmoid => Function::Sigmoid,
        Activation::Gelu => Function::Gelu,
    }
}

/// A 64-bit number as two.
fn halves(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}

/// The constants of a mask over a matrix.
pub(super) fn mask((probability, salt): Dropout, matrix: &Matrix) -> ([u32; 8], [f32; 8]) {
    let [low, high] = halves(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // A key is below this where its 53 leading bits, as a part of one, are below the probability.
    let [below, above] = halves(((probability * 9_007_199_254_740_992.0).ceil() as u64) << 11);
    let cells = matrix.cells();
    let numbers = [matrix.rows * cells, cells, matrix.columns].map(|v| v as u32);
    let mut factors = [0.0; 8];
    factors[0] = (1.0 / (1.0 - probability)) as f32;
    ([numbers[0], numbers[1], numbers[2], 0, low, high, below, above], factors)
}

impl GpuDevice<'_> {
    /// `c = f(op(a) op(b) + ..)`, as `step` has it.
    pub(super) fn product(&mut self, step: Step, terms: usize, of: &Held) -> Result<(), Refusal> {
        self.operations += 2.0 * terms as f64 * (of.matrix.rows * of.matrix.columns) as f64;
        step.dispatch(self.worker)
    }

    /// A kernel over the entries of `c` and another matrix.
    pub(super) fn entries(&mut self, step: NetStep, a: &Matrix, c: &Held, by: f32) -> Result<(), Refusal> {
        let cells = (c.matrix.rows * c.matrix.cells()) as u32;
        let numbers = [cells, c.matrix.cells() as u32, c.matrix.columns as u32];
        let mut factors = [0.0; 8];
        factors[0] = by;
        net(self.worker, step, numbers, factors, vec![(0, a.part()), (4, c.matrix.part())])
    }

    pub(super) fn layer_of(
        &mut self,
        input: &Input<'_, Self>,
        (weights, table, bias): (&Held, Option<&Held>, &Held),
        f: Option<Activation>,
        z: &mut Held,
        a: &mut Held,
    ) -> Result<(), Refusal> {
        let (from, categories) = match input {
            Input::Rows(batch) => (&batch.filled()?.x, batch.categories.as_ref()),
            Input::Units(units) => (*units, None),
        };
        let (rows, columns, inner) = (from.matrix.rows, weights.matrix.columns, weights.matrix.rows);
        let product = |to: &Held| Step::product(&from.matrix, &weights.matrix, &to.matrix).bias(&bias.matrix);
        let table = table.zip(categories);
        if let (Some(f), None) = (f.filter(|f| *f != Activation::Gelu), table) {
            self.room(a, rows, columns)?;
            let step = product(a).activation(function(f));
            return self.product(step, inner, a);
        }
        self.room(z, rows, columns)?;
        let step = product(z);
        self.product(step, inner, z)?;
        if let Some((table, categories)) = table {
            let cells = z.matrix.cells();
            let numbers = [rows * cells, cells, categories.each, table.matrix.rows].map(|v| v as u32);
            let parts = vec![(0, table.matrix.part()), (1, Part::whole(&categories.codes)), (4, z.matrix.part())];
            net(self.worker, NetStep::Gather, numbers, [0.0; 8], parts)?;
        }
        let Some(f) = f else { return Ok(()) };
        self.room(a, rows, columns)?;
        self.entries(NetStep::Activate(function(f)), &z.matrix, a, 0.0)
    }

    pub(super) fn slope_of(
        &mut self,
        input: &Input<'_, Self>,
        delta: &Held,
        (weights, table, bias): (&mut Held, Option<&mut Held>, &mut Held),
    ) -> Result<(), Refusal> {
        let (from, categories) = match input {
            Input::Rows(batch) => (&batch.filled()?.x, batch.categories.as_ref()),
            Input::Units(units) => (*units, None),
        };
        if weights.matrix.rows > 0 {
            let mut step = Step::product(&from.matrix, &delta.matrix, &weights.matrix).transposed(true, false);
            if !std::mem::take(&mut weights.blank) {
                step = step.added();
            }
            self.product(step, delta.matrix.rows, weights)?;
        }
        if let Some((table, named)) = table.zip(categories.and_then(|categories| categories.sorted.as_ref())) {
            let cells = delta.matrix.cells();
            let bytes = (16 * cells * named.segments.max(1)) as u64;
            let sums = self.worker.scratch(bytes);
            let numbers = [named.segments * cells, cells].map(|v| v as u32);
            let mut parts = vec![(0, delta.matrix.part()), (1, Part::whole(&named.order))];
            parts.extend([(2, Part::whole(&named.starts)), (4, Part::first(&sums, bytes))]);
            net(self.worker, NetStep::Segments, numbers, [0.0; 8], parts)?;
            let add = u32::from(!std::mem::take(&mut table.blank));
            let numbers = [(table.matrix.rows * cells) as u32, cells as u32, add];
            let parts = vec![(0, Part::first(&sums, bytes)), (1, Part::whole(&named.firsts)), (4, table.matrix.part())];
            net(self.worker, NetStep::Categories, numbers, [0.0; 8], parts)?;
            self.worker.give(sums);
        }
        let add = !std::mem::take(&mut bias.blank);
        Step::SumRows { a: delta.matrix.clone(), c: bias.matrix.clone(), add }.dispatch(self.worker)
    }

    pub(super) fn loss_of(&mut self, head: Head, z: &Held, batch: &GpuBatch, share: f64) -> Result<(), Refusal> {
        let (rows, classes) = (z.matrix.rows, z.matrix.columns);
        let (softmax, scale) = match head {
            Head::Softmax => (true, 0.0),
            Head::Squared { scale, .. } => (false, scale),
        };
        let lanes = if softmax { classes.div_ceil(4).next_power_of_two().clamp(1, 256) } else { 1 };
        let per_group = 256 / lanes * 4;
        let groups = rows.div_ceil(per_group);
        let (slots, first) = self.slots(groups, Some(share));
        let numbers = [rows, per_group, classes, 4 * z.matrix.cells()].map(|v| v as u32);
        let [a, b, c, d] = numbers;
        let factors = [share as f32, scale as f32, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let filled = batch.filled()?;
        let parts = vec![(1, filled.y.matrix.part()), (2, z.matrix.part()), (4, slots), (5, filled.w.matrix.part())];
        let step = NetStep::Loss { softmax, weight: batch.weighted, lanes: lanes as u32 };
        net_in(self.worker, step, [a, b, c, d, first], factors, parts, groups as u32)
    }

    pub(super) fn step_of(
        &mut self,
        rule: Rule,
        pace: (f64, u64),
        weights: bool,
        at: &Held,
        g: &Held,
        memory: &[Held; 2],
    ) -> Result<(), Refusal> {
        let (stepping, numbers) = match rule {
            Rule::Sgd { momentum: 0.0, .. } => (Stepping::Plain, [pace.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
            Rule::Sgd { momentum, nesterov } => {
                let stepping = if nesterov { Stepping::Nesterov } else { Stepping::Momentum };
                (stepping, [pace.0, momentum, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
            }
            Rule::Adam { .. } => (Stepping::Adam, rule.adam(pace, weights)),
        };
        let cells = (at.matrix.rows * at.matrix.cells()) as u32;
        let mut parts = vec![(0, g.matrix.part()), (4, at.matrix.part())];
        parts.extend([(5, memory[0].matrix.part()), (6, memory[1].matrix.part())]);
        net(self.worker, NetStep::Step(stepping), [cells], numbers.map(|v| v as f32), parts)
    }
}
