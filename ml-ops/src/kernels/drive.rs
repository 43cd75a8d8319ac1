//! Cuts blocks into tiles, weighs their rows, and runs a kernel over those that count.

use super::isa::{Isa, Job};
use super::lanes::{Lanes, PAD};
use super::pending::Pending;
use super::tile::{Need, Tile, Wanted, cells, check};
use crate::block::{Block, Column, Label};
use crate::error::{MlError, Result};
use crate::exact::TILE_TERMS;
use crate::fold::{Fold, RoleSet, Sample};
use crate::partial::Partial;

/// A kernel at work.
pub(super) trait Pass {
    /// What it asks of its tiles.
    fn need(&self) -> Need;

    /// Adds what the rows of a tile contribute.
    ///
    /// # Safety
    /// The processor has the instructions of `V`.
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial);
}

/// Bytes of a tile that should stay in the second-level cache.
const TILE_BYTES: usize = 256 << 10;

/// A fold under way.
pub(super) struct Driver<'f, P> {
    isa: Isa,
    fold: &'f Fold,
    pass: P,
    /// Rows of a tile, when forced.
    forced: Option<usize>,
    train: [f64; 256],
    eval: [f64; 256],
    y: Vec<f64>,
    w: Vec<f64>,
    held: Vec<f64>,
    picked: Vec<u32>,
    pending: Pending,
}

impl<'f, P: Pass> Driver<'f, P> {
    pub fn new(isa: Isa, forced: Option<usize>, fold: &'f Fold, pass: P) -> Self {
        let indicator = |set: RoleSet| std::array::from_fn(|role| f64::from(u8::from(set.contains(role as u8))));
        Self {
            isa,
            fold,
            pass,
            forced,
            train: indicator(fold.train),
            eval: indicator(fold.eval),
            y: vec![],
            w: vec![],
            held: vec![],
            picked: vec![],
            pending: Pending::default(),
        }
    }

    /// Rows of a tile: what the second-level cache holds, but enough to be worth a loop.
    fn tile_rows(&self, block: &Block) -> usize {
        let rows = self.forced.unwrap_or_else(|| {
            let cell = |c: &Column| if matches!(c, Column::F64(_)) { 8 } else { 4 };
            let bytes: usize = block.columns.iter().map(cell).sum();
            match self.pass.need().scratch {
                0 => (TILE_BYTES / bytes.max(1)).clamp(256, 1024),
                // Measured: staged columns are read many times, and shorter ones come from nearer caches.
                doubles => (TILE_BYTES / (8 * doubles)).clamp(256, 512),
            }
        });
        rows.clamp(1, TILE_TERMS).next_multiple_of(PAD)
    }

    /// Adds the rows of a block.
    pub fn block(&mut self, block: &Block, into: &mut Partial) -> Result<()> {
        let need = self.pass.need();
        check(block, &self.fold.layout, need.label)?;
        if block.hash.is_none() && (need.hash || self.fold.sample.is_some()) && block.rows > 0 {
            return Err(MlError::Internal("a block has no row hashes, and its fold needs them".into()));
        }
        let size = self.tile_rows(block);
        let longest = size.min(block.rows);
        self.w.clear();
        self.w.resize(longest, 0.0);
        self.held.clear();
        self.held.resize(longest, 0.0);
        self.y.clear();
        self.y.resize(longest, 0.0);
        for start in (0..block.rows).step_by(size) {
            self.window(block, start, size.min(block.rows - start), size, need, into)?;
        }
        Ok(())
    }

    /// Adds the rows that wait for a full tile.
    pub fn finish(&mut self, into: &mut Partial) {
        let (isa, pass) = (self.isa, &mut self.pass);
        self.pending.flush(|tile| isa.run(RunTile { pass, tile, into }));
    }

    fn window(
        &mut self,
        block: &Block,
        start: usize,
        rows: usize,
        size: usize,
        need: Need,
        into: &mut Partial,
    ) -> Result<()> {
        let range = start..start + rows;
        let hash = block.hash.as_ref().map_or(&[][..], |v| &v[range.clone()]);
        let mut found = Found::default();
        self.isa.run(Weigh {
            weight: block.weight.as_ref().map(|v| &v[range.clone()]),
            role: block.role.as_ref().map(|v| &v[range.clone()]),
            sample: self.fold.sample.map(|sample| (sample, hash)),
            indicators: (&self.train, &self.eval),
            magic: self.fold.weight_grid.magic(),
            w: &mut self.w[..rows],
            held: &mut self.held[..rows],
            found: &mut found,
        });
        into.rows += found.train.rows;
        into.eval_rows += found.eval.rows;
        let totals = into.totals.counts_mut();
        totals[0] += i128::from(found.train.weight);
        totals[2] += i128::from(found.eval.weight);
        let counted = if need.train { found.train.nonzero } else { 0 } + if need.held { found.eval.nonzero } else { 0 };
        if counted == 0 {
            return Ok(());
        }
        let all = counted >= rows as u64;
        if !need.train {
            self.w[..rows].fill(0.0);
        }
        if !need.held {
            self.held[..rows].fill(0.0);
        }
        let y = label(block, start, rows, need.label, &self.w[..rows], &self.held[..rows], &mut self.y[..rows])?;
        let cells_all = cells(block, start, rows);
        let tile = Tile {
            rows,
            cells: &cells_all,
            y,
            w: &self.w[..rows],
            held: &self.held[..rows],
            any_held: need.held && found.eval.nonzero > 0,
            hash: if need.hash { hash } else { &[] },
        };
        // Where most rows count they are used where they lie, else the few are gathered into full tiles.
        let dense = if all || counted * 2 > rows as u64 { rows & !(PAD - 1) } else { 0 };
        self.picked.clear();
        let counts = |i: &u32| all || tile.w[*i as usize] != 0.0 || tile.held[*i as usize] != 0.0;
        self.picked.extend((dense as u32..rows as u32).filter(counts));
        let (isa, pass) = (self.isa, &mut self.pass);
        if self.pending.len() + self.picked.len() > size {
            self.pending.flush(|tile| isa.run(RunTile { pass, tile, into }));
        }
        self.pending.append(&tile, &self.picked);
        if dense > 0 {
            let cells = cells(block, start, dense);
            let tile = Tile {
                rows: dense,
                cells: &cells,
                y: &tile.y[..dense],
                w: &tile.w[..dense],
                held: &tile.held[..dense],
                hash: tile.hash.get(..dense).unwrap_or(&[]),
                ..tile
            };
            isa.run(RunTile { pass, tile: &tile, into });
        }
        Ok(())
    }
}

struct RunTile<'a, 't, P> {
    pass: &'a mut P,
    tile: &'a Tile<'t>,
    into: &'a mut Partial,
}

impl<P: Pass> Job for RunTile<'_, '_, P> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        // SAFETY: by contract.
        unsafe { self.pass.tile::<V>(self.tile, self.into) }
    }
}

/// The labels of some rows as numbers; zero for rows that do not count.
fn label<'a>(
    block: &'a Block,
    start: usize,
    rows: usize,
    wanted: Wanted,
    w: &[f64],
    held: &[f64],
    scratch: &'a mut [f64],
) -> Result<&'a [f64]> {
    let range = start..start + rows;
    match (&block.label, wanted) {
        (Label::None, _) | (_, Wanted::Nothing) => scratch.fill(0.0),
        (Label::Value(v), _) if block.role.is_none() => return Ok(&v[range]),
        (Label::Value(v), _) => {
            for (i, (to, &from)) in scratch.iter_mut().zip(&v[range]).enumerate() {
                *to = if w[i] != 0.0 || held[i] != 0.0 { from } else { 0.0 };
            }
        }
        (Label::Class(v), _) => {
            let classes = match wanted {
                Wanted::Class(k) => k as u64,
                Wanted::Binary => 2,
                _ => u64::MAX,
            };
            for (i, (to, &from)) in scratch.iter_mut().zip(&v[range]).enumerate() {
                let counts = w[i] != 0.0 || held[i] != 0.0;
                if counts && u64::from(from) >= classes {
                    return Err(MlError::Internal(format!("a row has class {from} of {classes}")));
                }
                *to = if counts { f64::from(from) } else { 0.0 };
            }
        }
    }
    Ok(scratch)
}

#[derive(Default)]
struct Counted {
    rows: u64,
    nonzero: u64,
    /// In units of the weight grid.
    weight: i64,
}

#[derive(Default)]
struct Found {
    train: Counted,
    eval: Counted,
}

/// Finds each row's weight as a training row and as a held-out row.
struct Weigh<'a> {
    weight: Option<&'a [f64]>,
    role: Option<&'a [u8]>,
    sample: Option<(Sample, &'a [u32])>,
    indicators: (&'a [f64; 256], &'a [f64; 256]),
    magic: f64,
    w: &'a mut [f64],
    held: &'a mut [f64],
    found: &'a mut Found,
}

impl Job for Weigh<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let (train, eval) = self.indicators;
        match self.role {
            None => {
                self.w.fill(train[0]);
                self.held.fill(eval[0]);
            }
            Some(role) => {
                for ((w, held), &role) in self.w.iter_mut().zip(self.held.iter_mut()).zip(role) {
                    *w = train[usize::from(role)];
                    *held = eval[usize::from(role)];
                }
            }
        }
        if let Some((sample, hash)) = self.sample {
            for (w, &hash) in self.w.iter_mut().zip(hash) {
                *w = if sample.takes(hash) { *w } else { 0.0 };
            }
        }
        count(self.w, self.weight, self.magic, &mut self.found.train);
        count(self.held, self.weight, self.magic, &mut self.found.eval);
    }
}

/// Counts the rows that `indicator` marks, and turns it into their weights.
#[inline(always)]
fn count(indicator: &mut [f64], weight: Option<&[f64]>, magic: f64, found: &mut Counted) {
    let base = magic.to_bits() as i64;
    let (mut rows, mut nonzero, mut sum) = (0i64, 0i64, 0i64);
    match weight {
        None => {
            for w in indicator.iter() {
                rows += i64::from(*w != 0.0);
            }
            nonzero = rows;
            sum = rows.wrapping_mul(((1.0 + magic).to_bits() as i64).wrapping_sub(base));
        }
        Some(weight) => {
            for (w, &weight) in indicator.iter_mut().zip(weight) {
                rows += i64::from(*w != 0.0);
                *w *= weight;
                nonzero += i64::from(*w != 0.0);
                sum = sum.wrapping_add(((*w + magic).to_bits() as i64).wrapping_sub(base));
            }
        }
    }
    *found = Counted { rows: rows as u64, nonzero: nonzero as u64, weight: sum };
}
