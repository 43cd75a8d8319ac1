//! Where bytes lie: an address becomes an object store.
//!
//! One road for the warehouse, for files named in statements and for the executors of a cluster: the
//! registry of [`registry()`] makes a store when an address is first used, from the environment and the
//! session's options. Stores over a network are wrapped ([`named`]), so that an error says which bucket,
//! which operation and what to do, and never a secret.

pub mod address;
mod confined;
mod credentials;
pub mod failure;
mod named;
mod registry;
pub mod roots;
mod services;
mod settings;

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreRegistry;

pub use address::{Service, show};

pub(crate) use roots::local_path;
pub use roots::{Access, Roots};

use crate::config::SessionOptions;
use crate::error::Result;

/// The stores of a process with these options; connects to nothing before a store is used.
///
/// # Errors
/// When a root of the options is none.
pub fn registry(options: &SessionOptions) -> Result<Arc<dyn ObjectStoreRegistry>> {
    confined(options, [Roots::of(options)?])
}

/// As [`registry()`], with the roots given in place of those of the options: what is touched lies in all of them.
///
/// # Errors
/// Never, in this version.
pub fn confined(
    options: &SessionOptions,
    roots: impl IntoIterator<Item = Roots>,
) -> Result<Arc<dyn ObjectStoreRegistry>> {
    let roots = roots.into_iter().filter(|roots| !roots.everything()).map(Arc::new).collect();
    Ok(Arc::new(registry::Registry::new(settings::Settings::new(options, std::env::vars()), roots)))
}
