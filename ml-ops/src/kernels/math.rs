//! Exponential, logarithm and what follows from them, in double precision, within two units in the last
//! place, and the same bits on every processor (the C library's differ from one to the next).
//!
//! Polynomials are Chebyshev fits; the logarithm's form, `2 atanh(f / (2 + f))` around the nearest power
//! of two, is that of Tang, *Table-Driven Implementation of the Logarithm Function*, TOMS 16 (1990).

use super::isa::{Isa, Job};
use super::lanes::{Lanes, Portable};

/// 1.5 * 2^52: adding it rounds to an integer, which then stands in the low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// ln 2 to 32 places after the point, so that small multiples are exact, and the rest of it.
const LN2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `(e^r - 1 - r) / r^2` on |r| <= ln(2) / 2, error 1.3e-17.
const EXP: [f64; 10] = [
    0.500_000_000_000_000_1,
    0.166_666_666_666_666_69,
    0.041_666_666_666_623_99,
    0.008_333_333_333_330_051,
    0.001_388_888_891_728_179_4,
    0.000_198_412_698_631_058_68,
    2.480_152_119_021_773e-5,
    2.755_726_837_868_419_2e-6,
    2.762_013_871_973_399_4e-7,
    2.510_042_415_700_506_7e-8,
];

/// `(2 atanh(s)/s - 2) / s^2` as a polynomial in s^2 on |s| <= 0.1716, error 1.6e-18.
const LOG: [f64; 7] = [
    0.666_666_666_666_667,
    0.399_999_999_998_988_9,
    0.285_714_286_262_538_36,
    0.222_222_110_893_794_96,
    0.181_828_924_325_368_7,
    0.153_316_117_220_550_08,
    0.146_178_071_534_173_25,
];

/// `e^x`; overflows to infinity and underflows gradually to zero.
#[inline(always)]
pub(super) fn exp_lanes<V: Lanes>(x: V) -> V {
    // SAFETY: `x` shows that the processor has the instructions.
    unsafe {
        let round = V::splat(ROUND);
        // NaN survives: both comparisons are false and the second operand is taken.
        let x = V::splat(710.0).min(V::splat(-746.0).max(x));
        let shifted = x.fma(V::splat(LOG2_E), round);
        let k = shifted.sub(round);
        let p = exp_reduced(k.fnma(V::splat(LN2_LOW), k.fnma(V::splat(LN2_HIGH), x)));
        // 2^k in two factors, each of them a normal number.
        let half = k.fma(V::splat(0.5), round);
        let rest = shifted.sub(half.sub(round));
        p.mul(power_of_two(half)).mul(power_of_two(rest))
    }
}

/// `e^x` for x in [-700, 700]; what is below -700 counts as -700.
#[inline(always)]
pub(super) fn exp_short<V: Lanes>(x: V) -> V {
    // SAFETY: `x` shows that the processor has the instructions.
    unsafe {
        let round = V::splat(ROUND);
        let x = V::splat(-700.0).max(x);
        let shifted = x.fma(V::splat(LOG2_E), round);
        let k = shifted.sub(round);
        let p = exp_reduced(k.fnma(V::splat(LN2_LOW), k.fnma(V::splat(LN2_HIGH), x)));
        p.mul(power_of_two(shifted))
    }
}

/// `2^k` for `k + ROUND`, k an integer from -1022 to 1023.
#[inline(always)]
unsafe fn power_of_two<V: Lanes>(shifted: V) -> V {
    // SAFETY: as above.
    unsafe { V::from_bits(V::add_bits(V::to_exponent(shifted.bits()), V::splat(1.0).bits())) }
}

/// `e^r` for |r| <= ln(2)/2.
#[inline(always)]
unsafe fn exp_reduced<V: Lanes>(r: V) -> V {
    // SAFETY: as above.
    unsafe {
        macro_rules! c {
            ($i:literal) => {
                V::splat(EXP[$i])
            };
        }
        let r2 = r.mul(r);
        let r4 = r2.mul(r2);
        let low = r2.fma(r.fma(c!(3), c!(2)), r.fma(c!(1), c!(0)));
        let mid = r2.fma(r.fma(c!(7), c!(6)), r.fma(c!(5), c!(4)));
        let high = r4.fma(r.fma(c!(9), c!(8)), mid);
        let q = r4.fma(high, low);
        r2.fma(q, r).add(V::splat(1.0))
    }
}

/// `ln x` for normal positive x.
#[inline(always)]
pub(super) fn ln_lanes<V: Lanes>(x: V) -> V {
    // SAFETY: `x` shows that the processor has the instructions.
    unsafe {
        let half_root = V::splat(std::f64::consts::FRAC_1_SQRT_2).bits();
        let moved = V::add_bits(x.bits(), V::sub_bits(V::splat(1.0).bits(), half_root));
        // The biased exponent as a double: its bits below those of 2^52.
        let two52 = V::splat(4_503_599_627_370_496.0);
        let biased = V::from_bits(V::add_bits(V::to_integer(moved), two52.bits())).sub(two52);
        let mantissa = V::splat(f64::from_bits(0x000f_ffff_ffff_ffff)).bits();
        let m = V::from_bits(V::add_bits(V::and_bits(moved, mantissa), half_root));
        ln_near(m.sub(V::splat(1.0)), biased.sub(V::splat(1023.0)))
    }
}

/// `ln(1 + e)` for e from 0 to 1.
#[inline(always)]
pub(super) fn ln_1p_unit<V: Lanes>(e: V) -> V {
    // SAFETY: `e` shows that the processor has the instructions.
    unsafe {
        let small = e.less(V::splat(0.414));
        let f = V::pick(small, e, e.sub(V::splat(1.0)).mul(V::splat(0.5)));
        ln_near(f, V::pick(small, V::splat(0.0), V::splat(1.0)))
    }
}

/// `ln(1 + f) + k ln 2` for 1 + f within a factor sqrt(2) of 1.
#[inline(always)]
unsafe fn ln_near<V: Lanes>(f: V, k: V) -> V {
    // SAFETY: as above.
    unsafe {
        macro_rules! c {
            ($i:literal) => {
                V::splat(LOG[$i])
            };
        }
        let s = f.div(f.add(V::splat(2.0)));
        let z = s.mul(s);
        let z2 = z.mul(z);
        let low = z2.fma(z.fma(c!(3), c!(2)), z.fma(c!(1), c!(0)));
        let r = z.mul(z2.mul(z2).fma(z2.fma(c!(6), z.fma(c!(5), c!(4))), low));
        let half_square = f.mul(f).mul(V::splat(0.5));
        let tail = s.fma(half_square.add(r), k.mul(V::splat(LN2_LOW)));
        k.fma(V::splat(LN2_HIGH), f.sub(half_square.sub(tail)))
    }
}

/// `(1/(1 + e^-m), ln(1 + e^-|m|))`.
#[inline(always)]
pub(super) fn logistic<V: Lanes>(m: V) -> (V, V) {
    // SAFETY: `m` shows that the processor has the instructions.
    unsafe {
        let zero = V::splat(0.0);
        let one = V::splat(1.0);
        let e = exp_short(zero.sub(m.abs()));
        let p = V::pick(m.less(zero), e, one).div(one.add(e));
        (p, ln_1p_unit(e))
    }
}

/// `1/(1 + e^-m)`.
#[inline(always)]
pub(super) fn sigmoid_lanes<V: Lanes>(m: V) -> V {
    // SAFETY: `m` shows that the processor has the instructions.
    unsafe {
        let zero = V::splat(0.0);
        let one = V::splat(1.0);
        let e = exp_short(zero.sub(m.abs()));
        V::pick(m.less(zero), e, one).div(one.add(e))
    }
}

/// One number through a kernel function, with fused multiply-add where the processor has it.
macro_rules! single {
    ($f:ident, $x:expr) => {{
        #[inline(always)]
        fn plain(x: f64) -> f64 {
            let mut out = [0.0];
            // SAFETY: a single number needs no special instructions, and `out` holds one.
            unsafe { $f(Portable::<1>::splat(x)).store(out.as_mut_ptr()) };
            out[0]
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "fma")]
        fn fused(x: f64) -> f64 {
            plain(x)
        }
        #[cfg(target_arch = "x86_64")]
        let value = if is_x86_feature_detected!("fma") {
            // SAFETY: just detected.
            unsafe { fused($x) }
        } else {
            plain($x)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let value = plain($x);
        value
    }};
}

/// `e^x`, within one unit in the last place.
pub fn exp(x: f64) -> f64 {
    single!(exp_lanes, x)
}

/// `ln x`, within one unit in the last place; NaN below zero, minus infinity at zero.
pub fn ln(x: f64) -> f64 {
    if x < f64::MIN_POSITIVE {
        return match x {
            0.0 => f64::NEG_INFINITY,
            x if x < 0.0 => f64::NAN,
            x => ln(x * 18_014_398_509_481_984.0) - 54.0 * LN2_LOW - 54.0 * LN2_HIGH,
        };
    }
    if x.is_finite() { single!(ln_lanes, x) } else { x }
}

/// `ln(1 + x)`, accurate near zero; NaN below -1, minus infinity at -1.
pub fn ln_1p(x: f64) -> f64 {
    if (0.0..=1.0).contains(&x) {
        return single!(ln_1p_unit, x);
    }
    let u = 1.0 + x;
    if u <= 0.0 || !u.is_finite() {
        return ln(u);
    }
    ln(u) + (x - (u - 1.0)) / u
}

/// `1/(1 + e^-m)`, the same bits as in the kernels.
pub fn sigmoid(m: f64) -> f64 {
    single!(sigmoid_lanes, m)
}

/// Puts `1/(1 + e^-m)` in the place of every `m`.
pub fn sigmoid_all(margins: &mut [f64]) {
    struct All<'a>(&'a mut [f64]);
    impl Job for All<'_> {
        #[inline(always)]
        unsafe fn run<V: Lanes>(self) {
            let mut chunks = self.0.chunks_exact_mut(V::N);
            for chunk in &mut chunks {
                // SAFETY: the caller vouches for the instructions; a chunk holds N numbers.
                unsafe { sigmoid_lanes(V::load(chunk.as_ptr())).store(chunk.as_mut_ptr()) };
            }
            for m in chunks.into_remainder() {
                *m = sigmoid(*m);
            }
        }
    }
    Isa::best().run(All(margins));
}

/// Turns margins into probabilities, `e^(m_k - max) / sum`, the same bits as in the kernels.
pub fn softmax(margins: &mut [f64]) {
    let top = margins.iter().copied().fold(f64::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let mut sum = 0.0;
    for m in margins.iter_mut() {
        *m = single!(exp_short, *m - top);
        sum += *m;
    }
    for m in margins.iter_mut() {
        *m /= sum;
    }
}

#[cfg(test)]
mod tests;
