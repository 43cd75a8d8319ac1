//! Tables: files named in FROM, and tables that the warehouse remembers; what writes into either.

pub(crate) mod copy;
mod delimiter;
mod files;
mod managed;
mod stored;
pub(crate) mod write;

pub use copy::CopyExec;
pub use files::{FileTables, looks_like_path};
pub(crate) use managed::ManagedTable;
pub use stored::StoredTables;
pub use write::{Materialized, put_in_run, remove_in_run, remove_run};
