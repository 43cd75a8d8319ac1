//! The scheduler of a cluster: Ballista's, assembled with our session, codec and placement, and the process
//! that hosts sessions and the loops of trainings.
//!
//! ```text
//!  client ── Flight SQL ──> engine's sessions ──┬─ query.rs: a query is a job ──────────┐
//!                                               └─ steps.rs: a step is a job ── units ──┤
//!                                                                                       v
//!  executors <── gRPC ── Ballista's scheduler ── members.rs: which task runs where ── jobs.rs
//!            ── heartbeats, and watch.rs: a connection that breaks when the executor dies
//! ```

mod assembly;
mod assign;
mod devices;
mod direct;
mod failure;
mod jobs;
mod joins;
mod launch;
mod members;
mod metrics;
mod private;
mod probe;
mod query;
mod resume;
mod server;
mod settings;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod simulation;
mod small;
mod steps;
#[cfg(test)]
mod testing;
mod travel;
mod watch;
mod wire;

pub use server::main;
