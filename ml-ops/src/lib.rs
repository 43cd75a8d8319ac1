//! Families of models, what they minimise, and the operators that train them.

pub mod backend;
pub mod block;
pub mod error;
pub mod exact;
pub mod families;
pub mod family;
pub mod fold;
pub mod functions;
pub mod kernels;
pub mod linalg;
pub mod model;
pub mod objective;
pub mod objectives;
pub mod optimizer;
pub mod optimizers;
pub mod params;
pub mod partial;
pub mod split;
pub mod transform;

pub use error::{MlError, Result};
