//! The kernels of every fold on the processor.
//!
//! ```text
//!  block -> tiles of some hundred rows that stay in the second-level cache
//!           rows weighed by role, sample and weight; where few count, they are gathered into full tiles
//!  tile  -> margins, column after column     m = fma(x_j, w_j, m)
//!           residual and loss                own exp and log
//!           sums                             bits(fma(x_j, r, magic)) added as integers
//! ```
//! Vectors run across rows. A row's numbers are the same sequence of operations at any vector width, and
//! sums are exact (see [`crate::exact`]), so a fold gives the same bits with any [`Isa`], tile, order of
//! rows and cut into blocks. Every kernel is written once, for any `Lanes`, and compiled for each.

// Loops over lanes and register blocks index several arrays at once.
#![allow(clippy::needless_range_loop)]

mod candidates;
mod centroids;
mod columns;
mod cpu;
mod drive;
mod gram;
mod isa;
mod lanes;
mod linear;
pub mod math;
mod moments;
pub(crate) mod network;
mod pending;
mod scores;
mod softmax;
mod sums;
mod tile;

pub use cpu::Cpu;
pub(crate) use cpu::check_kernel;
pub use isa::Isa;
pub use math::softmax;
pub(crate) use network::HEAD as LESSON_HEAD;
pub use scores::{Scores, Scoring, scores};
