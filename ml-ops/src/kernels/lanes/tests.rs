//! Every vector type does what arrays of doubles do.

use super::{Lanes, Portable};
use crate::kernels::isa::{Isa, Job};

/// Applies every operation to some numbers and notes the bits.
struct Apply<'a>(&'a [f64; 16], &'a mut Vec<u64>);

impl Job for Apply<'_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Apply(x, out) = self;
        let single: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        let mut note = |i: usize, op: usize, v: V| {
            let mut lanes = [0.0; 16];
            // SAFETY: there is room for the widest vector.
            unsafe { v.store(lanes.as_mut_ptr()) };
            for (j, lane) in lanes.iter().enumerate().take(V::N) {
                out[op * 16 + i + j] = lane.to_bits();
            }
        };
        let mut total = 0i64;
        for i in (0..16).step_by(V::N) {
            // SAFETY: the caller vouches for the instructions; 16 numbers are whole vectors.
            unsafe {
                let a = V::load(x.as_ptr().add(i));
                let b = V::widen(single.as_ptr().add(i)).mul(V::splat(0.7));
                let c = V::splat(1.25);
                let results = [
                    a.add(b),
                    a.sub(b),
                    a.mul(b),
                    a.div(b),
                    a.fma(b, c),
                    a.fnma(b, c),
                    a.min(b),
                    b.max(a),
                    a.abs(),
                    V::pick(a.less(b), a, c),
                    V::pick(a.equal(c), b, c),
                    V::from_bits(V::add_bits(a.bits(), b.bits())),
                    V::from_bits(V::sub_bits(a.bits(), b.bits())),
                    V::from_bits(V::and_bits(a.bits(), b.bits())),
                    V::from_bits(V::to_exponent(a.bits())),
                    V::from_bits(V::to_integer(a.bits())),
                    V::from_bits(V::add_bits(V::zero_bits(), b.bits())),
                ];
                for (op, v) in results.into_iter().enumerate() {
                    note(i, op, v);
                }
                let mut stored = [0i64; 16];
                V::store_bits(a.bits(), stored.as_mut_ptr());
                total = total.wrapping_add(V::total(a.bits()));
                assert_eq!(V::total(a.bits()), stored.iter().take(V::N).fold(0i64, |a, b| a.wrapping_add(*b)));
            }
        }
        out[17 * 16] = total as u64;
    }
}

#[test]
fn every_type_gives_the_same_bits() {
    let x = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        1.25,
        1e300,
        -1e-300,
        0.1,
        3e38,
        -2.5e-40,
        f64::NAN,
        f64::INFINITY,
        5e-324,
        -7.0,
        1e16,
        123.456,
    ];
    let mut expected = vec![0; 18 * 16];
    // SAFETY: arrays need no special instructions.
    unsafe { Apply(&x, &mut expected).run::<Portable<4>>() };
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        let mut found = vec![0; 18 * 16];
        isa.run(Apply(&x, &mut found));
        for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
            let nan = f64::from_bits(*a).is_nan() && f64::from_bits(*b).is_nan();
            assert!(a == b || nan, "{isa}: operation {} on number {}: {a:x} is not {b:x}", i / 16, i % 16);
        }
    }
}
