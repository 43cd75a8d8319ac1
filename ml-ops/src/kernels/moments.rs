//! First and second moments of every coordinate and of the label.

use super::drive::Pass;
use super::lanes::Lanes;
use super::sums::{Cell, Scatter, by_category, carried, magics, products};
use super::tile::{Cells, Need, Plan, Tile, Wanted};
use crate::fold::Fold;
use crate::partial::Partial;

/// [`crate::fold::Kernel::Moments`] at work.
pub(super) struct Moments<'f> {
    plan: Plan,
    shift: &'f [f64],
    label_shift: f64,
    /// Sums of the label: one for each class, two for a value, none without a label.
    label: usize,
    classes: bool,
    magics: Vec<f64>,
    codes: Vec<u32>,
    scatter: Scatter,
}

impl<'f> Moments<'f> {
    /// `classes`: whether the label is a class. The number of grids tells how many there are.
    pub fn new(fold: &Fold, shift: &'f [f64], label_shift: f64, classes: bool) -> Self {
        let plan = Plan::new(&fold.layout);
        Self {
            label: fold.grids.len().saturating_sub(1 + 2 * plan.width),
            plan,
            shift,
            label_shift,
            classes,
            magics: magics(&fold.grids),
            codes: vec![],
            scatter: Scatter::default(),
        }
    }
}

impl Pass for Moments<'_> {
    fn need(&self) -> Need {
        let label = match self.label {
            0 => Wanted::Nothing,
            n if self.classes => Wanted::Class(n),
            _ => Wanted::Value,
        };
        Need { label, train: true, held: false, hash: false, scratch: 0 }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial) {
        let (magic, counts) = (&self.magics, into.sums.counts_mut());
        let first = 1 + self.label;
        let second = first + self.plan.width;
        // SAFETY: by contract; every slice is as long as the tile.
        unsafe {
            counts[0] += products::<V, f64, 1>([tile.w.as_ptr()], tile.w.as_ptr(), tile.rows, [magic[0]])[0];
            if self.label > 0 && self.classes {
                self.codes.clear();
                self.codes.extend(tile.y.iter().map(|y| *y as u32));
                let label = 1..first;
                by_category::<V>(&mut self.scatter, &self.codes, tile.w, &magic[label.clone()], &mut counts[label]);
            } else if self.label == 2 {
                let [a, b] = powers::<V, f64>(tile.y, self.label_shift, tile.w, [magic[1], magic[2]]);
                counts[1] += a;
                counts[2] += b;
            }
            for &(column, j) in &self.plan.numeric {
                let magic = [magic[first + j], magic[second + j]];
                let [a, b] = match tile.cells[column] {
                    Cells::F32(x) => powers::<V, f32>(x, self.shift[j], tile.w, magic),
                    Cells::F64(x) => powers::<V, f64>(x, self.shift[j], tile.w, magic),
                    Cells::Codes(_) => [0, 0],
                };
                counts[first + j] += a;
                counts[second + j] += b;
            }
            for &(column, span) in &self.plan.categories {
                let Cells::Codes(codes) = tile.cells[column] else { continue };
                let place = first + span.offset..first + span.offset + span.width;
                by_category::<V>(&mut self.scatter, codes, tile.w, &magic[place.clone()], &mut counts[place]);
            }
        }
    }
}

/// `sum w d` and `sum (w d) d` with `d = x - shift`.
#[inline(always)]
unsafe fn powers<V: Lanes, C: Cell>(x: &[C], shift: f64, w: &[f64], magic: [f64; 2]) -> [i128; 2] {
    assert!(x.len() == w.len());
    // SAFETY: both slices are equally long, a multiple of the lanes.
    unsafe {
        let shift = V::splat(shift);
        let add = [V::splat(magic[0]), V::splat(magic[1])];
        let mut sums = [V::zero_bits(); 2];
        let mut i = 0;
        while i < x.len() {
            let d = C::load::<V>(x.as_ptr().add(i)).sub(shift);
            let w = V::load(w.as_ptr().add(i));
            sums[0] = V::add_bits(sums[0], w.fma(d, add[0]).bits());
            sums[1] = V::add_bits(sums[1], w.mul(d).fma(d, add[1]).bits());
            i += V::N;
        }
        [carried(V::total(sums[0]), x.len(), magic[0]), carried(V::total(sums[1]), x.len(), magic[1])]
    }
}
