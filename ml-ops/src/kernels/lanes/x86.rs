//! AVX2 with FMA (four lanes) and AVX-512 (eight lanes).

use std::arch::x86_64::*;

use super::Lanes;

/// Four doubles; needs `avx2` and `fma`.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256d);

/// Eight doubles; needs `avx512f`.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512d);

// SAFETY of every block below: a vector or mask in hand, or the caller of an unsafe function, shows that
// the processor has the instructions; pointers are valid by the contracts in `Lanes`.
macro_rules! lanes {
    ($name:ident, $n:literal, $bits:ty, $mask:ty,
     $splat:ident $load:ident $store:ident $widen:ident $loadps:ident $zero:ident $storei:ident
     $add:ident $sub:ident $mul:ident $div:ident $fma:ident $fnma:ident $min:ident $max:ident
     $cast:ident $uncast:ident $splati:ident $andi:ident $addi:ident $subi:ident $shl:ident $shr:ident,
     less $less:ident, equal $equal:ident, pick $pick:ident) => {
        impl Lanes for $name {
            const N: usize = $n;
            type Bits = $bits;
            type Mask = $mask;

            #[inline(always)]
            unsafe fn splat(value: f64) -> Self {
                Self(unsafe { $splat(value) })
            }
            #[inline(always)]
            unsafe fn load(at: *const f64) -> Self {
                Self(unsafe { $load(at) })
            }
            #[inline(always)]
            unsafe fn widen(at: *const f32) -> Self {
                Self(unsafe { $widen($loadps(at)) })
            }
            #[inline(always)]
            unsafe fn zero_bits() -> $bits {
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn store(self, at: *mut f64) {
                unsafe { $store(at, self.0) }
            }
            #[inline(always)]
            unsafe fn store_bits(bits: $bits, at: *mut i64) {
                unsafe { $storei(at.cast(), bits) }
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self(unsafe { $add(self.0, other.0) })
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Self(unsafe { $sub(self.0, other.0) })
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                Self(unsafe { $mul(self.0, other.0) })
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                Self(unsafe { $div(self.0, other.0) })
            }
            #[inline(always)]
            fn fma(self, factor: Self, addend: Self) -> Self {
                Self(unsafe { $fma(self.0, factor.0, addend.0) })
            }
            #[inline(always)]
            fn fnma(self, factor: Self, addend: Self) -> Self {
                Self(unsafe { $fnma(self.0, factor.0, addend.0) })
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                Self(unsafe { $min(self.0, other.0) })
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                Self(unsafe { $max(self.0, other.0) })
            }
            #[inline(always)]
            fn abs(self) -> Self {
                Self(unsafe { $uncast($andi($cast(self.0), $splati(i64::MAX))) })
            }
            #[inline(always)]
            fn less(self, other: Self) -> $mask {
                unsafe { $less(self, other) }
            }
            #[inline(always)]
            fn equal(self, other: Self) -> $mask {
                unsafe { $equal(self, other) }
            }
            #[inline(always)]
            fn pick(mask: $mask, yes: Self, no: Self) -> Self {
                unsafe { $pick(mask, yes, no) }
            }
            #[inline(always)]
            fn bits(self) -> $bits {
                unsafe { $cast(self.0) }
            }
            #[inline(always)]
            fn from_bits(bits: $bits) -> Self {
                Self(unsafe { $uncast(bits) })
            }
            #[inline(always)]
            fn add_bits(a: $bits, b: $bits) -> $bits {
                unsafe { $addi(a, b) }
            }
            #[inline(always)]
            fn sub_bits(a: $bits, b: $bits) -> $bits {
                unsafe { $subi(a, b) }
            }
            #[inline(always)]
            fn and_bits(a: $bits, b: $bits) -> $bits {
                unsafe { $andi(a, b) }
            }
            #[inline(always)]
            fn to_exponent(bits: $bits) -> $bits {
                unsafe { $shl::<52>(bits) }
            }
            #[inline(always)]
            fn to_integer(bits: $bits) -> $bits {
                unsafe { $shr::<52>(bits) }
            }
            #[inline(always)]
            fn total(bits: $bits) -> i64 {
                let mut out = [0i64; $n];
                unsafe { $storei(out.as_mut_ptr().cast(), bits) };
                out.into_iter().fold(0, i64::wrapping_add)
            }
        }
    };
}

#[inline(always)]
unsafe fn less4(a: Avx2, b: Avx2) -> __m256d {
    unsafe { _mm256_cmp_pd::<_CMP_LT_OQ>(a.0, b.0) }
}
#[inline(always)]
unsafe fn equal4(a: Avx2, b: Avx2) -> __m256d {
    unsafe { _mm256_cmp_pd::<_CMP_EQ_OQ>(a.0, b.0) }
}
#[inline(always)]
unsafe fn pick4(mask: __m256d, yes: Avx2, no: Avx2) -> Avx2 {
    Avx2(unsafe { _mm256_blendv_pd(no.0, yes.0, mask) })
}
#[inline(always)]
unsafe fn less8(a: Avx512, b: Avx512) -> __mmask8 {
    unsafe { _mm512_cmp_pd_mask::<_CMP_LT_OQ>(a.0, b.0) }
}
#[inline(always)]
unsafe fn equal8(a: Avx512, b: Avx512) -> __mmask8 {
    unsafe { _mm512_cmp_pd_mask::<_CMP_EQ_OQ>(a.0, b.0) }
}
#[inline(always)]
unsafe fn pick8(mask: __mmask8, yes: Avx512, no: Avx512) -> Avx512 {
    Avx512(unsafe { _mm512_mask_blend_pd(mask, no.0, yes.0) })
}

lanes!(Avx2, 4, __m256i, __m256d,
    _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd _mm256_cvtps_pd _mm_loadu_ps _mm256_setzero_si256 _mm256_storeu_si256
    _mm256_add_pd _mm256_sub_pd _mm256_mul_pd _mm256_div_pd _mm256_fmadd_pd _mm256_fnmadd_pd _mm256_min_pd _mm256_max_pd
    _mm256_castpd_si256 _mm256_castsi256_pd _mm256_set1_epi64x _mm256_and_si256 _mm256_add_epi64 _mm256_sub_epi64
    _mm256_slli_epi64 _mm256_srli_epi64,
    less less4, equal equal4, pick pick4);

lanes!(Avx512, 8, __m512i, __mmask8,
    _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd _mm512_cvtps_pd _mm256_loadu_ps _mm512_setzero_si512 _mm512_storeu_si512
    _mm512_add_pd _mm512_sub_pd _mm512_mul_pd _mm512_div_pd _mm512_fmadd_pd _mm512_fnmadd_pd _mm512_min_pd _mm512_max_pd
    _mm512_castpd_si512 _mm512_castsi512_pd _mm512_set1_epi64 _mm512_and_si512 _mm512_add_epi64 _mm512_sub_epi64
    _mm512_slli_epi64 _mm512_srli_epi64,
    less less8, equal equal8, pick pick8);
