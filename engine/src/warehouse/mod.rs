//! The warehouse: where models and table definitions are kept.
//!
//! ```text
//! models/<name>/data/<run>/manifest.json        written first, never replaced
//! models/<name>/data/<run>/weights.safetensors
//! models/<name>/versions/00000007.json          points to a run; the version exists once this does
//! models/<name>/refs/00000002.json              default version, aliases, dropped versions
//! catalog/<table>/00000001.json                 an external table, or that it was dropped
//! ```
//! There is no mutable pointer and no rename: whatever changes is a numbered record ([`records`]). A
//! writer that dies between data and version record leaves files that nothing refers to, and the
//! version before stays the one that is served. Names are encoded before they become paths ([`name`]).

pub mod conformance;
pub mod location;
pub mod memory;
pub mod models;
pub mod name;
pub mod records;
pub mod store;
pub mod table_records;

pub use location::{DEFAULT_WAREHOUSE, Location};
pub use memory::MemoryCatalog;
pub use models::{Artifact, ModelCatalog, ModelInfo, ModelRef, PublishMode, Selector, VersionInfo};
pub use store::StoreCatalog;
pub use table_records::{TableRecord, TableRecords};

/// The format version of records this code writes. Older ones are read for ever.
pub const FORMAT: u32 = 1;
