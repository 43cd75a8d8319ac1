//! What a virtual shard contributes: its loss, its gradient, or where steps over its mini-batches lead.
//!
//! The rows of the block are in canonical order, training rows first (see [`crate::store`]), and everything
//! below goes through them in an order that depends on nothing else. The result is one gathered row under the
//! shard's number: [`HEAD`] numbers, then the gradient, or the parameters and what the rule remembers.

use super::batch::{Inputs, Rows};
use super::device::Device;
use super::net::Net;
use crate::block::Block;
use crate::error::{MlError, Result};
use crate::fold::{Layout, ROLE_EVAL, ROLE_TRAIN, mix};
use crate::network::{Head, Network, Steps, Work, shard_of};
use crate::partial::Partial;

/// Numbers in front of a shard's result: the weight of its training rows, weight and loss of those that were
/// looked at, weight and loss of its held-out rows, and the largest entry of the last gradient.
pub(crate) const HEAD: usize = 6;

/// The work on one shard, done bit by bit so that it can be left in between.
pub(crate) struct Lesson<'f, D: Device> {
    net: Net<'f, D>,
    inputs: Inputs,
    work: Work,
    block: &'f Block,
    shard: u32,
    classes: usize,
    train: usize,
    held: usize,
    memory: Vec<[D::Matrix; 2]>,
    batch: D::Batch,
    /// The next row of those that are only looked at, and the next step.
    row: usize,
    step: u32,
    head: [f64; HEAD],
    /// Where each loss that the device tallied belongs, and what it was multiplied by.
    losses: Vec<(usize, f64)>,
    /// Tiles since the gradient was read, and what was read of it so far.
    tiles: u32,
    gradient: Vec<f64>,
}

impl<'f, D: Device> Lesson<'f, D> {
    /// The work on `block`, a whole shard of `shards`. Parameters are `[P]`, and for steps what the rule
    /// remembers.
    ///
    /// # Errors
    /// When the block is no shard in canonical order.
    pub fn new(
        device: D,
        network: &'f Network,
        layout: &Layout,
        parameters: &[f64],
        (work, shards): (Work, u32),
        block: &'f Block,
    ) -> Result<Self> {
        let odd = |what: &str| MlError::Internal(format!("a network's block is no shard: {what}"));
        let hash = block.hash.as_ref().ok_or_else(|| odd("it has no row hashes"))?;
        let (Some(first), Some(last)) = (hash.first(), hash.get(block.rows.wrapping_sub(1))) else {
            return Err(odd("it has no rows"));
        };
        let shard = shard_of(*first, shards);
        if shard_of(*last, shards) != shard {
            return Err(odd("its rows belong to several"));
        }
        let until = |role: u8| block.role.as_ref().map_or(block.rows, |roles| roles.partition_point(|r| *r <= role));
        let train = until(ROLE_TRAIN);
        let held = until(ROLE_EVAL) - train;
        let mass = match &block.weight {
            Some(w) => w[..train].iter().sum(),
            None => train as f64,
        };
        let count = network.parameters();
        let mut net = Net::new(device, network, layout, &parameters[..count]);
        let mut memory = Vec::new();
        if let Work::Steps(_) = work {
            let mut parts = parameters[count..].chunks_exact(count.max(1));
            let mut remembered = || match parts.next() {
                Some(part) => net.load(part),
                None => net.nothing(),
            };
            let (first, second) = (remembered(), remembered());
            memory = first.into_iter().zip(second).map(|(a, b)| [a, b]).collect();
        }
        let inputs = Inputs::new(network, layout, D::INDICATORS);
        let classes = if network.head == Head::Softmax { network.outputs } else { 0 };
        net.device.hold(&inputs, block, classes)?;
        Ok(Self {
            net,
            inputs,
            work,
            block,
            shard,
            classes,
            train,
            held,
            memory,
            batch: D::Batch::default(),
            row: 0,
            step: 0,
            head: [mass, 0.0, 0.0, 0.0, 0.0, 0.0],
            losses: Vec::new(),
            tiles: 0,
            gradient: Vec::new(),
        })
    }

    /// Rows that are looked at as they lie: the first, and one after the last.
    fn looked_at(&self) -> (usize, usize) {
        match self.work {
            Work::Loss | Work::Gradient => (0, self.train + self.held),
            Work::Steps(Steps { held: true, .. }) => (self.train, self.train + self.held),
            Work::Steps(_) => (0, 0),
        }
    }

    /// Does some more; returns whether there is more to do.
    ///
    /// # Errors
    /// When a row has no label of the network's kind.
    pub fn advance(&mut self) -> Result<bool> {
        let (first, end) = self.looked_at();
        self.row = self.row.max(first);
        if self.row < end {
            // A tile has rows of one role.
            let edge = if self.row < self.train { self.train } else { end };
            let next = (self.row + self.net.tile()).min(edge);
            self.look(self.row..next)?;
            self.row = next;
            return Ok(true);
        }
        if let Work::Steps(steps) = self.work
            && self.step < steps.count
        {
            self.take(&steps, steps.first + u64::from(self.step))?;
            self.step += 1;
            return Ok(true);
        }
        Ok(false)
    }

    fn look(&mut self, rows: std::ops::Range<usize>) -> Result<()> {
        let held = rows.start >= self.train;
        let rows = Rows::Range(rows);
        self.net.device.pick(&self.inputs, self.block, &rows, self.classes, &mut self.batch)?;
        self.net.forward(&self.batch, None);
        self.net.loss(&self.batch, 1.0);
        let at = if held { 3 } else { 1 };
        self.head[at] += rows.weight(self.block);
        self.losses.push((at + 1, 1.0));
        if self.work == Work::Gradient && !held {
            self.net.backward(&self.batch, None);
            self.tiles += 1;
            if self.net.device.most_tiles().is_some_and(|most| self.tiles >= most) {
                self.drain();
            }
        }
        self.net.device.pause();
        Ok(())
    }

    /// Adds up what the device has of the gradient, in double precision.
    fn drain(&mut self) {
        let part = self.net.gradient();
        if self.gradient.is_empty() {
            self.gradient = part;
        } else {
            self.gradient.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        self.net.clear();
        self.tiles = 0;
    }

    /// One step: the batch that is its turn in this epoch's order.
    fn take(&mut self, steps: &Steps, number: u64) -> Result<()> {
        let (epoch, turn) = (number / u64::from(steps.per_epoch), number % u64::from(steps.per_epoch));
        let edge = |turn: u64| (turn as u128 * self.train as u128 / u128::from(steps.per_epoch)) as usize;
        let places = edge(turn)..edge(turn + 1);
        if places.is_empty() {
            return Ok(());
        }
        let salt = mix(self.shard, steps.seed);
        let shuffle = super::shuffle::Shuffle::new(self.train, salt.wrapping_add(epoch));
        let rows = Rows::Picked(places.map(|place| shuffle.at(place) as u32).collect());
        self.net.device.pick(&self.inputs, self.block, &rows, self.classes, &mut self.batch)?;
        let share = 1.0 / (steps.mean_weight * rows.len() as f64);
        let dropout = (steps.dropout > 0.0).then(|| (steps.dropout, salt.wrapping_add(number << 8)));
        self.net.clear();
        self.net.forward(&self.batch, dropout);
        self.net.loss(&self.batch, share);
        self.net.backward(&self.batch, dropout);
        self.net.penalise(steps.l2);
        self.head[1] += rows.weight(self.block);
        self.losses.push((2, share));
        if self.step + 1 == steps.count {
            self.net.norm();
        }
        self.net.step(steps.rule, (steps.rate, number + 1), &mut self.memory);
        self.net.device.pause();
        Ok(())
    }

    /// The device.
    pub fn device(&mut self) -> &mut D {
        &mut self.net.device
    }

    /// Adds the result.
    pub fn finish(&mut self, into: &mut Partial) {
        let tally = self.net.device.tally();
        self.losses.iter().zip(tally.losses).for_each(|((at, share), loss)| self.head[*at] += loss / share);
        self.head[5] = tally.largest;
        into.rows += self.train as u64;
        into.eval_rows += self.held as u64;
        for (at, rows) in [(0, 0..self.train), (2, self.train..self.train + self.held)] {
            match &self.block.weight {
                Some(w) => w[rows].iter().for_each(|w| into.totals.add(at, *w, 1.0)),
                None => {
                    let one = i128::from(into.totals.grid(at).quantize(1.0, 1.0));
                    into.totals.counts_mut()[at] += one * rows.len() as i128;
                }
            }
        }
        let rest = match self.work {
            Work::Loss => Vec::new(),
            Work::Gradient if self.gradient.is_empty() => self.net.gradient(),
            Work::Gradient => {
                self.drain();
                std::mem::take(&mut self.gradient)
            }
            Work::Steps(steps) => {
                let mut parts = [Vec::new(), Vec::new()];
                for [first, second] in std::mem::take(&mut self.memory) {
                    parts[0].push(first);
                    parts[1].push(second);
                }
                self.net.moved(&parts[..steps.rule.memory()])
            }
        };
        let row = self.head.into_iter().chain(rest).collect();
        into.gathered.rows.push((u64::from(self.shard), row));
    }
}
