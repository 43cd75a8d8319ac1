//! Kernels x backends x shapes: the same bits from every instruction set, tile and order of rows of the processor, and
//! the numbers of plain loops in double precision from a GPU.
//!
//! Without an adapter the tests of a GPU say so aloud and pass, unless SINEW_REQUIRE_GPU=1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_range_loop)]

#[path = "../common/mod.rs"]
mod common;
mod processor;

#[cfg(feature = "gpu")]
#[path = "../common/networks.rs"]
mod fixture;

#[cfg(feature = "gpu")]
mod device;
#[cfg(feature = "gpu")]
mod folds;
#[cfg(feature = "gpu")]
mod matrices;
#[cfg(feature = "gpu")]
mod networks;
#[cfg(feature = "gpu")]
mod scores;
#[cfg(feature = "gpu")]
mod sizes;
