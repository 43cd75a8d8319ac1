//! The operations of networks as dispatches.

use std::collections::VecDeque;
use std::sync::Arc;

use wgpu::Buffer;

use super::super::Refusal;
use super::super::matrix::{Matrix, Step, net, net_in, padded};
use super::super::shaders::{Activation as Function, NetStep, Stepping};
use super::super::worker::{Part, Worker};
use super::rows::{GpuBatch, Lying, Resident};
use crate::block::Block;
use crate::error::Result as MlResult;
use crate::fold::Layout;
use crate::kernels::network::{Device, Dropout, Input, Inputs, Rows, Tally};
use crate::network::{Activation, Head, Network, Rule};

/// Bytes of a layer's units for the rows that go through it together.
const TILE_BYTES: usize = 64 << 20;
/// Tiles whose gradients are added up in single precision.
const MOST_TILES: u32 = 32;
/// Operations, and dispatches, after which what waits is sent off.
const OPERATIONS: f64 = 2e10;
const DISPATCHES: usize = 192;
/// Submissions under way before the host waits for the oldest.
const AHEAD: usize = 3;
/// Numbers of a buffer of tallies.
const SLOTS: usize = 1 << 16;
/// Groups that look for a largest entry.
const SEARCHERS: u32 = 64;

/// A matrix of a pass. Where `blank` is set all of it is zero, whatever its buffer holds.
#[derive(Debug)]
pub(crate) struct Held {
    pub(super) matrix: Matrix,
    blank: bool,
    /// Whether its buffer is its own.
    own: bool,
}

/// Numbers that kernels leave for the end of a pass.
#[derive(Debug)]
struct Slots {
    buffer: Buffer,
    used: usize,
}

/// A loss (times what) or a largest entry: where its numbers are.
#[derive(Debug)]
struct Asked {
    slots: usize,
    first: usize,
    count: usize,
    share: Option<f64>,
}

/// A device at work on one shard.
pub(crate) struct GpuDevice<'w> {
    pub(super) worker: &'w mut Worker,
    pub(super) lying: Arc<Lying>,
    /// Where the shard is, if it stays.
    pub(super) resident: Option<Resident>,
    refusal: Option<Refusal>,
    slots: Vec<Slots>,
    asked: Vec<Asked>,
    /// What matrices have that have no room yet.
    empty: Buffer,
    /// Buffers to give back.
    buffers: Vec<Buffer>,
    operations: f64,
    sent: VecDeque<wgpu::SubmissionIndex>,
}

fn function(activation: Activation) -> Function {
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
fn mask((probability, salt): Dropout, matrix: &Matrix) -> ([u32; 8], [f32; 8]) {
    let [low, high] = halves(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    // A key is below this where its 53 leading bits, as a part of one, are below the probability.
    let [below, above] = halves(((probability * 9_007_199_254_740_992.0).ceil() as u64) << 11);
    let cells = matrix.cells();
    let numbers = [matrix.rows * cells, cells, matrix.columns].map(|v| v as u32);
    let mut factors = [0.0; 8];
    factors[0] = (1.0 / (1.0 - probability)) as f32;
    ([numbers[0], numbers[1], numbers[2], 0, low, high, below, above], factors)
}

impl<'w> GpuDevice<'w> {
    pub fn new(worker: &'w mut Worker, network: &Network, layout: &Layout) -> Self {
        let empty = worker.scratch(16);
        Self {
            worker,
            empty,
            lying: Arc::new(Lying::new(network, layout)),
            resident: None,
            refusal: None,
            slots: Vec::new(),
            asked: Vec::new(),
            buffers: Vec::new(),
            operations: 0.0,
            sent: VecDeque::new(),
        }
    }

    /// Whether it does; an error says why it does no more.
    pub fn goes_on(&mut self) -> Result<bool, Refusal> {
        if !self.worker.is_wanted() {
            return Err(Refusal::Cancelled);
        }
        self.refusal.take().map_or(Ok(true), Err)
    }

    /// Gives its buffers back. Everything was read before.
    pub fn release(&mut self) {
        for buffer in self.buffers.drain(..).chain(self.slots.drain(..).map(|slots| slots.buffer)) {
            self.worker.give(buffer);
        }
    }

    fn ask(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Refusal>) {
        if self.refusal.is_none() {
            self.refusal = work(self).err();
        }
    }

    /// A matrix without room.
    pub(super) fn nothing(&self) -> Held {
        let matrix = Matrix { rows: 0, columns: 0, buffer: self.empty.clone() };
        Held { matrix, blank: false, own: false }
    }

    /// Makes room for `[rows, columns]`; what it held is lost.
    pub(super) fn room(&mut self, held: &mut Held, rows: usize, columns: usize) -> Result<(), Refusal> {
        let bytes = 16 * (rows * columns.div_ceil(4)) as u64;
        let limits = self.worker.device.limits();
        let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        if bytes > limit {
            return Err(Refusal::Unsupported(format!("a matrix of {bytes} bytes, the device binds {limit}")));
        }
        if !held.own || held.matrix.buffer.size() < bytes {
            held.matrix.buffer = self.worker.scratch(bytes);
            held.own = true;
            self.buffers.push(held.matrix.buffer.clone());
        }
        (held.matrix.rows, held.matrix.columns, held.blank) = (rows, columns, false);
        Ok(())
    }

    /// Sends off what waits; the host stays a few submissions ahead at most.
    pub(super) fn submit(&mut self) {
        if self.worker.waiting() > 0 {
            let index = self.worker.submit();
            self.sent.push_back(index);
            self.operations = 0.0;
        }
    }

    /// `c = f(op(a) op(b) + ..)`, as `step` has it.
    fn product(&mut self, step: Step, terms: usize, of: &Held) -> Result<(), Refusal> {
        self.operations += 2.0 * terms as f64 * (of.matrix.rows * of.matrix.columns) as f64;
        step.dispatch(self.worker)
    }

    /// Room for so many numbers of a tally.
    fn slots(&mut self, count: usize, share: Option<f64>) -> (Part, u32) {
        if self.slots.last().is_none_or(|slots| slots.used + count > slots.buffer.size() as usize / 4) {
            let buffer = self.worker.scratch(4 * SLOTS.max(count) as u64);
            self.slots.push(Slots { buffer, used: 0 });
        }
        let at = self.slots.len() - 1;
        let slots = &mut self.slots[at];
        let first = slots.used;
        slots.used += count;
        self.asked.push(Asked { slots: at, first, count, share });
        (Part::whole(&slots.buffer), first as u32)
    }

    /// A kernel over the entries of `c` and another matrix.
    fn entries(&mut self, step: NetStep, a: &Matrix, c: &Held, by: f32) -> Result<(), Refusal> {
        let cells = (c.matrix.rows * c.matrix.cells()) as u32;
        let numbers = [cells, c.matrix.cells() as u32, c.matrix.columns as u32];
        let mut factors = [0.0; 8];
        factors[0] = by;
        net(self.worker, step, numbers, factors, vec![(0, a.part()), (4, c.matrix.part())])
    }

    fn layer_of(
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

    fn slope_of(
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
        if let Some((table, named)) = table.zip(categories) {
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

    fn loss_of(&mut self, head: Head, z: &Held, batch: &GpuBatch, share: f64) -> Result<(), Refusal> {
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

    fn step_of(
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

impl Device for GpuDevice<'_> {
    type Matrix = Held;
    type Batch = GpuBatch;

    const INDICATORS: usize = super::super::frame::MOST_INDICATORS;

    fn tile(&self, widest: usize) -> usize {
        let most = if self.worker.shared.software { 1 << 12 } else { 1 << 16 };
        (TILE_BYTES / (4 * widest.max(1))).clamp(256, most) / 64 * 64
    }

    fn most_tiles(&self) -> Option<u32> {
        Some(MOST_TILES)
    }

    fn load(&mut self, rows: usize, columns: usize, values: &[f64]) -> Held {
        let mut held = self.nothing();
        if rows * columns == 0 {
            (held.matrix.rows, held.matrix.columns) = (rows, columns);
            return held;
        }
        self.ask(|device| {
            device.room(&mut held, rows, columns)?;
            // Written before what is submitted next, so what waits must have gone.
            device.submit();
            let values = values.iter().map(|v| *v as f32).collect::<Vec<_>>();
            let values = padded(rows, columns, &values);
            device.worker.write(&held.matrix.buffer, 0, bytemuck::cast_slice(&values));
            Ok(())
        });
        held
    }

    fn read(&mut self, matrices: &[&Held]) -> Vec<Vec<f64>> {
        let mut values = Vec::new();
        self.ask(|device| {
            let bytes = |held: &Held| (16 * held.matrix.rows * held.matrix.cells()) as u64;
            let wanted = matrices.iter().map(|held| (held.matrix.buffer.clone(), bytes(held)));
            let found = device.worker.read(&wanted.filter(|(_, bytes)| *bytes > 0).collect::<Vec<_>>())?;
            let mut found = found.into_iter();
            for held in matrices {
                let (rows, columns) = (held.matrix.rows, held.matrix.columns);
                let bytes = if rows * columns > 0 { found.next().unwrap_or_default() } else { Vec::new() };
                let words: Vec<f64> =
                    bytes.as_chunks().0.iter().map(|word| f64::from(f32::from_le_bytes(*word))).collect();
                let of_row = |row: &[f64]| if held.blank { vec![0.0; columns] } else { row[..columns].to_vec() };
                values.push(words.chunks_exact((4 * held.matrix.cells()).max(1)).flat_map(of_row).collect());
            }
            Ok(())
        });
        values
    }

    fn clear(&mut self, matrix: &mut Held) {
        matrix.blank = true;
    }

    fn hold(&mut self, _: &Inputs, block: &Block, classes: usize) -> MlResult<()> {
        self.ask(|device| device.find(block, classes));
        Ok(())
    }

    fn pick(
        &mut self,
        inputs: &Inputs,
        block: &Block,
        rows: &Rows,
        classes: usize,
        batch: &mut GpuBatch,
    ) -> MlResult<()> {
        self.ask(|device| device.gather(inputs, block, rows, classes, batch));
        Ok(())
    }

    fn layer(
        &mut self,
        input: Input<'_, Self>,
        parameters: (&Held, Option<&Held>, &Held),
        f: Option<Activation>,
        z: &mut Held,
        a: &mut Held,
    ) {
        self.ask(|device| device.layer_of(&input, parameters, f, z, a));
    }

    fn drop_out(&mut self, dropout: Dropout, a: &Held, _: &mut Held, kept: &mut Held) {
        self.ask(|device| {
            device.room(kept, a.matrix.rows, a.matrix.columns)?;
            let (numbers, factors) = mask(dropout, &a.matrix);
            let parts = vec![(0, a.matrix.part()), (4, kept.matrix.part())];
            net(device.worker, NetStep::Keep, numbers, factors, parts)
        });
    }

    fn back(
        &mut self,
        delta: &Held,
        weights: &Held,
        dropout: Option<(Dropout, &Held)>,
        (f, z, a): (Activation, &Held, &Held),
        to: &mut Held,
    ) {
        self.ask(|device| {
            device.room(to, delta.matrix.rows, weights.matrix.rows)?;
            let at = if f == Activation::Gelu { z } else { a };
            let step = Step::product(&delta.matrix, &weights.matrix, &to.matrix).transposed(false, true);
            let Some((dropout, _)) = dropout else {
                let step = step.slope(function(f), &at.matrix);
                return device.product(step, delta.matrix.columns, to);
            };
            device.product(step, delta.matrix.columns, to)?;
            let (numbers, factors) = mask(dropout, &to.matrix);
            let parts = vec![(0, at.matrix.part()), (4, to.matrix.part())];
            net(device.worker, NetStep::MaskedSlope(function(f)), numbers, factors, parts)
        });
    }

    fn slope(&mut self, input: Input<'_, Self>, delta: &Held, gradient: (&mut Held, Option<&mut Held>, &mut Held)) {
        self.ask(|device| device.slope_of(&input, delta, gradient));
    }

    fn loss(&mut self, head: Head, z: &mut Held, batch: &GpuBatch, share: f64) {
        self.ask(|device| device.loss_of(head, z, batch, share));
    }

    fn add_scaled(&mut self, x: &Held, by: f64, g: &mut Held) {
        let blank = std::mem::take(&mut g.blank);
        self.ask(|device| match blank || x.matrix.rows == 0 {
            // Nothing but the penalty of rows that were never there.
            true => Ok(()),
            false => device.entries(NetStep::AddScaled, &x.matrix, g, by as f32),
        });
        g.blank = blank;
    }

    fn largest(&mut self, matrix: &Held) {
        let cells = (matrix.matrix.rows * matrix.matrix.cells()) as u32;
        if cells == 0 || matrix.blank {
            return;
        }
        self.ask(|device| {
            let groups = cells.div_ceil(256).min(SEARCHERS);
            let (slots, first) = device.slots(groups as usize, None);
            let parts = vec![(0, matrix.matrix.part()), (4, slots)];
            net_in(device.worker, NetStep::Largest, [cells, 0, 0, 0, first], [0.0; 8], parts, groups)
        });
    }

    fn step(&mut self, rule: Rule, pace: (f64, u64), weights: bool, at: &mut Held, g: &Held, memory: &mut [Held; 2]) {
        if at.matrix.rows > 0 {
            self.ask(|device| device.step_of(rule, pace, weights, at, g, memory));
        }
    }

    fn tally(&mut self) -> Tally {
        let mut tally = Tally::default();
        let asked = std::mem::take(&mut self.asked);
        self.ask(|device| {
            let wanted: Vec<_> = device.slots.iter().map(|s| (s.buffer.clone(), 4 * s.used as u64)).collect();
            let found = device.worker.read(&wanted)?;
            for Asked { slots, first, count, share } in asked {
                let words = &found[slots].as_chunks().0[first..first + count];
                let numbers = words.iter().map(|word| f64::from(f32::from_le_bytes(*word)));
                match share {
                    Some(share) => tally.losses.push(numbers.sum::<f64>() * share),
                    None => {
                        tally.largest = numbers.fold(tally.largest, |top, v| if v <= top { top } else { v });
                    }
                }
            }
            device.slots.iter_mut().for_each(|slots| slots.used = 0);
            Ok(())
        });
        tally
    }

    fn pause(&mut self) {
        let software = self.worker.shared.software;
        if software || self.operations > OPERATIONS || self.worker.waiting() > DISPATCHES {
            self.submit();
        }
        while self.sent.len() > AHEAD {
            let Some(oldest) = self.sent.pop_front() else { return };
            self.ask(|device| device.worker.wait(oldest));
        }
    }
}
