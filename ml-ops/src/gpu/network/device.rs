//! A device at work on a network: what it holds, and what waits to be sent off.

mod operations;

use std::collections::VecDeque;
use std::sync::Arc;

use wgpu::Buffer;

use super::rows::{GpuBatch, Lying, Resident};
use crate::block::Block;
use crate::error::Result as MlResult;
use crate::fold::Layout;
use crate::gpu::Refusal;
use crate::gpu::matrix::{Matrix, Step, net, net_in, padded};
use crate::gpu::shaders::NetStep;
use crate::gpu::worker::{Fetch, Part, Worker};
use crate::kernels::network::{Device, Dropout, Input, Inputs, Rows, Tally};
use crate::network::{Activation, Head, Network, Rule};
use operations::{function, mask};

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
#[derive(Clone, Debug)]
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
    pub(in crate::gpu) worker: &'w mut Worker,
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

    /// The buffers that it took so far: they are not given back with the others.
    pub fn keep(&mut self) -> Vec<Buffer> {
        std::mem::take(&mut self.buffers)
    }

    /// The entries of a matrix, on their way to the host; nothing waits for them.
    pub fn fetch(&mut self, held: &Held) -> Fetch {
        let bytes = 16 * (held.matrix.rows * held.matrix.cells()) as u64;
        self.worker.fetch(&[(held.matrix.buffer.clone(), bytes)])
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
