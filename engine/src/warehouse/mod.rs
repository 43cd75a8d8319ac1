//! The warehouse: where models and tables are kept.
//!
//! ```text
//! models/<name>/data/<run>/manifest.json        written first, never replaced
//! models/<name>/data/<run>/weights.safetensors
//! models/<name>/versions/00000007.json          points to a run; the version exists once this does
//! models/<name>/refs/00000002.json              default version, aliases, dropped versions
//! tables/<table>/data/<run>/part-<name>.parquet rows; written first, never replaced
//! tables/<table>/manifests/00000003.json        columns and files of a table, an external table, or that it was dropped
//! catalog/<table>/00000001.json                 external tables of earlier versions
//! runs/<run>/..                                 trainings that have not ended ([`runs`])
//! ```
//! There is no mutable pointer and no rename: whatever changes is a numbered record ([`records`]). A
//! writer that dies between data and version record leaves files that nothing refers to, and the
//! version before stays the one that is served. Names are encoded before they become paths ([`name`]).

pub mod columns;
pub mod conformance;
pub mod location;
pub mod memory;
pub mod models;
pub mod name;
pub mod process;
pub mod records;
pub mod runs;
pub mod store;
pub mod table_records;

pub use location::{DEFAULT_WAREHOUSE, Location};
pub use memory::MemoryCatalog;
pub use models::{Artifact, ModelCatalog, ModelInfo, ModelRef, PublishMode, Selector, VersionInfo};
pub use store::StoreCatalog;
pub use table_records::{DataFile, Manifest, StoredTable, TableRecords};

/// The format version of records about models. Older ones are read for ever.
pub const FORMAT: u32 = 1;

/// The newest format version that this code reads.
pub const KNOWN_FORMAT: u32 = 2;
