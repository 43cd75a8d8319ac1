//! Exact sums inside a tile: integer additions of the bits of `fma(x, r, magic)`.

use super::lanes::Lanes;
use crate::exact::Grid;

/// A column's cells in memory.
pub(super) trait Cell: Copy {
    /// `N` cells as doubles.
    ///
    /// # Safety
    /// As [`Lanes::load`].
    unsafe fn load<V: Lanes>(at: *const Self) -> V;
}

impl Cell for f64 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(at: *const f64) -> V {
        // SAFETY: by contract.
        unsafe { V::load(at) }
    }
}

impl Cell for f32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(at: *const f32) -> V {
        // SAFETY: by contract.
        unsafe { V::widen(at) }
    }
}

/// The units in `total`, the sum of the bits of `terms` terms.
#[inline(always)]
pub(super) fn carried(total: i64, terms: usize, magic: f64) -> i128 {
    i128::from(total.wrapping_sub((terms as i64).wrapping_mul(magic.to_bits() as i64)))
}

/// The magic constants of `grids`.
pub(super) fn magics(grids: &[Grid]) -> Vec<f64> {
    grids.iter().map(|grid| grid.magic()).collect()
}

/// Adds `fma(x, r, magic)` over all rows to `counts`, for `N` columns at once: each `r` is read once.
///
/// # Safety
/// Every pointer is readable for `rows` cells, and the processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn products<V: Lanes, C: Cell, const N: usize>(
    x: [*const C; N],
    r: *const f64,
    rows: usize,
    magic: [f64; N],
) -> [i128; N] {
    // SAFETY: by contract; `rows` is a multiple of the lanes.
    unsafe {
        let mut sums = [V::zero_bits(); N];
        let mut magics = [V::splat(0.0); N];
        for j in 0..N {
            magics[j] = V::splat(magic[j]);
        }
        let mut i = 0;
        while i < rows {
            let r = V::load(r.add(i));
            for j in 0..N {
                sums[j] = V::add_bits(sums[j], C::load::<V>(x[j].add(i)).fma(r, magics[j]).bits());
            }
            i += V::N;
        }
        let mut out = [0; N];
        for j in 0..N {
            out[j] = carried(V::total(sums[j]), rows, magic[j]);
        }
        out
    }
}

/// The sum of `r` alone, `fma(1, r, magic)`.
///
/// # Safety
/// `r` is readable for `rows` doubles, a multiple of the lanes; the processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn sum<V: Lanes>(r: *const f64, rows: usize, magic: f64) -> i128 {
    // SAFETY: by contract.
    unsafe {
        let add = V::splat(magic);
        let mut total = V::zero_bits();
        let mut i = 0;
        while i < rows {
            total = V::add_bits(total, V::load(r.add(i)).add(add).bits());
            i += V::N;
        }
        carried(V::total(total), rows, magic)
    }
}

/// Adds each row's integer to one of some places, chosen by an index.
#[derive(Debug, Default)]
pub(super) struct Scatter {
    places: Vec<i64>,
    /// Integers to be added, in units of their grid.
    pub terms: Vec<i64>,
}

/// A row that changes the place of the row before would wait for it: neighbours use different copies.
const COPIES: usize = 4;

impl Scatter {
    /// Rounds `a * r` to the grid of `magic` for every row, into `terms`.
    ///
    /// # Safety
    /// The processor has the instructions of `V`, whose lanes divide the length of `r`.
    #[inline(always)]
    pub unsafe fn round<V: Lanes>(&mut self, r: &[f64], a: f64, magic: f64) {
        self.terms.resize(r.len(), 0);
        let mut i = 0;
        // SAFETY: by contract; `terms` and `r` have the same length.
        unsafe {
            let a = V::splat(a);
            let add = V::splat(magic);
            while i < r.len() {
                let t = V::load(r.as_ptr().add(i)).fma(a, add).bits();
                V::store_bits(V::sub_bits(t, add.bits()), self.terms.as_mut_ptr().add(i));
                i += V::N;
            }
        }
    }

    /// Rounds `z * w` to the grid of `magic` for every row, into `terms`.
    ///
    /// # Safety
    /// The processor has the instructions of `V`, whose lanes divide the rows.
    #[inline(always)]
    pub unsafe fn round_products<V: Lanes>(&mut self, z: &[f64], w: &[f64], magic: f64) {
        assert!(z.len() == w.len());
        self.terms.resize(z.len(), 0);
        let mut i = 0;
        // SAFETY: by contract; all three have the same length.
        unsafe {
            let add = V::splat(magic);
            while i < z.len() {
                let t = V::load(z.as_ptr().add(i)).fma(V::load(w.as_ptr().add(i)), add).bits();
                V::store_bits(V::sub_bits(t, add.bits()), self.terms.as_mut_ptr().add(i));
                i += V::N;
            }
        }
    }

    /// Adds `terms[i]` to `counts[index[i] * stride]`; an index of `places` or above is nowhere.
    #[inline(always)]
    pub fn add(&mut self, index: &[u32], places: usize, counts: &mut [i128], stride: usize) {
        if places > index.len() / 2 {
            for (&at, &term) in index.iter().zip(&self.terms) {
                if (at as usize) < places {
                    counts[at as usize * stride] += i128::from(term);
                }
            }
            return;
        }
        let width = places + 1;
        self.places.clear();
        self.places.resize(COPIES * width, 0);
        let (first, rest) = self.places.split_at_mut(width);
        let (second, rest) = rest.split_at_mut(width);
        let (third, fourth) = rest.split_at_mut(width);
        let mut at = index.chunks_exact(COPIES);
        let mut terms = self.terms.chunks_exact(COPIES);
        for (at, term) in (&mut at).zip(&mut terms) {
            first[(at[0] as usize).min(places)] += term[0];
            second[(at[1] as usize).min(places)] += term[1];
            third[(at[2] as usize).min(places)] += term[2];
            fourth[(at[3] as usize).min(places)] += term[3];
        }
        for (&at, &term) in at.remainder().iter().zip(terms.remainder()) {
            first[(at as usize).min(places)] += term;
        }
        for k in 0..places {
            counts[k * stride] += i128::from(first[k] + second[k] + third[k] + fourth[k]);
        }
    }
}

/// Adds `values[i] * a` to the sum of each row's category, where each category may have its own grid.
///
/// # Safety
/// As [`Scatter::round`].
#[inline(always)]
pub(super) unsafe fn by_category<V: Lanes>(
    scatter: &mut Scatter,
    codes: &[u32],
    values: &[f64],
    magics: &[f64],
    counts: &mut [i128],
) {
    if magics.iter().all(|m| m.to_bits() == magics[0].to_bits()) {
        // SAFETY: by contract.
        unsafe { scatter.round::<V>(values, 1.0, magics[0]) };
        scatter.add(codes, magics.len(), counts, 1);
        return;
    }
    for (&code, &value) in codes.iter().zip(values) {
        if let Some(magic) = magics.get(code as usize) {
            counts[code as usize] += carried((value + magic).to_bits() as i64, 1, *magic);
        }
    }
}
