use super::testing::{Rows, Trained, table};
use crate::error::Result;
use crate::params::ParamValue;

mod conformance;
mod edges;
mod networks;
mod real;
mod synthetic;

fn number(value: f64) -> ParamValue {
    ParamValue::Float(value)
}

fn word(value: &'static str) -> ParamValue {
    ParamValue::text(value)
}

fn flag(value: bool) -> ParamValue {
    ParamValue::Bool(value)
}

/// Largest difference, relative to `max(1, |expected|)`.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(f, e)| (f - e).abs() / e.abs().max(1.0)).fold(0.0, f64::max)
}

/// Reproducible numbers in [0, 1).
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 += 1;
        crate::fold::uniform(crate::fold::mix(self.0 as u32, 77))
    }

    /// About standard normal.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}
