//! Arrays of doubles: every processor has these. The compiler turns them into what the target offers.

use super::Lanes;

/// `L` doubles. `L = 1` is a single number.
#[derive(Clone, Copy)]
pub(crate) struct Portable<const L: usize>([f64; L]);

macro_rules! each {
    ($out:ty, |$i:ident| $value:expr) => {{
        let mut out: [$out; L] = [Default::default(); L];
        for ($i, place) in out.iter_mut().enumerate() {
            *place = $value;
        }
        out
    }};
}

impl<const L: usize> Lanes for Portable<L> {
    const N: usize = L;
    type Bits = [i64; L];
    type Mask = [bool; L];

    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        Self([value; L])
    }
    #[inline(always)]
    unsafe fn load(at: *const f64) -> Self {
        // SAFETY: readable for L doubles by contract.
        Self(each!(f64, |i| unsafe { at.add(i).read() }))
    }
    #[inline(always)]
    unsafe fn widen(at: *const f32) -> Self {
        // SAFETY: readable for L singles by contract.
        Self(each!(f64, |i| f64::from(unsafe { at.add(i).read() })))
    }
    #[inline(always)]
    unsafe fn zero_bits() -> Self::Bits {
        [0; L]
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f64) {
        for (i, v) in self.0.into_iter().enumerate() {
            // SAFETY: writable for L doubles by contract.
            unsafe { at.add(i).write(v) };
        }
    }
    #[inline(always)]
    unsafe fn store_bits(bits: Self::Bits, at: *mut i64) {
        for (i, v) in bits.into_iter().enumerate() {
            // SAFETY: writable for L integers by contract.
            unsafe { at.add(i).write(v) };
        }
    }
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(each!(f64, |i| self.0[i] + other.0[i]))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(each!(f64, |i| self.0[i] - other.0[i]))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(each!(f64, |i| self.0[i] * other.0[i]))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(each!(f64, |i| self.0[i] / other.0[i]))
    }
    #[inline(always)]
    fn fma(self, factor: Self, addend: Self) -> Self {
        Self(each!(f64, |i| self.0[i].mul_add(factor.0[i], addend.0[i])))
    }
    #[inline(always)]
    fn fnma(self, factor: Self, addend: Self) -> Self {
        Self(each!(f64, |i| (-self.0[i]).mul_add(factor.0[i], addend.0[i])))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self(each!(f64, |i| if self.0[i] < other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self(each!(f64, |i| if self.0[i] > other.0[i] { self.0[i] } else { other.0[i] }))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Self(each!(f64, |i| self.0[i].abs()))
    }
    #[inline(always)]
    fn less(self, other: Self) -> Self::Mask {
        each!(bool, |i| self.0[i] < other.0[i])
    }
    #[inline(always)]
    fn equal(self, other: Self) -> Self::Mask {
        each!(bool, |i| self.0[i] == other.0[i])
    }
    #[inline(always)]
    fn pick(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Self(each!(f64, |i| if mask[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn bits(self) -> Self::Bits {
        each!(i64, |i| self.0[i].to_bits() as i64)
    }
    #[inline(always)]
    fn from_bits(bits: Self::Bits) -> Self {
        Self(each!(f64, |i| f64::from_bits(bits[i] as u64)))
    }
    #[inline(always)]
    fn add_bits(a: Self::Bits, b: Self::Bits) -> Self::Bits {
        each!(i64, |i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub_bits(a: Self::Bits, b: Self::Bits) -> Self::Bits {
        each!(i64, |i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn and_bits(a: Self::Bits, b: Self::Bits) -> Self::Bits {
        each!(i64, |i| a[i] & b[i])
    }
    #[inline(always)]
    fn to_exponent(bits: Self::Bits) -> Self::Bits {
        each!(i64, |i| bits[i] << 52)
    }
    #[inline(always)]
    fn to_integer(bits: Self::Bits) -> Self::Bits {
        each!(i64, |i| (bits[i] as u64 >> 52) as i64)
    }
    #[inline(always)]
    fn total(bits: Self::Bits) -> i64 {
        bits.into_iter().fold(0, i64::wrapping_add)
    }
}
