//! The GPU that the tests open, and the shapes they use.

use std::sync::Arc;

use super::common::Shape;
use sinew_ml::gpu::{Gpu, GpuOptions};

/// Software counts where the environment says so; fresh outputs hold NaN.
pub fn options() -> GpuOptions {
    GpuOptions { software: std::env::var("SINEW_GPU_ALLOW_SOFTWARE").is_ok(), poison: true, ..GpuOptions::default() }
}

/// A device of its own.
pub fn open(options: &GpuOptions) -> Option<Arc<Gpu>> {
    match Gpu::open(None, options) {
        Ok(gpu) => Some(Arc::new(gpu)),
        Err(why) if std::env::var("SINEW_REQUIRE_GPU").is_ok() => panic!("SINEW_REQUIRE_GPU is set, and {why}"),
        Err(why) => {
            eprintln!("NOT TESTED: kernels of a GPU, because {why}");
            None
        }
    }
}

/// Fresh random numbers, or those of SINEW_SEED.
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = std::env::var("SINEW_SEED").map_or(now.as_nanos() as u64 & 0xff_ffff, |s| s.parse().unwrap());
    eprintln!("SINEW_SEED={seed}");
    seed
}

/// One seed, or as many as SINEW_ROUNDS says: what holds for one draw of random numbers must hold for all.
pub fn seeds() -> impl Iterator<Item = u64> {
    let rounds = std::env::var("SINEW_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let first = seed();
    (0..rounds).map(move |round| first.wrapping_add(round))
}

/// Shapes around the edges of strips, groups and tiles.
pub fn shapes() -> Vec<Shape> {
    let shape = |rows, columns, weight, role| Shape { rows, columns, weight, role };
    vec![
        shape(0, "fd3", true, true),
        shape(1, "fd3", true, true),
        shape(7, "f", false, false),
        shape(64, "ffff", true, false),
        shape(65, "fffff", false, true),
        shape(257, "9", false, true),
        shape(1009, "fffffffffffff", false, false),
        shape(2053, "ddfff4ff2f", true, true),
        shape(3000, "fdwf3fdw", true, true),
        shape(5003, "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffdd", true, true),
    ]
}
