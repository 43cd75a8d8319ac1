//! The operations a network is made of, and the processor's.
//!
//! A matrix lives where the device is and is only read back at the end of a pass, so another device does the
//! same passes by implementing these few operations.

use crate::network::real::Real;
use crate::network::{Activation, Head, Rule};

/// Where the arithmetic of a network runs. Matrices are row by row; shapes must fit, which is checked.
pub(crate) trait Device {
    /// A matrix on the device.
    type Matrix;

    /// A matrix of these values, rounded to the device's precision.
    fn load(&mut self, rows: usize, columns: usize, values: &[f64]) -> Self::Matrix;

    /// The values of a matrix.
    fn read(&mut self, matrix: &Self::Matrix) -> Vec<f64>;

    /// Makes room for `[rows, columns]`; what it held is lost.
    fn shape(&mut self, matrix: &mut Self::Matrix, rows: usize, columns: usize);

    /// Makes every entry zero.
    fn clear(&mut self, matrix: &mut Self::Matrix);

    /// `c = a b`, or `c = a b + c` with `keep`; a factor marked `true` is transposed first.
    fn product(&mut self, a: (&Self::Matrix, bool), b: (&Self::Matrix, bool), keep: bool, c: &mut Self::Matrix);

    /// Adds row `codes[i, j]` of `table` to row i of `to`, for every j; codes above the table add nothing.
    fn gather(&mut self, table: &Self::Matrix, codes: &[u32], to: &mut Self::Matrix);

    /// Adds row i of `from` to row `codes[i, j]` of `table`, for every j, in order.
    fn scatter(&mut self, from: &Self::Matrix, codes: &[u32], table: &mut Self::Matrix);

    /// Adds the row `bias` to every row of `z`.
    fn add_bias(&mut self, z: &mut Self::Matrix, bias: &Self::Matrix);

    /// `a = f(z)`.
    fn activate(&mut self, f: Activation, z: &Self::Matrix, a: &mut Self::Matrix);

    /// `delta *= f'(z)`, where `a = f(z)`.
    fn slope(&mut self, f: Activation, z: &Self::Matrix, a: &Self::Matrix, delta: &mut Self::Matrix);

    /// `to = a mask`, entry by entry.
    fn mask(&mut self, a: &Self::Matrix, mask: &Self::Matrix, to: &mut Self::Matrix);

    /// Adds the sum of every column of `delta` to the row `sums`.
    fn sum_rows(&mut self, delta: &Self::Matrix, sums: &mut Self::Matrix);

    /// The weighted loss of the outputs `z`, which become its derivative.
    fn loss(&mut self, head: Head, z: &mut Self::Matrix, y: &[f64], w: &[f64]) -> f64;

    /// `g += by x`.
    fn add_scaled(&mut self, x: &Self::Matrix, by: f64, g: &mut Self::Matrix);

    /// The largest entry's magnitude.
    fn largest(&mut self, matrix: &Self::Matrix) -> f64;

    /// A step of `rule` with step length and number `pace`; `weights` says that `at` are no biases.
    fn step(
        &mut self,
        rule: Rule,
        pace: (f64, u64),
        weights: bool,
        at: &mut Self::Matrix,
        g: &Self::Matrix,
        memory: &mut [Self::Matrix; 2],
    );
}

/// The processor, in either precision: products by `matrixmultiply`, which picks its kernel by what the
/// processor has, and everything else in order, row after row.
#[derive(Debug)]
pub(crate) struct Processor<R>(std::marker::PhantomData<R>);

impl<R> Default for Processor<R> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
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

    fn each_row(&self) -> impl Iterator<Item = &[R]> {
        self.data.chunks_exact(self.columns.max(1))
    }
}

impl<R: Real> Device for Processor<R> {
    type Matrix = Dense<R>;

    fn load(&mut self, rows: usize, columns: usize, values: &[f64]) -> Dense<R> {
        assert_eq!(values.len(), rows * columns, "values of a matrix");
        Dense { rows, columns, data: values.iter().map(|v| R::of(*v)).collect() }
    }

    fn read(&mut self, matrix: &Dense<R>) -> Vec<f64> {
        matrix.data.iter().map(|v| v.double()).collect()
    }

    fn shape(&mut self, matrix: &mut Dense<R>, rows: usize, columns: usize) {
        (matrix.rows, matrix.columns) = (rows, columns);
        matrix.data.resize(rows * columns, R::default());
    }

    fn clear(&mut self, matrix: &mut Dense<R>) {
        matrix.data.fill(R::default());
    }

    fn product(&mut self, a: (&Dense<R>, bool), b: (&Dense<R>, bool), keep: bool, c: &mut Dense<R>) {
        let ((m, k, a_strides), (inner, n, b_strides)) = (a.0.strides(a.1), b.0.strides(b.1));
        assert!(k == inner && c.rows == m && c.columns == n, "shapes of a product");
        assert!(a.0.data.len() == m * k && b.0.data.len() == k * n && c.data.len() == m * n, "sizes of a product");
        // SAFETY: shapes and strides are those of the slices, as just checked.
        unsafe { R::product((m, k, n), (&a.0.data, a_strides), (&b.0.data, b_strides), keep, &mut c.data) }
    }

    fn gather(&mut self, table: &Dense<R>, codes: &[u32], to: &mut Dense<R>) {
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

    fn scatter(&mut self, from: &Dense<R>, codes: &[u32], table: &mut Dense<R>) {
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

    fn add_bias(&mut self, z: &mut Dense<R>, bias: &Dense<R>) {
        for row in z.data.chunks_exact_mut(bias.data.len().max(1)) {
            row.iter_mut().zip(&bias.data).for_each(|(z, b)| *z += *b);
        }
    }

    fn activate(&mut self, f: Activation, z: &Dense<R>, a: &mut Dense<R>) {
        self.shape(a, z.rows, z.columns);
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

    fn slope(&mut self, f: Activation, z: &Dense<R>, a: &Dense<R>, delta: &mut Dense<R>) {
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

    fn mask(&mut self, a: &Dense<R>, mask: &Dense<R>, to: &mut Dense<R>) {
        self.shape(to, a.rows, a.columns);
        to.data.iter_mut().zip(a.data.iter().zip(&mask.data)).for_each(|(to, (a, m))| *to = *a * *m);
    }

    fn sum_rows(&mut self, delta: &Dense<R>, sums: &mut Dense<R>) {
        for row in delta.each_row() {
            sums.data.iter_mut().zip(row).for_each(|(s, d)| *s += *d);
        }
    }

    fn loss(&mut self, head: Head, z: &mut Dense<R>, y: &[f64], w: &[f64]) -> f64 {
        let mut total = 0.0;
        for ((row, &y), &w) in z.data.chunks_exact_mut(z.columns.max(1)).zip(y).zip(w) {
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
        total
    }

    fn add_scaled(&mut self, x: &Dense<R>, by: f64, g: &mut Dense<R>) {
        let by = R::of(by);
        g.data.iter_mut().zip(&x.data).for_each(|(g, x)| *g += by * *x);
    }

    fn largest(&mut self, matrix: &Dense<R>) -> f64 {
        // A NaN is the largest of all: it must not go unseen.
        let larger = |top: f64, v: &R| if v.double().abs() <= top { top } else { v.double().abs() };
        matrix.data.iter().fold(0.0, larger)
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
