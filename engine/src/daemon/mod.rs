//! What the daemons of a cluster share: their options, their log, their signals.

mod log;
mod settings;
pub mod signals;

pub use log::log;
pub use settings::{DaemonSpec, Settings, joined};

/// Bytes of stack of a thread that runs statements, or drops them. Expressions are walked, copied and dropped by recursion, and a chain of
/// a thousand operators takes a few MiB of it; only what is used takes memory.
pub const STACK: usize = 64 << 20;
