//! A loss of one margin, and its gradient, in one pass over the columns.

use super::columns::{gradient, margins};
use super::drive::Pass;
use super::lanes::Lanes;
use super::math::logistic;
use super::sums::{Scatter, by_category, carried, magics};
use super::tile::{Cells, Need, Plan, Tile, Wanted};
use crate::fold::{Fold, Loss};
use crate::partial::Partial;

/// [`crate::fold::Kernel::Linear`] at work.
pub(super) struct Linear<'f> {
    plan: Plan,
    loss: Loss,
    intercept: f64,
    weights: &'f [f64],
    magics: Vec<f64>,
    loss_magic: f64,
    margin: Vec<f64>,
    residual: Vec<f64>,
    scatter: Scatter,
}

impl<'f> Linear<'f> {
    pub fn new(fold: &Fold, loss: Loss, intercept: f64, weights: &'f [f64]) -> Self {
        Self {
            plan: Plan::new(&fold.layout),
            loss,
            intercept,
            weights,
            magics: magics(&fold.grids),
            loss_magic: fold.loss_grid.magic(),
            margin: vec![],
            residual: vec![],
            scatter: Scatter::default(),
        }
    }
}

impl Pass for Linear<'_> {
    fn need(&self) -> Need {
        let label = if self.loss == Loss::Logistic { Wanted::Binary } else { Wanted::Value };
        Need { label, train: true, held: true, hash: false, scratch: 0 }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial) {
        self.margin.resize(tile.rows, 0.0);
        self.residual.resize(tile.rows, 0.0);
        // SAFETY: by contract; every slice is as long as the tile.
        unsafe {
            margins::<V>(&self.plan, tile, self.intercept, self.weights, &mut self.margin);
            let [first, loss, held] = match self.loss {
                Loss::Squared => {
                    residuals::<V, Squared>(tile, &self.margin, &mut self.residual, self.magics[0], self.loss_magic)
                }
                Loss::Logistic => {
                    residuals::<V, Logistic>(tile, &self.margin, &mut self.residual, self.magics[0], self.loss_magic)
                }
            };
            let totals = into.totals.counts_mut();
            totals[1] += loss;
            totals[3] += held;
            let (intercept, counts) = into.sums.counts_mut().split_at_mut(1);
            intercept[0] += first;
            let magics = &self.magics[1..];
            gradient::<V>(&self.plan, tile, &self.residual, magics, counts);
            for &(column, span) in &self.plan.categories {
                let Cells::Codes(codes) = tile.cells[column] else { continue };
                let place = span.offset..span.offset + span.width;
                by_category::<V>(&mut self.scatter, codes, &self.residual, &magics[place.clone()], &mut counts[place]);
            }
        }
    }
}

/// The derivative and the value of a loss.
trait MarginLoss {
    fn at<V: Lanes>(m: V, y: V) -> (V, V);
}

struct Squared;
impl MarginLoss for Squared {
    #[inline(always)]
    fn at<V: Lanes>(m: V, y: V) -> (V, V) {
        let d = m.sub(y);
        // SAFETY: `m` shows that the processor has the instructions.
        (d, unsafe { d.mul(d).mul(V::splat(0.5)) })
    }
}

struct Logistic;
impl MarginLoss for Logistic {
    /// `ln(1 + e^m) - y m = ln(1 + e^-|m|) + (max(m, 0) - y m)`, which is never below zero.
    #[inline(always)]
    fn at<V: Lanes>(m: V, y: V) -> (V, V) {
        let (p, tail) = logistic(m);
        // SAFETY: `m` shows that the processor has the instructions.
        let positive = m.max(unsafe { V::splat(0.0) });
        (p.sub(y), tail.add(y.fnma(m, positive)))
    }
}

/// Weighted residuals of all rows; the sum of them, of the loss and of the held-out loss.
#[inline(always)]
unsafe fn residuals<V: Lanes, L: MarginLoss>(
    tile: &Tile<'_>,
    m: &[f64],
    r: &mut [f64],
    magic: f64,
    loss_magic: f64,
) -> [i128; 3] {
    let rows = tile.rows;
    assert!(
        m.len() == rows && r.len() == rows && tile.y.len() == rows && tile.w.len() == rows && tile.held.len() == rows
    );
    // SAFETY: every slice is as long as the tile, a multiple of the lanes.
    unsafe {
        let (add, loss_add) = (V::splat(magic), V::splat(loss_magic));
        let (mut sum, mut loss, mut held) = (V::zero_bits(), V::zero_bits(), V::zero_bits());
        let mut i = 0;
        while i < rows {
            let (slope, value) = L::at(V::load(m.as_ptr().add(i)), V::load(tile.y.as_ptr().add(i)));
            let w = V::load(tile.w.as_ptr().add(i));
            let residual = w.mul(slope);
            residual.store(r.as_mut_ptr().add(i));
            sum = V::add_bits(sum, residual.add(add).bits());
            loss = V::add_bits(loss, w.fma(value, loss_add).bits());
            if tile.any_held {
                held = V::add_bits(held, V::load(tile.held.as_ptr().add(i)).fma(value, loss_add).bits());
            }
            i += V::N;
        }
        let held_terms = if tile.any_held { rows } else { 0 };
        [
            carried(V::total(sum), rows, magic),
            carried(V::total(loss), rows, loss_magic),
            carried(V::total(held), held_terms, loss_magic),
        ]
    }
}
