//! Families of models, what they minimise, and the operators that train them.

// Fixtures that unit tests share with those in `tests/` name the crate as those do.
#[cfg(test)]
extern crate self as sinew_ml;

pub mod backend;
pub mod block;
pub mod columns;
pub mod device;
pub mod error;
pub mod exact;
pub mod families;
pub mod family;
pub mod fold;
pub mod functions;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod kernels;
pub mod linalg;
pub mod metrics;
pub mod model;
pub mod network;
pub mod objective;
pub mod objectives;
pub mod operators;
pub mod optimizer;
pub mod optimizers;
pub mod params;
pub mod partial;
pub mod prepare;
pub mod profile;
pub mod runtime;
pub mod split;
pub mod store;
pub mod training;
pub mod transform;

pub use error::{MlError, Result};
