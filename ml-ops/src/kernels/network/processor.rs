//! The processor as a device of networks.

use super::batch::{Batch, Inputs, Rows};
use super::device::{Device, Dropout, Input, Tally};
use crate::block::Block;
use crate::error::Result;
use crate::fold::{mix, uniform};
use crate::network::real::Real;
use crate::network::{Activation, Head, Rule};

/// The processor, in either precision: products by `matrixmultiply`, which picks its kernel by what the
/// processor has, and everything else in order, row after row.
#[derive(Debug)]
pub(crate) struct Processor<R> {
    tally: Tally,
    real: std::marker::PhantomData<R>,
}

impl<R> Default for Processor<R> {
    fn default() -> Self {
        Self { tally: Tally::default(), real: std::marker::PhantomData }
    }
}

/// Rows in memory.
#[derive(Debug, Default)]
pub(crate) struct Loaded<R> {
    batch: Batch,
    /// The numbers of the batch in this precision.
    x: Dense<R>,
}

impl<R: Real> Loaded<R> {
    /// Other rows, as `fill` puts them there.
    pub fn fill<T>(&mut self, fill: impl FnOnce(&mut Batch) -> T) -> T {
        let result = fill(&mut self.batch);
        let (rows, columns) = (self.batch.rows, self.batch.x.len() / self.batch.rows.max(1));
        self.x = Dense { rows, columns, data: self.batch.x.iter().map(|v| R::of(*v)).collect() };
        result
    }
}

/// A matrix in memory, row by row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dense<R> {
    rows: usize,
    columns: usize,
    data: Vec<R>,
}

impl<R: Real> Dense<R> {
    /// How it is walked, as it is or transposed: rows, columns, and the distance of neighbours in each.
    fn strides(&self, transposed: bool) -> (usize, usize, (isize, isize)) {
        let across = self.columns as isize;
        if transposed { (self.columns, self.rows, (1, across)) } else { (self.rows, self.columns, (across, 1)) }
    }

    fn shape(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.data.resize(rows * columns, R::default());
    }

    fn each_row(&self) -> impl Iterator<Item = &[R]> {
        self.data.chunks_exact(self.columns.max(1))
    }
}

impl<R: Real> Processor<R> {
    /// `c = a b`, or `c = a b + c` with `keep`; a factor marked `true` is transposed first.
    fn product(a: (&Dense<R>, bool), b: (&Dense<R>, bool), keep: bool, c: &mut Dense<R>) {
        let ((m, k, a_strides), (inner, n, b_strides)) = (a.0.strides(a.1), b.0.strides(b.1));
        assert!(k == inner && c.rows == m && c.columns == n, "shapes of a product");
        assert!(a.0.data.len() == m * k && b.0.data.len() == k * n && c.data.len() == m * n, "sizes of a product");
        // SAFETY: shapes and strides are those of the slices, as just checked.
        unsafe { R::product((m, k, n), (&a.0.data, a_strides), (&b.0.data, b_strides), keep, &mut c.data) }
    }

    /// Adds row `codes[i, j]` of `table` to row i of `to`, for every j; codes above the table add nothing.
    fn gather(table: &Dense<R>, codes: &[u32], to: &mut Dense<R>) {
        let (each, width) = (codes.len() / to.rows.max(1), table.columns);
        if each == 0 || width == 0 {
            return;
        }
        for (row, codes) in to.data.chunks_exact_mut(width).zip(codes.chunks_exact(each)) {
            for code in codes.iter().map(|c| *c as usize).filter(|c| *c < table.rows) {
                let weights = &table.data[code * width..][..width];
                row.iter_mut().zip(weights).for_each(|(z, w)| *z += *w);
            }
        }
    }

    /// Adds row i of `from` to row `codes[i, j]` of `table`, for every j, in order.
    fn scatter(from: &Dense<R>, codes: &[u32], table: &mut Dense<R>) {
        let (each, width) = (codes.len() / from.rows.max(1), table.columns);
        if each == 0 || width == 0 {
            return;
        }
        for (row, codes) in from.data.chunks_exact(width).zip(codes.chunks_exact(each)) {
            for code in codes.iter().map(|c| *c as usize).filter(|c| *c < table.rows) {
                let sums = &mut table.data[code * width..][..width];
                sums.iter_mut().zip(row).for_each(|(s, d)| *s += *d);
            }
        }
    }

    /// Adds the row `bias` to every row of `z`.
    fn add_bias(z: &mut Dense<R>, bias: &Dense<R>) {
        for row in z.data.chunks_exact_mut(bias.data.len().max(1)) {
            row.iter_mut().zip(&bias.data).for_each(|(z, b)| *z += *b);
        }
    }

    /// `a = f(z)`.
    fn activate(f: Activation, z: &Dense<R>, a: &mut Dense<R>) {
        a.shape(z.rows, z.columns);
        let each = |a: &mut [R], of: &dyn Fn(R) -> R| a.iter_mut().zip(&z.data).for_each(|(a, z)| *a = of(*z));
        let zero = R::default();
        match f {
            Activation::Relu => {
                a.data.iter_mut().zip(&z.data).for_each(|(a, z)| *a = if *z > zero { *z } else { zero })
            }
            Activation::Tanh => each(&mut a.data, &R::tangent),
            Activation::Sigmoid => each(&mut a.data, &sigmoid),
            Activation::Gelu => each(&mut a.data, &|z| z * normal(z)),
        }
    }

    /// `delta *= f'(z)`, where `a = f(z)`.
    fn times_slope(f: Activation, z: &Dense<R>, a: &Dense<R>, delta: &mut Dense<R>) {
        let (zero, one) = (R::default(), R::of(1.0));
        let known = z.data.iter().zip(&a.data);
        for (d, (z, a)) in delta.data.iter_mut().zip(known) {
            *d = match f {
                Activation::Relu if *z > zero => *d,
                Activation::Relu => zero,
                Activation::Tanh => *d * (one - *a * *a),
                Activation::Sigmoid => *d * *a * (one - *a),
                Activation::Gelu => {
                    let density = R::of(0.398_942_280_401_432_7) * (-(*z * *z) * R::of(0.5)).exponential();
                    *d * (normal(*z) + *z * density)
                }
            };
        }
    }

    /// Adds the sum of every column of `delta` to the row `sums`.
    fn sum_rows(delta: &Dense<R>, sums: &mut Dense<R>) {
        for row in delta.each_row() {
            sums.data.iter_mut().zip(row).for_each(|(s, d)| *s += *d);
        }
    }
}

impl<R: Real> Device for Processor<R> {
    type Matrix = Dense<R>;
    type Batch = Loaded<R>;

    const INDICATORS: usize = 0;

    fn tile(&self, _: usize) -> usize {
        256
    }

    fn most_tiles(&self) -> Option<u32> {
        None
    }

    fn load(&mut self, rows: usize, columns: usize, values: &[f64]) -> Dense<R> {
        assert_eq!(values.len(), rows * columns, "values of a matrix");
        Dense { rows, columns, data: values.iter().map(|v| R::of(*v)).collect() }
    }

    fn read(&mut self, matrices: &[&Dense<R>]) -> Vec<Vec<f64>> {
        matrices.iter().map(|matrix| matrix.data.iter().map(|v| v.double()).collect()).collect()
    }

    fn clear(&mut self, matrix: &mut Dense<R>) {
        matrix.data.fill(R::default());
    }

    fn hold(&mut self, _: &Inputs, _: &Block, _: usize) -> Result<()> {
        Ok(())
    }

    fn pick(
        &mut self,
        inputs: &Inputs,
        block: &Block,
        rows: &Rows,
        classes: usize,
        batch: &mut Loaded<R>,
    ) -> Result<()> {
        batch.fill(|batch| inputs.fill_labelled(block, rows, classes, batch))
    }

    fn layer(
        &mut self,
        input: Input<'_, Self>,
        (weights, table, bias): (&Dense<R>, Option<&Dense<R>>, &Dense<R>),
        f: Option<Activation>,
        z: &mut Dense<R>,
        a: &mut Dense<R>,
    ) {
        let (from, codes) = match input {
            Input::Rows(batch) => (&batch.x, &batch.batch.codes[..]),
            Input::Units(units) => (units, &[][..]),
        };
        z.shape(from.rows, weights.columns);
        Self::product((from, false), (weights, false), false, z);
        if let Some(table) = table {
            Self::gather(table, codes, z);
        }
        Self::add_bias(z, bias);
        if let Some(f) = f {
            Self::activate(f, z, a);
        }
    }

    fn drop_out(&mut self, (probability, salt): Dropout, a: &Dense<R>, mask: &mut Dense<R>, kept: &mut Dense<R>) {
        let left = |i: usize| if uniform(mix(i as u32, salt)) < probability { 0.0 } else { 1.0 };
        mask.shape(a.rows, a.columns);
        mask.data.iter_mut().enumerate().for_each(|(i, mask)| *mask = R::of(left(i) / (1.0 - probability)));
        kept.shape(a.rows, a.columns);
        kept.data.iter_mut().zip(a.data.iter().zip(&mask.data)).for_each(|(to, (a, m))| *to = *a * *m);
    }

    fn back(
        &mut self,
        delta: &Dense<R>,
        weights: &Dense<R>,
        dropout: Option<(Dropout, &Dense<R>)>,
        (f, z, a): (Activation, &Dense<R>, &Dense<R>),
        to: &mut Dense<R>,
    ) {
        to.shape(delta.rows, weights.rows);
        Self::product((delta, false), (weights, true), false, to);
        if let Some((_, mask)) = dropout {
            to.data.iter_mut().zip(&mask.data).for_each(|(to, m)| *to = *to * *m);
        }
        Self::times_slope(f, z, a, to);
    }

    fn slope(
        &mut self,
        input: Input<'_, Self>,
        delta: &Dense<R>,
        (weights, table, bias): (&mut Dense<R>, Option<&mut Dense<R>>, &mut Dense<R>),
    ) {
        let (from, codes) = match input {
            Input::Rows(batch) => (&batch.x, &batch.batch.codes[..]),
            Input::Units(units) => (units, &[][..]),
        };
        Self::product((from, true), (delta, false), true, weights);
        if let Some(table) = table {
            Self::scatter(delta, codes, table);
        }
        Self::sum_rows(delta, bias);
    }

    fn loss(&mut self, head: Head, z: &mut Dense<R>, batch: &Loaded<R>, share: f64) {
        let mut total = 0.0;
        let labels = batch.batch.y.iter().zip(&batch.batch.w);
        for (row, (&y, w)) in z.data.chunks_exact_mut(z.columns.max(1)).zip(labels) {
            let w = w * share;
            match head {
                Head::Squared { center, scale } => {
                    let off = row[0].double() - (y - center) * scale;
                    total += w * off * off / 2.0;
                    row[0] = R::of(w * off);
                }
                Head::Softmax => {
                    let own = row.get(y as usize).map_or(0.0, |z| z.double());
                    let top = row.iter().fold(f64::NEG_INFINITY, |top, z| top.max(z.double()));
                    let mut sum = 0.0;
                    for z in row.iter_mut() {
                        // In double precision only where the precision of the outputs is.
                        *z = (*z - R::of(top)).exponential();
                        sum += z.double();
                    }
                    total += w * (libm::log(sum) + (top - own));
                    for (k, z) in row.iter_mut().enumerate() {
                        let p = z.double() / sum;
                        *z = R::of(w * if k == y as usize { p - 1.0 } else { p });
                    }
                }
            }
        }
        self.tally.losses.push(total);
    }

    fn add_scaled(&mut self, x: &Dense<R>, by: f64, g: &mut Dense<R>) {
        let by = R::of(by);
        g.data.iter_mut().zip(&x.data).for_each(|(g, x)| *g += by * *x);
    }

    fn largest(&mut self, matrix: &Dense<R>) {
        // A NaN is the largest of all: it must not go unseen.
        let larger = |top: f64, v: &R| if v.double().abs() <= top { top } else { v.double().abs() };
        let found = matrix.data.iter().fold(0.0, larger);
        self.tally.largest = if found <= self.tally.largest { self.tally.largest } else { found };
    }

    fn step(
        &mut self,
        rule: Rule,
        pace: (f64, u64),
        weights: bool,
        at: &mut Dense<R>,
        g: &Dense<R>,
        memory: &mut [Dense<R>; 2],
    ) {
        let [first, second] = memory;
        rule.step(pace, weights, &mut at.data, &g.data, [&mut first.data, &mut second.data]);
    }

    fn tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn pause(&mut self) {}
}

/// `1 / (1 + e^-z)`.
fn sigmoid<R: Real>(z: R) -> R {
    let one = R::of(1.0);
    if z < R::default() {
        let e = z.exponential();
        e / (one + e)
    } else {
        one / (one + (-z).exponential())
    }
}

/// The normal distribution function.
fn normal<R: Real>(z: R) -> R {
    R::of(0.5) * (R::of(1.0) + (z * R::of(std::f64::consts::FRAC_1_SQRT_2)).error())
}
