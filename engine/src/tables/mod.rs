//! Tables: files named in FROM, and external tables that the warehouse remembers.

mod files;
mod stored;

pub use files::{FileTables, looks_like_path};
pub use stored::StoredTables;
