//! Weighted cross products of all coordinates: a product of matrices with exact sums, in blocks of
//! registers inside blocks of the cache.

use super::columns::{margins, stage, stride};
use super::drive::Pass;
use super::lanes::Lanes;
use super::math::sigmoid_lanes;
use super::sums::{carried, magics};
use super::tile::{Cells, Need, Plan, Tile, Wanted};
use crate::error::{MlError, Result};
use crate::fold::{Curvature, Fold};
use crate::partial::Partial;

/// [`crate::fold::Kernel::Gram`] at work.
pub(super) struct Gram<'f> {
    plan: Plan,
    shift: &'f [f64],
    scale: &'f [f64],
    label: Option<(f64, f64)>,
    curvature: &'f Curvature,
    magic: f64,
    /// Entries of z.
    size: usize,
    /// Where each staged column stands among the entries of z.
    entry: Vec<usize>,
    z: Vec<f64>,
    h: Vec<f64>,
    hz: Vec<f64>,
}

/// Columns of z that stay in the second-level cache while others pass by.
const PANEL: usize = 48;

impl<'f> Gram<'f> {
    /// # Errors
    /// When the grids differ.
    pub fn new(
        fold: &'f Fold,
        shift: &'f [f64],
        scale: &'f [f64],
        label: Option<(f64, f64)>,
        curvature: &'f Curvature,
    ) -> Result<Self> {
        let all = magics(&fold.grids);
        let magic = all.first().copied().unwrap_or(0.0);
        if all.iter().any(|m| m.to_bits() != magic.to_bits()) {
            return Err(MlError::Internal("the cross products of a fold have different grids".into()));
        }
        let plan = Plan::new(&fold.layout);
        let size = 1 + plan.width + usize::from(label.is_some());
        Ok(Self { plan, shift, scale, label, curvature, magic, size, entry: vec![], z: vec![], h: vec![], hz: vec![] })
    }

    /// Fills `z` with the entries of a tile's rows, one column after the other.
    #[inline(always)]
    unsafe fn entries<V: Lanes>(&mut self, tile: &Tile<'_>, stride: usize) {
        let rows = tile.rows;
        self.z.resize((self.size + 4) * stride, 0.0);
        // Numbers are staged from the first column on; `entry` remembers which they are.
        // SAFETY: by contract.
        unsafe { stage::<V>(&self.plan, tile, Some((self.shift, self.scale)), stride, &mut self.z) };
        self.entry.clear();
        self.entry.extend(self.plan.numeric.iter().map(|&(_, j)| 1 + j));
        for &(column, span) in &self.plan.categories {
            let Cells::Codes(codes) = tile.cells[column] else { continue };
            let first = self.entry.len();
            self.z[first * stride..(first + span.width) * stride].fill(0.0);
            for (i, &code) in codes.iter().enumerate() {
                if (code as usize) < span.width {
                    self.z[(first + code as usize) * stride + i] = self.scale[span.offset + code as usize];
                }
            }
            self.entry.extend((0..span.width).map(|k| 1 + span.offset + k));
        }
        if let Some((shift, scale)) = self.label {
            let place = &mut self.z[self.entry.len() * stride..][..rows];
            for (z, y) in place.iter_mut().zip(tile.y) {
                *z = (y - shift) * scale;
            }
            self.entry.push(self.size - 1);
        }
        self.z[self.entry.len() * stride..][..rows].fill(1.0);
        self.entry.push(0);
    }
}

impl Pass for Gram<'_> {
    fn need(&self) -> Need {
        let label = if self.label.is_some() { Wanted::Value } else { Wanted::Nothing };
        Need { label, train: true, held: false, hash: false, scratch: self.size }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial) {
        let stride = stride(tile.rows);
        // SAFETY: by contract; every slice is as long as the tile.
        unsafe {
            self.h.clear();
            self.h.resize(tile.rows, 0.0);
            match self.curvature {
                Curvature::Weight => self.h.copy_from_slice(tile.w),
                Curvature::Logistic { intercept, weights } => {
                    margins::<V>(&self.plan, tile, *intercept, weights, &mut self.h);
                    curvature::<V>(tile.w, &mut self.h);
                }
            }
            self.entries::<V>(tile, stride);
            self.hz.resize(2 * stride, 0.0);
            let counts = into.sums.counts_mut();
            let n = self.size;
            let place = |a: usize, b: usize| {
                let (a, b) = (a.min(b), a.max(b));
                a * (2 * n + 1 - a) / 2 + b - a
            };
            for panel in (0..n).step_by(PANEL) {
                let end = (panel + PANEL).min(n);
                for a in (0..end).step_by(2) {
                    let pair = if a + 1 < n { 2 } else { 1 };
                    for c in 0..pair {
                        weighted::<V>(
                            &self.h,
                            &self.z[(a + c) * stride..][..tile.rows],
                            &mut self.hz[c * stride..][..tile.rows],
                        );
                    }
                    // Blocks of four start where the panel does, so the diagonal may cut through one.
                    let first = if a > panel { panel + (a - panel) / 4 * 4 } else { panel };
                    for b in (first..end).step_by(4) {
                        let sums = products::<V>(
                            self.hz.as_ptr(),
                            self.z.as_ptr().add(b * stride),
                            stride,
                            tile.rows,
                            self.magic,
                        );
                        for (c, sums) in sums.iter().enumerate().take(pair) {
                            for (d, sum) in sums.iter().enumerate().take(end - b) {
                                if b + d >= a + c {
                                    counts[place(self.entry[a + c], self.entry[b + d])] += sum;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `w p (1 - p)` in the place of the margin.
#[inline(always)]
unsafe fn curvature<V: Lanes>(w: &[f64], m: &mut [f64]) {
    assert!(w.len() == m.len());
    let mut i = 0;
    while i < m.len() {
        // SAFETY: both are equally long, a multiple of the lanes; the rest by contract.
        unsafe {
            let at = m.as_mut_ptr().add(i);
            let p = sigmoid_lanes(V::load(at));
            V::load(w.as_ptr().add(i)).mul(p.mul(V::splat(1.0).sub(p))).store(at);
        }
        i += V::N;
    }
}

#[inline(always)]
unsafe fn weighted<V: Lanes>(h: &[f64], z: &[f64], out: &mut [f64]) {
    assert!(h.len() == z.len() && z.len() == out.len());
    let mut i = 0;
    while i < z.len() {
        // SAFETY: all are equally long, a multiple of the lanes; the rest by contract.
        unsafe { V::load(h.as_ptr().add(i)).mul(V::load(z.as_ptr().add(i))).store(out.as_mut_ptr().add(i)) };
        i += V::N;
    }
}

/// Two columns against four.
#[inline(always)]
unsafe fn products<V: Lanes>(hz: *const f64, z: *const f64, stride: usize, rows: usize, magic: f64) -> [[i128; 4]; 2] {
    // SAFETY: by contract; the buffers hold that many columns.
    unsafe {
        let mut sums = [[V::zero_bits(); 4]; 2];
        let add = V::splat(magic);
        let mut i = 0;
        while i < rows {
            let (a0, a1) = (V::load(hz.add(i)), V::load(hz.add(stride + i)));
            for b in 0..4 {
                let z = V::load(z.add(b * stride + i));
                sums[0][b] = V::add_bits(sums[0][b], a0.fma(z, add).bits());
                sums[1][b] = V::add_bits(sums[1][b], a1.fma(z, add).bits());
            }
            i += V::N;
        }
        let mut out = [[0; 4]; 2];
        for a in 0..2 {
            for b in 0..4 {
                out[a][b] = carried(V::total(sums[a][b]), rows, magic);
            }
        }
        out
    }
}
