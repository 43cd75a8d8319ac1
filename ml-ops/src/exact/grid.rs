//! The binary grid that the terms of one sum are rounded to.

use serde::{Deserialize, Serialize};

use crate::error::{MlError, Result};

/// Terms of at most `2^exponent` in magnitude, rounded to multiples of `2^(exponent - 51)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    exponent: i16,
}

/// Below this, a bound is as good as zero; it keeps every unit a normal number.
const LOWEST: i16 = -960;
/// Above this, `magic` would overflow.
const HIGHEST: i16 = 1020;

impl Grid {
    /// The finest grid whose terms may be as large as `bound` (at least 0).
    ///
    /// # Errors
    /// When `bound` is not finite, or above 2^1020: no grid covers it.
    pub fn covering(bound: f64) -> Result<Self> {
        let bound = bound.abs();
        if !bound.is_finite() || bound > exp2(HIGHEST) {
            return Err(MlError::Numeric {
                reason: format!(
                    "terms as large as {bound:e} cannot be added in double precision; scale the columns down"
                ),
            });
        }
        let mut exponent = LOWEST;
        if bound > exp2(LOWEST) {
            // The exponent of the next power of two at or above the bound.
            let biased = ((bound.to_bits() >> 52) & 0x7ff) as i16;
            exponent = biased - 1023;
            if bound > exp2(exponent) {
                exponent += 1;
            }
        }
        Ok(Self { exponent })
    }

    /// The constant whose addition rounds a term to this grid.
    #[inline]
    pub fn magic(self) -> f64 {
        1.5 * exp2(self.exponent + 1)
    }

    /// The distance between neighbouring points of the grid.
    #[inline]
    pub fn unit(self) -> f64 {
        exp2(self.exponent - 51)
    }

    /// The largest magnitude a term may have.
    #[inline]
    pub fn bound(self) -> f64 {
        exp2(self.exponent)
    }

    /// `a * b` rounded to the grid, as an integer count of units.
    #[inline]
    pub fn quantize(self, a: f64, b: f64) -> i64 {
        let magic = self.magic();
        debug_assert!((a * b).abs() <= self.bound(), "{a} * {b} leaves the grid of 2^{}", self.exponent);
        (a.mul_add(b, magic).to_bits() as i64).wrapping_sub(magic.to_bits() as i64)
    }

    /// The count of units nearest to a sum that was added elsewhere; it may be many times [`Self::bound`].
    #[inline]
    pub fn count(self, sum: f64) -> i128 {
        (sum / self.unit()).round_ties_even() as i128
    }

    /// The sum of `count` units as a double, rounded once.
    #[inline]
    pub fn value(self, count: i128) -> f64 {
        // Scaled in two halves: near the lowest grids the unit alone is exact but a product in one
        // step with a small count is, too; the split keeps intermediate results normal.
        count as f64 * self.unit()
    }
}

/// `2^exponent`, exact, for exponents of normal doubles.
#[inline]
fn exp2(exponent: i16) -> f64 {
    debug_assert!((-1022..=1023).contains(&exponent));
    f64::from_bits(((1023 + i64::from(exponent)) as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_rounded_to_the_nearest_unit() -> Result<()> {
        for bound in [1e-280, 3e-5, 1.0, 1.5, 2.0, 1e9, 1e300] {
            let grid = Grid::covering(bound)?;
            assert!(grid.bound() >= bound && grid.bound() < bound * 2.0);
            for part in [-1.0, -0.3, 0.0, 1e-9, 0.7, 1.0] {
                let term = bound * part;
                let count = grid.quantize(term, 1.0);
                assert!((grid.value(i128::from(count)) - term).abs() <= grid.unit() / 2.0);
            }
        }
        Ok(())
    }

    #[test]
    fn zero_has_a_grid_and_infinity_has_none() -> Result<()> {
        assert_eq!(Grid::covering(0.0)?.quantize(0.0, 5.0), 0);
        assert!(Grid::covering(f64::INFINITY).is_err());
        assert!(Grid::covering(f64::NAN).is_err());
        assert!(Grid::covering(1e308).is_err());
        Ok(())
    }
}
