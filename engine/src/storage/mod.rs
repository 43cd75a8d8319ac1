//! Where bytes lie: an address becomes an object store.
//!
//! One road for the warehouse, for files named in statements and for the executors of a cluster: the
//! registry of [`registry()`] makes a store when an address is first used, from the environment and the
//! session's options. Stores over a network are wrapped ([`named`]), so that an error says which bucket,
//! which operation and what to do, and never a secret.

pub mod address;
mod credentials;
pub mod failure;
mod named;
mod registry;
mod services;
mod settings;

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreRegistry;

pub use address::{Service, show};

use crate::config::SessionOptions;

/// The stores of a process with these options; connects to nothing before a store is used.
pub fn registry(options: &SessionOptions) -> Arc<dyn ObjectStoreRegistry> {
    Arc::new(registry::Registry::new(settings::Settings::new(options, std::env::vars())))
}
