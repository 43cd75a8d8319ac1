//! The nearest of some centres, and the sums of the rows around each.
//!
//! `d^2 = sum (z_j - c_j)^2`: a chain of fused multiply-adds over the numbers in their order, then one
//! addition for each categorical feature, of a number that depends on the row's category and the centre
//! alone (all of the feature's coordinates but one are zero in z) and is computed once.

use super::columns::{stage, stride};
use super::drive::Pass;
use super::lanes::{Lanes, PAD};
use super::sums::{Scatter, carried, magics, products};
use super::tile::{Cells, Need, Plan, Tile, Wanted};
use crate::fold::Fold;
use crate::partial::Partial;

/// Centres, laid out for the computation of distances.
pub(super) struct Distances<'f> {
    pub plan: Plan,
    pub shift: &'f [f64],
    pub scale: &'f [f64],
    pub count: usize,
    /// For each block of centres and each numeric column, the block's coordinates.
    packed: Vec<f64>,
    /// For each categorical feature, `[K, width + 1]`: what each category adds, the last for none of them.
    categories: Vec<Vec<f64>>,
    /// Staged numeric columns.
    pub z: Vec<f64>,
    pub stride: usize,
    /// Index of the nearest centre, and the squared distance to it.
    pub nearest: Vec<u32>,
    pub distance: Vec<f64>,
}

/// Centres of a block: twice as many running distances are held in registers.
const BLOCK: usize = 4;

impl<'f> Distances<'f> {
    pub fn new(plan: Plan, shift: &'f [f64], scale: &'f [f64], centers: &[f64]) -> Self {
        let width = plan.width;
        let count = centers.len().checked_div(width).unwrap_or(0);
        let mut packed = vec![];
        for block in (0..count).step_by(BLOCK) {
            for &(_, j) in &plan.numeric {
                // Centres that only fill a block are infinitely far.
                let far = f64::INFINITY;
                packed.extend((block..block + BLOCK).map(|k| if k < count { centers[k * width + j] } else { far }));
            }
        }
        let categories = plan.categories.iter().map(|&(_, span)| {
            let mut table = Vec::with_capacity(count * (span.width + 1));
            for k in 0..count {
                let c = &centers[k * width + span.offset..][..span.width];
                category_terms(c, &scale[span.offset..span.offset + span.width], &mut table);
            }
            table
        });
        let categories = categories.collect();
        Self { plan, shift, scale, count, packed, categories, z: vec![], stride: 0, nearest: vec![], distance: vec![] }
    }

    /// Stages a tile's numeric columns.
    ///
    /// # Safety
    /// The processor has the instructions of `V`.
    #[inline(always)]
    pub unsafe fn stage<V: Lanes>(&mut self, tile: &Tile<'_>) {
        self.stride = stride(tile.rows);
        self.z.resize(self.plan.numeric.len() * self.stride, 0.0);
        // SAFETY: by contract.
        unsafe { stage::<V>(&self.plan, tile, Some((self.shift, self.scale)), self.stride, &mut self.z) };
    }

    /// Finds the nearest centre of every row of a staged tile; the lowest index wins a tie.
    ///
    /// # Safety
    /// The processor has the instructions of `V`.
    #[inline(always)]
    pub unsafe fn assign<V: Lanes>(&mut self, tile: &Tile<'_>) {
        self.nearest.resize(tile.rows, 0);
        self.distance.resize(tile.rows, 0.0);
        let mut index = [0.0; PAD];
        let mut i = 0;
        while i < tile.rows {
            // SAFETY: by contract; two vectors divide the rows.
            unsafe {
                let mut best = [V::splat(f64::INFINITY); 2];
                let mut which = [V::splat(0.0); 2];
                let mut first = 0;
                while first < self.count {
                    let d = self.block::<V>(tile, i, first);
                    for (k, d) in d.iter().enumerate().take(self.count - first) {
                        let k = V::splat((first + k) as f64);
                        for half in 0..2 {
                            let closer = d[half].less(best[half]);
                            best[half] = V::pick(closer, d[half], best[half]);
                            which[half] = V::pick(closer, k, which[half]);
                        }
                    }
                    first += BLOCK;
                }
                for half in 0..2 {
                    best[half].store(self.distance.as_mut_ptr().add(i + half * V::N));
                    which[half].store(index.as_mut_ptr().add(half * V::N));
                }
            }
            for (to, from) in self.nearest[i..i + 2 * V::N].iter_mut().zip(index) {
                *to = from as u32;
            }
            i += 2 * V::N;
        }
    }

    /// Writes the squared distances of all rows to all centres, `out[k * rows + i]`.
    ///
    /// # Safety
    /// The processor has the instructions of `V`.
    #[inline(always)]
    pub unsafe fn all<V: Lanes>(&mut self, tile: &Tile<'_>, out: &mut [f64]) {
        assert!(out.len() == self.count * tile.rows);
        for first in (0..self.count).step_by(BLOCK) {
            let mut i = 0;
            while i < tile.rows {
                // SAFETY: by contract; two vectors divide the rows, and `out` holds them for every centre.
                unsafe {
                    let d = self.block::<V>(tile, i, first);
                    for (k, d) in d.iter().enumerate().take(self.count - first) {
                        for half in 0..2 {
                            d[half].store(out.as_mut_ptr().add((first + k) * tile.rows + i + half * V::N));
                        }
                    }
                }
                i += 2 * V::N;
            }
        }
    }

    /// Squared distances of two vectors of rows to the centres of a block.
    #[inline(always)]
    unsafe fn block<V: Lanes>(&self, tile: &Tile<'_>, i: usize, first: usize) -> [[V; 2]; BLOCK] {
        let columns = self.plan.numeric.len();
        // SAFETY: by contract; the staged columns and the packed centres lie inside their buffers.
        unsafe {
            let mut d = [[V::splat(0.0); 2]; BLOCK];
            let mut z = self.z.as_ptr().wrapping_add(i);
            let mut c = self.packed.as_ptr().wrapping_add(first * columns);
            for _ in 0..columns {
                let (z0, z1) = (V::load(z), V::load(z.add(V::N)));
                for k in 0..BLOCK {
                    let c = V::splat(*c.add(k));
                    let (a, b) = (z0.sub(c), z1.sub(c));
                    d[k] = [a.fma(a, d[k][0]), b.fma(b, d[k][1])];
                }
                z = z.wrapping_add(self.stride);
                c = c.wrapping_add(BLOCK);
            }
            for (&(column, span), table) in self.plan.categories.iter().zip(&self.categories) {
                let Cells::Codes(codes) = tile.cells[column] else { continue };
                let codes = &codes[i..i + 2 * V::N];
                for k in 0..BLOCK.min(self.count - first) {
                    let table = &table[(first + k) * (span.width + 1)..][..span.width + 1];
                    let mut terms = [0.0; PAD];
                    for (term, &code) in terms.iter_mut().zip(codes) {
                        *term = table[(code as usize).min(span.width)];
                    }
                    d[k] = [d[k][0].add(V::load(terms.as_ptr())), d[k][1].add(V::load(terms.as_ptr().add(V::N)))];
                }
            }
            d
        }
    }
}

/// `sum_j (z_j - c_j)^2` over one categorical feature, for each category and for none of them. No term
/// is ever taken off again, so nothing cancels.
fn category_terms(c: &[f64], scale: &[f64], table: &mut Vec<f64>) {
    let mut after = vec![0.0; c.len() + 1];
    for j in (0..c.len()).rev() {
        after[j] = c[j].mul_add(c[j], after[j + 1]);
    }
    let mut before = 0.0;
    for j in 0..c.len() {
        let own = scale[j] - c[j];
        table.push(own.mul_add(own, before + after[j + 1]));
        before = c[j].mul_add(c[j], before);
    }
    table.push(before);
}

/// [`crate::fold::Kernel::Centroids`] at work.
pub(super) struct Centroids<'f> {
    distances: Distances<'f>,
    /// `[K, 1 + P]`.
    magics: Vec<f64>,
    /// Whether all centres have the grids of the first.
    uniform: bool,
    loss_magic: f64,
    scatter: Scatter,
    index: Vec<u32>,
}

impl<'f> Centroids<'f> {
    pub fn new(fold: &Fold, shift: &'f [f64], scale: &'f [f64], centers: &[f64]) -> Self {
        let distances = Distances::new(Plan::new(&fold.layout), shift, scale, centers);
        let width = 1 + distances.plan.width;
        let magics = magics(&fold.grids);
        let uniform = magics.iter().enumerate().all(|(i, m)| m.to_bits() == magics[i % width].to_bits());
        let loss_magic = fold.loss_grid.magic();
        Self { distances, magics, uniform, loss_magic, scatter: Scatter::default(), index: vec![] }
    }

    /// Adds `fma(w, z, magic)` of every row to entry `entry` of its centre.
    #[inline(always)]
    unsafe fn scatter<V: Lanes>(&mut self, tile: &Tile<'_>, z: Option<usize>, entry: usize, counts: &mut [i128]) {
        let Distances { z: staged, stride, nearest, plan, count, .. } = &self.distances;
        let width = 1 + plan.width;
        let z = z.map(|j| &staged[j * stride..][..tile.rows]);
        if !self.uniform {
            for (i, (&k, &w)) in nearest.iter().zip(tile.w).enumerate() {
                let at = k as usize * width + entry;
                let magic = self.magics[at];
                counts[at] += carried(w.mul_add(z.map_or(1.0, |z| z[i]), magic).to_bits() as i64, 1, magic);
            }
            return;
        }
        // SAFETY: by contract; both slices are as long as the tile.
        unsafe {
            match z {
                None => self.scatter.round::<V>(tile.w, 1.0, self.magics[entry]),
                Some(z) => self.scatter.round_products::<V>(z, tile.w, self.magics[entry]),
            }
        }
        self.scatter.add(nearest, *count, &mut counts[entry..], width);
    }

    /// Adds the weights of one categorical feature's rows, each to its centre and category.
    #[inline(always)]
    unsafe fn scatter_codes<V: Lanes>(&mut self, tile: &Tile<'_>, feature: usize, counts: &mut [i128]) {
        let Distances { nearest, plan, scale, count, .. } = &self.distances;
        let (column, span) = plan.categories[feature];
        let Cells::Codes(codes) = tile.cells[column] else { return };
        let (first, width) = (1 + span.offset, 1 + plan.width);
        let (magics, scales) = (&self.magics[first..first + span.width], &scale[span.offset..span.offset + span.width]);
        let same = self.uniform
            && magics.iter().all(|m| m.to_bits() == magics[0].to_bits())
            && scales.iter().all(|s| s.to_bits() == scales[0].to_bits());
        if !same || count * span.width > tile.rows / 2 {
            for ((&k, &code), &w) in nearest.iter().zip(codes).zip(tile.w) {
                if (code as usize) < span.width {
                    let at = k as usize * width + first + code as usize;
                    let term = w.mul_add(scales[code as usize], self.magics[at]);
                    counts[at] += carried(term.to_bits() as i64, 1, self.magics[at]);
                }
            }
            return;
        }
        self.index.clear();
        self.index.extend(
            nearest
                .iter()
                .zip(codes)
                .map(|(&k, &code)| if (code as usize) < span.width { k * span.width as u32 + code } else { u32::MAX }),
        );
        let places = count * span.width;
        let mut found = vec![0; places];
        // SAFETY: by contract.
        unsafe { self.scatter.round::<V>(tile.w, scales[0], magics[0]) };
        self.scatter.add(&self.index, places, &mut found, 1);
        for (at, sum) in found.into_iter().enumerate() {
            counts[at / span.width * width + first + at % span.width] += sum;
        }
    }
}

impl Pass for Centroids<'_> {
    fn need(&self) -> Need {
        Need {
            label: Wanted::Nothing,
            train: true,
            held: true,
            hash: false,
            scratch: self.distances.plan.numeric.len() + 1,
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial) {
        // SAFETY: by contract; every slice is as long as the tile.
        unsafe {
            self.distances.stage::<V>(tile);
            self.distances.assign::<V>(tile);
            let totals = into.totals.counts_mut();
            for (weights, total) in [(tile.w, 1), (tile.held, 3)] {
                if total == 1 || tile.any_held {
                    totals[total] += weigh::<V>(weights, &self.distances.distance, self.loss_magic);
                }
            }
            let counts = into.sums.counts_mut();
            if self.distances.count == 0 {
                return;
            }
            self.scatter::<V>(tile, None, 0, counts);
            for j in 0..self.distances.plan.numeric.len() {
                let entry = 1 + self.distances.plan.numeric[j].1;
                self.scatter::<V>(tile, Some(j), entry, counts);
            }
            for feature in 0..self.distances.plan.categories.len() {
                self.scatter_codes::<V>(tile, feature, counts);
            }
        }
    }
}

/// `sum w d^2`.
///
/// # Safety
/// The processor has the instructions of `V`, whose lanes divide the rows.
#[inline(always)]
pub(super) unsafe fn weigh<V: Lanes>(w: &[f64], d: &[f64], magic: f64) -> i128 {
    assert!(w.len() == d.len());
    // SAFETY: both are as long as the tile; the rest by contract.
    unsafe { products::<V, f64, 1>([d.as_ptr()], w.as_ptr(), w.len(), [magic])[0] }
}
