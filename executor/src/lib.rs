//! The executor of a cluster: Ballista's, assembled with our codec, device, feature cache and cancellation.
//!
//! ```text
//!  main ── settings ── folder ── wait for the scheduler ── Ballista's executor process ── signal: drain, exit 0
//!                                                                     └── lost the scheduler: begin again
//! ```

mod cancel;
mod clients;
mod engine;
mod folder;
mod ports;
mod resources;
mod results;
mod scheduler;
mod server;
mod settings;

pub use server::main;
