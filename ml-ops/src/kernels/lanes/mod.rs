//! Vectors of doubles, one type for each instruction set, and the few operations kernels are written in.
//!
//! Every operation is one IEEE operation (or one integer operation) for each lane, so a kernel gives a
//! row the same bits whichever type it runs on.

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Kernels see rows in multiples of this many: two vectors of the widest type.
pub(crate) const PAD: usize = 16;

/// A vector of `N` doubles.
///
/// Making one from memory or a number is unsafe, because the processor must have the type's
/// instructions; whoever holds a vector has shown that, so the operations on vectors are safe.
pub(crate) trait Lanes: Copy {
    /// Lanes; divides [`PAD`].
    const N: usize;
    /// As many 64-bit integers.
    type Bits: Copy;
    /// As many truth values.
    type Mask: Copy;

    /// The same number in every lane.
    ///
    /// # Safety
    /// The processor has the type's instructions.
    unsafe fn splat(value: f64) -> Self;
    /// `N` doubles.
    ///
    /// # Safety
    /// As `splat`, and `at` is readable for `N` doubles.
    unsafe fn load(at: *const f64) -> Self;
    /// `N` singles, widened exactly.
    ///
    /// # Safety
    /// As `splat`, and `at` is readable for `N` singles.
    unsafe fn widen(at: *const f32) -> Self;
    /// Zeros.
    ///
    /// # Safety
    /// As `splat`.
    unsafe fn zero_bits() -> Self::Bits;
    /// Writes the lanes.
    ///
    /// # Safety
    /// `at` is writable for `N` doubles.
    unsafe fn store(self, at: *mut f64);
    /// Writes integer lanes.
    ///
    /// # Safety
    /// `at` is writable for `N` integers.
    unsafe fn store_bits(bits: Self::Bits, at: *mut i64);

    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn fma(self, factor: Self, addend: Self) -> Self;
    /// `addend - self * factor`, rounded once.
    fn fnma(self, factor: Self, addend: Self) -> Self;
    /// `if self < other { self } else { other }`.
    fn min(self, other: Self) -> Self;
    /// `if self > other { self } else { other }`.
    fn max(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn less(self, other: Self) -> Self::Mask;
    fn equal(self, other: Self) -> Self::Mask;
    fn pick(mask: Self::Mask, yes: Self, no: Self) -> Self;

    fn bits(self) -> Self::Bits;
    fn from_bits(bits: Self::Bits) -> Self;
    fn add_bits(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn sub_bits(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    fn and_bits(a: Self::Bits, b: Self::Bits) -> Self::Bits;
    /// Up by 52 places: an integer to the place of the exponent.
    fn to_exponent(bits: Self::Bits) -> Self::Bits;
    /// Down by 52 places, filling with zeros: the exponent (and sign) as an integer.
    fn to_integer(bits: Self::Bits) -> Self::Bits;
    /// The wrapping sum of all lanes.
    fn total(bits: Self::Bits) -> i64;
}

#[cfg(test)]
mod tests;
