//! Against the `libm` crate, in units in the last place.

use super::*;
use crate::fold::{mix, uniform};

fn ulps(found: f64, expected: f64) -> f64 {
    if found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()) || found == expected {
        return 0.0;
    }
    let next = f64::from_bits(expected.abs().to_bits() + 1);
    (found - expected).abs() / (next - expected.abs())
}

/// Numbers over `low..high`, evenly.
fn between(low: f64, high: f64, n: u32) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| low + (high - low) * uniform(mix(i, 17)))
}

/// Numbers of all magnitudes from `2^low` to `2^high`.
fn magnitudes(low: f64, high: f64, n: u32) -> impl Iterator<Item = f64> {
    between(low, high, n).map(libm::exp2)
}

fn worst(f: impl Fn(f64) -> f64, reference: impl Fn(f64) -> f64, numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|x| ulps(f(x), reference(x))).fold(0.0, f64::max)
}

const N: u32 = 200_000;

#[test]
fn exp_is_within_an_ulp_or_two() {
    assert!(worst(exp, libm::exp, between(-708.0, 709.7, N)) <= 1.5);
    assert!(worst(exp, libm::exp, between(-1.0, 1.0, N)) <= 1.5);
    assert!(worst(exp, libm::exp, magnitudes(-60.0, 2.0, N)) <= 1.5);
    assert!(worst(exp, libm::exp, between(-746.0, -708.0, N)) <= 1.5);
    for x in [0.0, -0.0, 1.0, 709.78, 709.79, 710.0, 1e300, f64::INFINITY, -745.1, -745.2, -1e9, f64::NEG_INFINITY] {
        assert!(ulps(exp(x), libm::exp(x)) <= 1.0, "exp({x}) = {:e}", exp(x));
    }
    assert_eq!(exp(0.0), 1.0);
    assert!(exp(f64::NAN).is_nan());
}

#[test]
fn ln_is_within_an_ulp() {
    assert!(worst(ln, libm::log, magnitudes(-1073.0, 1023.9, N)) <= 1.5);
    assert!(worst(ln, libm::log, between(0.5, 2.0, N)) <= 1.5);
    assert!(worst(ln, libm::log, between(0.999, 1.001, N)) <= 1.5);
    for x in [0.0, 1.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY, -1.0, f64::NAN] {
        assert!(ulps(ln(x), libm::log(x)) <= 1.0, "ln({x})");
    }
}

#[test]
fn ln_1p_is_accurate_near_zero() {
    assert!(worst(ln_1p, libm::log1p, between(0.0, 1.0, N)) <= 2.0);
    assert!(worst(ln_1p, libm::log1p, magnitudes(-80.0, 80.0, N)) <= 2.0);
    assert!(worst(|x| ln_1p(-x), |x| libm::log1p(-x), magnitudes(-80.0, -0.01, N)) <= 2.0);
    assert_eq!(ln_1p(-1.0), f64::NEG_INFINITY);
    assert!(ln_1p(-1.5).is_nan());
    assert_eq!(ln_1p(f64::INFINITY), f64::INFINITY);
}

#[test]
fn sigmoid_is_accurate_on_both_sides() {
    let reference = |m: f64| if m < 0.0 { libm::exp(m) / (1.0 + libm::exp(m)) } else { 1.0 / (1.0 + libm::exp(-m)) };
    assert!(worst(sigmoid, reference, between(-690.0, 50.0, N)) <= 3.0);
    assert!(worst(sigmoid, reference, between(-8.0, 8.0, N)) <= 3.0);
    assert_eq!((sigmoid(0.0), sigmoid(1e308), sigmoid(f64::INFINITY)), (0.5, 1.0, 1.0));
    assert!(sigmoid(-1e308) < 1e-300 && sigmoid(f64::NAN).is_nan());
}

#[test]
fn slices_and_single_numbers_agree() {
    let numbers: Vec<f64> = between(-50.0, 50.0, 1003).collect();
    let mut all = numbers.clone();
    sigmoid_all(&mut all);
    for (m, p) in numbers.iter().zip(&all) {
        assert_eq!(sigmoid(*m).to_bits(), p.to_bits());
    }
}

#[test]
fn softmax_adds_up_and_does_not_overflow() {
    let mut p = [1000.0, 1001.0, -1e300];
    softmax(&mut p);
    assert!((p[0] + p[1] + p[2] - 1.0).abs() < 1e-15 && ulps(p[1], sigmoid(1.0)) <= 2.0 && p[2] < 1e-300);
}
