//! Sums that do not depend on the order of their terms.
//!
//! A term is rounded once to a multiple of a power of two, the *unit* of its [`Grid`]; a sum of such
//! terms is an integer, and integers are added exactly in any order. The unit follows from a bound on
//! the terms that does not depend on how rows are spread over tiles, threads, files or machines, so
//! the same rows give the same bits wherever they are added.
//!
//! ```text
//!  bound 2^e          term t, |t| <= 2^e           fma(x, r, magic) = magic + round(x*r)
//!  unit  2^(e-51)     integer t/unit, |.| <= 2^51   its bits minus the bits of magic = that integer
//!  magic 1.5*2^(e+1)  2^11 terms fit an i64         2^76 terms fit an i128
//! ```
//! The bits of `fma(x, r, magic)` grow by one for each unit, so a kernel adds them as 64-bit integers
//! (one multiply-add and one integer addition for each term) and takes `n * bits(magic)` off at the end.
//!
//! Background: Demmel and Nguyen, *Fast Reproducible Floating-Point Summation*, ARITH 2013.

mod grid;
mod sums;

pub use grid::Grid;
pub use sums::Sums;

/// The most terms that may be added as 64-bit integers before they are carried to an `i128`.
pub const TILE_TERMS: usize = 2048;
