//! Walks a tile's numeric columns in order, some at a time: enough to share the reads of what every
//! column needs, few enough for the processor's prefetcher and registers.

use super::lanes::Lanes;
use super::sums::{Cell, products};
use super::tile::{Cells, Plan, Tile};

/// `m = intercept + sum of w_j x_j` for all rows: a chain of fused multiply-adds, numbers first in their
/// order, then the weight of each category. `weights` is `[P]`.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn margins<V: Lanes>(plan: &Plan, tile: &Tile<'_>, intercept: f64, weights: &[f64], m: &mut [f64]) {
    assert!(m.len() == tile.rows);
    m.fill(intercept);
    let mut at = 0;
    while at < plan.numeric.len() {
        // SAFETY: by contract.
        at += unsafe {
            match tile.cells[plan.numeric[at].0] {
                Cells::F32(_) => margin_group::<V, f32>(plan, tile, at, weights, m),
                _ => margin_group::<V, f64>(plan, tile, at, weights, m),
            }
        };
    }
    for &(column, span) in &plan.categories {
        let Cells::Codes(codes) = tile.cells[column] else { continue };
        let weights = &weights[span.offset..span.offset + span.width];
        for (m, &code) in m.iter_mut().zip(codes) {
            if let Some(w) = weights.get(code as usize) {
                *m += w;
            }
        }
    }
}

/// Types of cells that stand in columns of numbers.
pub(super) trait Numbers: Cell + Sized {
    fn of<'a>(cells: &Cells<'a>) -> Option<&'a [Self]>;
}

impl Numbers for f32 {
    #[inline(always)]
    fn of<'a>(cells: &Cells<'a>) -> Option<&'a [f32]> {
        if let Cells::F32(v) = cells { Some(v) } else { None }
    }
}

impl Numbers for f64 {
    #[inline(always)]
    fn of<'a>(cells: &Cells<'a>) -> Option<&'a [f64]> {
        if let Cells::F64(v) = cells { Some(v) } else { None }
    }
}

/// Pointers to the next columns of type `C`, as many as there are in a row, at most `N`; each is readable
/// for the tile's rows.
#[inline(always)]
fn group<C: Numbers, const N: usize>(plan: &Plan, tile: &Tile<'_>, at: usize) -> ([*const C; N], [usize; N], usize) {
    let mut pointers = [std::ptr::null(); N];
    let mut coordinates = [0; N];
    let mut n = 0;
    for &(column, coordinate) in plan.numeric[at..].iter().take(N) {
        let Some(cells) = C::of(&tile.cells[column]) else { break };
        assert!(cells.len() == tile.rows);
        pointers[n] = cells.as_ptr();
        coordinates[n] = coordinate;
        n += 1;
    }
    (pointers, coordinates, n)
}

#[inline(always)]
unsafe fn margin_group<V: Lanes, C: Numbers>(
    plan: &Plan,
    tile: &Tile<'_>,
    at: usize,
    weights: &[f64],
    m: &mut [f64],
) -> usize {
    let (x, coordinates, n) = group::<C, 8>(plan, tile, at);
    let mut w = [0.0; 8];
    for j in 0..n {
        w[j] = weights[coordinates[j]];
    }
    let m = m.as_mut_ptr();
    // SAFETY: `x` and `m` are as long as the tile; the rest by contract.
    unsafe {
        match n {
            8 => {
                chain::<V, C, 8>(x, w, m, tile.rows);
                8
            }
            4.. => {
                chain::<V, C, 4>([x[0], x[1], x[2], x[3]], [w[0], w[1], w[2], w[3]], m, tile.rows);
                4
            }
            2.. => {
                chain::<V, C, 2>([x[0], x[1]], [w[0], w[1]], m, tile.rows);
                2
            }
            // A column that is neither cannot be: blocks are checked against their layout.
            0 => 1,
            _ => {
                chain::<V, C, 1>([x[0]], [w[0]], m, tile.rows);
                1
            }
        }
    }
}

#[inline(always)]
unsafe fn chain<V: Lanes, C: Cell, const N: usize>(x: [*const C; N], w: [f64; N], m: *mut f64, rows: usize) {
    // SAFETY: by contract; `rows` is a multiple of the lanes.
    unsafe {
        let mut weights = [V::splat(0.0); N];
        for j in 0..N {
            weights[j] = V::splat(w[j]);
        }
        let mut i = 0;
        while i < rows {
            let mut sum = V::load(m.add(i));
            for j in 0..N {
                sum = C::load::<V>(x[j].add(i)).fma(weights[j], sum);
            }
            sum.store(m.add(i));
            i += V::N;
        }
    }
}

/// Adds `sum r x_j` of every numeric column to `counts[j]`, with `magics[j]`; both are `[P]`.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn gradient<V: Lanes>(plan: &Plan, tile: &Tile<'_>, r: &[f64], magics: &[f64], counts: &mut [i128]) {
    assert!(r.len() == tile.rows);
    let mut at = 0;
    while at < plan.numeric.len() {
        // SAFETY: by contract.
        at += unsafe {
            match tile.cells[plan.numeric[at].0] {
                Cells::F32(_) => gradient_group::<V, f32>(plan, tile, at, r, magics, counts),
                _ => gradient_group::<V, f64>(plan, tile, at, r, magics, counts),
            }
        };
    }
}

#[inline(always)]
unsafe fn gradient_group<V: Lanes, C: Numbers>(
    plan: &Plan,
    tile: &Tile<'_>,
    at: usize,
    r: &[f64],
    magics: &[f64],
    counts: &mut [i128],
) -> usize {
    let (x, coordinates, n) = group::<C, 4>(plan, tile, at);
    let mut magic = [0.0; 4];
    for j in 0..n {
        magic[j] = magics[coordinates[j]];
    }
    let (r, rows) = (r.as_ptr(), tile.rows);
    // SAFETY: `x` and `r` are as long as the tile; the rest by contract.
    unsafe {
        match n {
            4 => add(counts, &coordinates, products::<V, C, 4>(x, r, rows, magic)),
            2.. => add(counts, &coordinates, products::<V, C, 2>([x[0], x[1]], r, rows, [magic[0], magic[1]])),
            0 => 1,
            _ => add(counts, &coordinates, products::<V, C, 1>([x[0]], r, rows, [magic[0]])),
        }
    }
}

#[inline(always)]
fn add<const N: usize>(counts: &mut [i128], coordinates: &[usize], sums: [i128; N]) -> usize {
    for j in 0..N {
        counts[coordinates[j]] += sums[j];
    }
    N
}

/// The numeric columns as doubles, shifted and scaled: `z[j][i] = (x_j[i] - shift_j) * scale_j`.
/// Column `j` of `z` starts at `j * stride`; without `shift` the values are only widened.
///
/// # Safety
/// The processor has the instructions of `V`.
#[inline(always)]
pub(super) unsafe fn stage<V: Lanes>(
    plan: &Plan,
    tile: &Tile<'_>,
    transform: Option<(&[f64], &[f64])>,
    stride: usize,
    z: &mut [f64],
) {
    for (j, &(column, coordinate)) in plan.numeric.iter().enumerate() {
        let z = &mut z[j * stride..][..tile.rows];
        let transform = transform.map(|(shift, scale)| (shift[coordinate], scale[coordinate]));
        // SAFETY: by contract.
        unsafe {
            match &tile.cells[column] {
                Cells::F32(x) => stage_column::<V, f32>(x, transform, z),
                Cells::F64(x) => stage_column::<V, f64>(x, transform, z),
                Cells::Codes(_) => {}
            }
        }
    }
}

#[inline(always)]
unsafe fn stage_column<V: Lanes, C: Cell>(x: &[C], transform: Option<(f64, f64)>, z: &mut [f64]) {
    assert!(x.len() == z.len());
    let mut i = 0;
    // SAFETY: both are equally long, a multiple of the lanes.
    unsafe {
        match transform {
            None => {
                while i < z.len() {
                    C::load::<V>(x.as_ptr().add(i)).store(z.as_mut_ptr().add(i));
                    i += V::N;
                }
            }
            Some((shift, scale)) => {
                let (shift, scale) = (V::splat(shift), V::splat(scale));
                while i < z.len() {
                    C::load::<V>(x.as_ptr().add(i)).sub(shift).mul(scale).store(z.as_mut_ptr().add(i));
                    i += V::N;
                }
            }
        }
    }
}

/// Distance between the columns of staged rows: not a multiple of the page, so that columns do not
/// compete for the same lines of the cache.
#[inline(always)]
pub(super) fn stride(rows: usize) -> usize {
    rows + 24
}
