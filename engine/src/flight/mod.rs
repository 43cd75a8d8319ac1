//! Arrow Flight SQL: a session served to other programs, and a session over a connection.
//!
//! A statement that only reads is planned when a client asks for it and run each time its result is
//! fetched. Everything else (TRAIN MODEL, definitions, writes) runs once, when it is asked for, and its small
//! result is kept so that it can be fetched again.

mod actions;
pub mod auth;
mod calls;
mod client;
mod connect;
mod connection;
mod direct;
mod door;
mod expiry;
mod ingest;
mod limits;
mod listen;
mod messages;
mod metadata;
mod options;
mod protocol;
mod run;
mod schema;
mod server;
mod service;
mod sessions;
mod sql_info;
mod statements;
mod status;
mod temporary;
mod tls;
mod workers;
mod xdbc;

pub(crate) use client::Remote;
pub use connect::ConnectOptions;
pub use direct::{Grant, Part, Place, Placed, Reader, Signer, Verifier, serve_results};
pub use door::{DOOR, Door};
pub use listen::listen;
pub use server::{Accepted, ServeOptions, serve};
pub use statements::KEPT;
pub use tls::Tls;

/// The port of Flight SQL where an address names none.
pub const PORT: u16 = 50051;
/// Header and cookie by which a client stays in its session.
const COOKIE: &str = "arrow_flight_session_id";
/// Headers that say where in its script a statement begins, so that errors name the right place.
const LINE: &str = "sinew-line";
/// The column that belongs to [`LINE`].
const COLUMN: &str = "sinew-column";
