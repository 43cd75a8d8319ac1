//! Dense linear algebra on the driver: small, serial, and the same on every machine.

mod cholesky;

pub use cholesky::Cholesky;

use serde::{Deserialize, Serialize};

/// A symmetric matrix, stored in full, row by row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Symmetric {
    /// Rows (and columns).
    pub size: usize,
    /// `[size, size]`.
    pub values: Vec<f64>,
}

impl Symmetric {
    /// The zero matrix.
    pub fn zero(size: usize) -> Self {
        Self { size, values: vec![0.0; size * size] }
    }

    /// The matrix whose upper triangle, row by row, is `upper`: `(0,0), (0,1), .., (1,1), ..`.
    pub fn from_upper(size: usize, upper: &[f64]) -> Self {
        let mut matrix = Self::zero(size);
        let mut values = upper.iter();
        for i in 0..size {
            for j in i..size {
                matrix.set(i, j, values.next().copied().unwrap_or(0.0));
            }
        }
        matrix
    }

    /// The matrix with `block` repeated `times` times along its diagonal.
    pub fn repeated(block: &Symmetric, times: usize) -> Self {
        let mut matrix = Self::zero(block.size * times);
        for copy in 0..times {
            let first = copy * block.size;
            for i in 0..block.size {
                let at = (first + i) * matrix.size + first;
                matrix.values[at..at + block.size].copy_from_slice(block.row(i));
            }
        }
        matrix
    }

    /// Entry `(i, j)`.
    #[inline]
    pub fn at(&self, i: usize, j: usize) -> f64 {
        self.values[i * self.size + j]
    }

    /// Sets entries `(i, j)` and `(j, i)`.
    #[inline]
    pub fn set(&mut self, i: usize, j: usize, value: f64) {
        self.values[i * self.size + j] = value;
        self.values[j * self.size + i] = value;
    }

    /// Row `i`, which is column `i`.
    #[inline]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.size..(i + 1) * self.size]
    }

    /// Adds to the diagonal, entry by entry.
    pub fn add_diagonal(&mut self, values: &[f64]) {
        for (i, v) in values.iter().enumerate().take(self.size) {
            self.values[i * self.size + i] += v;
        }
    }

    /// The product with a vector.
    pub fn times(&self, x: &[f64]) -> Vec<f64> {
        (0..self.size).map(|i| dot(self.row(i), x)).collect()
    }
}

/// The inner product, always added in the same eight strands.
#[inline]
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut strands = [0.0; 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = left.remainder().iter().zip(right.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in left.zip(right) {
        for (s, (x, y)) in strands.iter_mut().zip(x.iter().zip(y)) {
            *s += x * y;
        }
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = strands;
    ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7)) + tail
}

/// `y += factor * x`.
#[inline]
pub fn add_scaled(y: &mut [f64], factor: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// The largest magnitude; infinite when an entry is not a number.
pub fn max_norm(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |most, v| if v.is_nan() { f64::INFINITY } else { v.abs().max(most) })
}
