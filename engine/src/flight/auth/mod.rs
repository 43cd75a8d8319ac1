//! Who makes a call, and what they may do.
//!
//! [`Guarded`] stands before the service: a call that does not say who makes it is answered there, before its
//! message is read. It leaves an [`Identity`] with the request; a session belongs to one user, and
//! [`roles`] says for each statement which role it needs.

pub mod audit;
mod backoff;
mod guard;
mod layer;
mod redact;
pub mod roles;
pub mod secret;
pub mod tokens;
pub mod users;

pub use guard::{Guard, GuardOptions, Identity};
pub use layer::Guarded;
