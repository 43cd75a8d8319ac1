//! INSERT and CREATE TABLE: rows into files, then the files into the table, all at once.
//!
//! ```text
//! WriteNode over the query ──> WriteExec: part files in tables/<t>/data/<run>/      nobody sees them
//! commit                   ──> tables/<t>/manifests/<n>.json lists them             everybody sees all of them
//! ```
//! A statement that fails or is cancelled takes its files away if it still can; if it cannot, they stay and
//! nothing refers to them.

mod commit;
mod exec;
mod file;
mod materialize;
mod mismatch;
mod node;
mod statement;
mod target;
#[cfg(test)]
mod tests;
mod values;

pub use exec::WriteExec;
pub use materialize::{Materialized, put_in_run, remove_in_run, remove_run};
pub use mismatch::with_columns;
pub use node::{WriteNode, WritePlanner};
pub use statement::{create, explained, insert};
pub use target::Target;
