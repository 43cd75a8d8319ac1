//! The two precisions a network computes in: single for steps over mini-batches, double for exact gradients.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A floating-point number with what networks need of it. Functions are Rust's own, never the C library's.
pub trait Real:
    Copy
    + Debug
    + Default
    + PartialOrd
    + Send
    + Sync
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// The nearest to `value`.
    fn of(value: f64) -> Self;
    /// As a double; exact.
    fn double(self) -> f64;
    /// Square root.
    fn root(self) -> Self;
    /// Exponential.
    fn exponential(self) -> Self;
    /// Hyperbolic tangent.
    fn tangent(self) -> Self;
    /// The error function.
    fn error(self) -> Self;

    /// `c = a b + keep c` over matrices whose strides `(row, column)` are given: `a` `[m, k]`, `b` `[k, n]`,
    /// `c` `[m, n]` row by row.
    ///
    /// # Safety
    /// Every element that the shape and the strides name lies inside its slice.
    unsafe fn product(
        shape: (usize, usize, usize),
        a: (&[Self], (isize, isize)),
        b: (&[Self], (isize, isize)),
        keep: bool,
        c: &mut [Self],
    );
}

macro_rules! real {
    ($type:ty, $gemm:path, $exp:path, $tanh:path, $erf:path) => {
        impl Real for $type {
            #[inline]
            fn of(value: f64) -> Self {
                value as $type
            }
            #[inline]
            fn double(self) -> f64 {
                f64::from(self)
            }
            #[inline]
            fn root(self) -> Self {
                self.sqrt()
            }
            #[inline]
            fn exponential(self) -> Self {
                $exp(self)
            }
            #[inline]
            fn tangent(self) -> Self {
                $tanh(self)
            }
            #[inline]
            fn error(self) -> Self {
                $erf(self)
            }
            unsafe fn product(
                (m, k, n): (usize, usize, usize),
                (a, (rsa, csa)): (&[Self], (isize, isize)),
                (b, (rsb, csb)): (&[Self], (isize, isize)),
                keep: bool,
                c: &mut [Self],
            ) {
                let beta = if keep { 1.0 } else { 0.0 };
                // SAFETY: by contract.
                unsafe {
                    $gemm(m, k, n, 1.0, a.as_ptr(), rsa, csa, b.as_ptr(), rsb, csb, beta, c.as_mut_ptr(), n as isize, 1)
                }
            }
        }
    };
}

real!(f32, matrixmultiply::sgemm, libm::expf, libm::tanhf, libm::erff);
real!(f64, matrixmultiply::dgemm, libm::exp, libm::tanh, libm::erf);
