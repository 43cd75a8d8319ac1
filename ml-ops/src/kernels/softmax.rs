//! Softmax over several margins: classes in blocks, so that a read of a column feeds all of a block.

use super::columns::{stage, stride};
use super::drive::Pass;
use super::lanes::{Lanes, PAD};
use super::math::{exp_short, ln_lanes};
use super::sums::{Scatter, by_category, carried, magics, sum};
use super::tile::{Cells, Need, Plan, Tile, Wanted};
use crate::fold::Fold;
use crate::partial::Partial;

/// Margins of several classes.
pub(super) struct Margins<'f> {
    pub plan: Plan,
    intercepts: &'f [f64],
    weights: &'f [f64],
    /// For each block of classes and each numeric column, the block's weights.
    packed: Vec<f64>,
    blocks: Vec<(usize, usize)>,
    /// Staged numeric columns.
    pub z: Vec<f64>,
    /// `[K, stride]`.
    pub m: Vec<f64>,
    pub stride: usize,
}

/// Classes of a block, at most: twice as many running margins fill the registers.
const BLOCK: usize = 5;

impl<'f> Margins<'f> {
    pub fn new(plan: Plan, intercepts: &'f [f64], weights: &'f [f64]) -> Self {
        let classes = intercepts.len();
        let mut blocks = vec![];
        let mut first = 0;
        while first < classes {
            // As even as can be: ten classes are five and five.
            let left = (classes - first).div_ceil(BLOCK);
            let n = (classes - first).div_ceil(left);
            blocks.push((first, n));
            first += n;
        }
        let mut packed = vec![];
        for &(first, n) in &blocks {
            for &(_, j) in &plan.numeric {
                packed.extend((first..first + n).map(|k| weights[k * plan.width + j]));
            }
        }
        Self { plan, intercepts, weights, packed, blocks, z: vec![], m: vec![], stride: 0 }
    }

    pub fn classes(&self) -> usize {
        self.intercepts.len()
    }

    /// Computes `m[k][i]` for the rows of a tile; each is the chain of [`super::columns::margins`].
    ///
    /// # Safety
    /// The processor has the instructions of `V`.
    #[inline(always)]
    pub unsafe fn compute<V: Lanes>(&mut self, tile: &Tile<'_>) {
        self.stride = stride(tile.rows);
        let columns = self.plan.numeric.len();
        self.z.resize(columns * self.stride, 0.0);
        self.m.resize(self.classes() * self.stride, 0.0);
        // SAFETY: by contract; a block's margins and the staged columns lie inside their buffers.
        unsafe {
            stage::<V>(&self.plan, tile, None, self.stride, &mut self.z);
            let mut packed = self.packed.as_ptr();
            for &(first, n) in &self.blocks {
                let start = self.intercepts.as_ptr().add(first);
                let m = self.m.as_mut_ptr().add(first * self.stride);
                let z = Staged { at: self.z.as_ptr(), columns, stride: self.stride, rows: tile.rows };
                match n {
                    5 => block::<V, 5>(z, start, packed, m),
                    4 => block::<V, 4>(z, start, packed, m),
                    3 => block::<V, 3>(z, start, packed, m),
                    2 => block::<V, 2>(z, start, packed, m),
                    _ => block::<V, 1>(z, start, packed, m),
                }
                packed = packed.add(n * columns);
            }
        }
        for &(column, span) in &self.plan.categories {
            let Cells::Codes(codes) = tile.cells[column] else { continue };
            for (k, m) in self.m.chunks_exact_mut(self.stride).enumerate() {
                let weights = &self.weights[k * self.plan.width + span.offset..][..span.width];
                for (m, &code) in m.iter_mut().zip(codes) {
                    if let Some(w) = weights.get(code as usize) {
                        *m += w;
                    }
                }
            }
        }
    }
}

/// Columns of doubles at a distance of `stride`.
#[derive(Clone, Copy)]
struct Staged {
    at: *const f64,
    columns: usize,
    stride: usize,
    rows: usize,
}

#[inline(always)]
unsafe fn block<V: Lanes, const K: usize>(z: Staged, start: *const f64, packed: *const f64, m: *mut f64) {
    // SAFETY: by contract; two vectors divide the rows.
    unsafe {
        let mut i = 0;
        while i < z.rows {
            let mut sums = [[V::splat(0.0); 2]; K];
            for k in 0..K {
                sums[k] = [V::splat(*start.add(k)); 2];
            }
            let mut x = z.at.add(i);
            let mut w = packed;
            for _ in 0..z.columns {
                let (x0, x1) = (V::load(x), V::load(x.add(V::N)));
                for k in 0..K {
                    let w = V::splat(*w.add(k));
                    sums[k] = [x0.fma(w, sums[k][0]), x1.fma(w, sums[k][1])];
                }
                x = x.add(z.stride);
                w = w.add(K);
            }
            for k in 0..K {
                sums[k][0].store(m.add(k * z.stride + i));
                sums[k][1].store(m.add(k * z.stride + i + V::N));
            }
            i += 2 * V::N;
        }
    }
}

/// [`crate::fold::Kernel::Softmax`] at work.
pub(super) struct Softmax<'f> {
    margins: Margins<'f>,
    /// `[K, 1 + P]`.
    magics: Vec<f64>,
    loss_magic: f64,
    scatter: Scatter,
}

impl<'f> Softmax<'f> {
    pub fn new(fold: &Fold, intercepts: &'f [f64], weights: &'f [f64]) -> Self {
        Self {
            margins: Margins::new(Plan::new(&fold.layout), intercepts, weights),
            magics: magics(&fold.grids),
            loss_magic: fold.loss_grid.magic(),
            scatter: Scatter::default(),
        }
    }
}

impl Pass for Softmax<'_> {
    fn need(&self) -> Need {
        let scratch = self.margins.plan.numeric.len() + self.margins.classes();
        Need { label: Wanted::Class(self.margins.classes()), train: true, held: true, hash: false, scratch }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial) {
        // SAFETY: by contract; see the callees.
        unsafe {
            self.margins.compute::<V>(tile);
            let Margins { plan, z, m, stride, .. } = &mut self.margins;
            let (classes, width) = (m.len() / *stride, 1 + plan.width);
            let [loss, held] = residuals::<V>(tile, m, *stride, self.loss_magic);
            let totals = into.totals.counts_mut();
            totals[1] += loss;
            totals[3] += held;
            let counts = into.sums.counts_mut();
            for k in 0..classes {
                counts[k * width] += sum::<V>(m[k * *stride..].as_ptr(), tile.rows, self.magics[k * width]);
            }
            let shape = Shape { width, stride: *stride, rows: tile.rows };
            let mut k = 0;
            while k < classes {
                let pair = k + 1 < classes
                    && plan.numeric.iter().all(|&(_, j)| {
                        self.magics[k * width + 1 + j].to_bits() == self.magics[(k + 1) * width + 1 + j].to_bits()
                    });
                let (counts, magics) = (&mut counts[k * width..], &self.magics[k * width..]);
                let r = m[k * *stride..].as_ptr();
                if pair {
                    class_gradient::<V, 2>(plan, z, r, shape, magics, counts);
                    k += 2;
                } else {
                    class_gradient::<V, 1>(plan, z, r, shape, magics, counts);
                    k += 1;
                }
            }
            for &(column, span) in &plan.categories {
                let Cells::Codes(codes) = tile.cells[column] else { continue };
                for k in 0..classes {
                    let place = k * width + 1 + span.offset..k * width + 1 + span.offset + span.width;
                    let r = &m[k * *stride..][..tile.rows];
                    by_category::<V>(&mut self.scatter, codes, r, &self.magics[place.clone()], &mut counts[place]);
                }
            }
        }
    }
}

/// Turns margins into weighted residuals; the loss and the held-out loss.
#[inline(always)]
unsafe fn residuals<V: Lanes>(tile: &Tile<'_>, m: &mut [f64], stride: usize, loss_magic: f64) -> [i128; 2] {
    let classes = m.len() / stride;
    let rows = tile.rows;
    assert!(tile.y.len() == rows && tile.w.len() == rows && tile.held.len() == rows && stride >= rows);
    // SAFETY: `m` holds `stride` doubles for each class, at least the rows; the rest by contract.
    unsafe {
        let add = V::splat(loss_magic);
        let (mut loss, mut held) = (V::zero_bits(), V::zero_bits());
        let mut i = 0;
        while i < rows {
            let at = m.as_mut_ptr().add(i);
            let y = V::load(tile.y.as_ptr().add(i));
            let w = V::load(tile.w.as_ptr().add(i));
            let mut top = V::load(at);
            let mut own = top;
            for k in 1..classes {
                let m = V::load(at.add(k * stride));
                top = top.max(m);
                own = V::pick(y.equal(V::splat(k as f64)), m, own);
            }
            let mut total = V::splat(0.0);
            for k in 0..classes {
                let e = exp_short(V::load(at.add(k * stride)).sub(top));
                e.store(at.add(k * stride));
                total = total.add(e);
            }
            for k in 0..classes {
                let p = V::load(at.add(k * stride)).div(total);
                let hit = V::pick(y.equal(V::splat(k as f64)), V::splat(1.0), V::splat(0.0));
                w.mul(p.sub(hit)).store(at.add(k * stride));
            }
            let value = ln_lanes(total).add(top.sub(own));
            loss = V::add_bits(loss, w.fma(value, add).bits());
            if tile.any_held {
                held = V::add_bits(held, V::load(tile.held.as_ptr().add(i)).fma(value, add).bits());
            }
            i += V::N;
        }
        let held_terms = if tile.any_held { rows } else { 0 };
        [carried(V::total(loss), rows, loss_magic), carried(V::total(held), held_terms, loss_magic)]
    }
}

#[derive(Clone, Copy)]
struct Shape {
    width: usize,
    stride: usize,
    rows: usize,
}

/// `sum r_k x_j` for all numeric columns and `K` neighbouring classes whose grids are equal.
#[inline(always)]
unsafe fn class_gradient<V: Lanes, const K: usize>(
    plan: &Plan,
    z: &[f64],
    r: *const f64,
    shape: Shape,
    magics: &[f64],
    counts: &mut [i128],
) {
    let columns = plan.numeric.len();
    let mut j = 0;
    while j < columns {
        let coordinate = |c: usize| 1 + plan.numeric[j + c].1;
        let at = z[j * shape.stride..].as_ptr();
        // SAFETY: the columns lie inside `z`; the rest by contract.
        unsafe {
            if columns - j >= 4 {
                let magic = [0, 1, 2, 3].map(|c| magics[coordinate(c)]);
                let sums = tiles::<V, 4, K>(at, r, shape, magic);
                for c in 0..4 {
                    for k in 0..K {
                        counts[k * shape.width + coordinate(c)] += sums[c][k];
                    }
                }
                j += 4;
            } else {
                let sums = tiles::<V, 1, K>(at, r, shape, [magics[coordinate(0)]]);
                for k in 0..K {
                    counts[k * shape.width + coordinate(0)] += sums[0][k];
                }
                j += 1;
            }
        }
    }
}

#[inline(always)]
unsafe fn tiles<V: Lanes, const C: usize, const K: usize>(
    z: *const f64,
    r: *const f64,
    shape: Shape,
    magic: [f64; C],
) -> [[i128; K]; C] {
    // SAFETY: by contract.
    unsafe {
        let mut sums = [[V::zero_bits(); K]; C];
        let mut add = [V::splat(0.0); C];
        for c in 0..C {
            add[c] = V::splat(magic[c]);
        }
        let mut i = 0;
        while i < shape.rows {
            let mut residual = [V::splat(0.0); K];
            for k in 0..K {
                residual[k] = V::load(r.add(k * shape.stride + i));
            }
            for c in 0..C {
                let x = V::load(z.add(c * shape.stride + i));
                for k in 0..K {
                    sums[c][k] = V::add_bits(sums[c][k], x.fma(residual[k], add[c]).bits());
                }
            }
            i += V::N;
        }
        let mut out = [[0; K]; C];
        for c in 0..C {
            for k in 0..K {
                out[c][k] = carried(V::total(sums[c][k]), shape.rows, magic[c]);
            }
        }
        out
    }
}

const _: () = assert!(PAD.is_multiple_of(16), "two vectors of the widest type divide a tile");
