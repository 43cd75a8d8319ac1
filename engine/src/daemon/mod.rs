//! What the daemons of a cluster share: their options, their log, their signals.

mod log;
mod settings;
pub mod signals;

pub use log::log;
pub use settings::{DaemonSpec, Settings, joined};
