//! COPY TO: DataFusion's writers, and no file before the last row.
//!
//! A writer of DataFusion's ends its file when its rows end, also when they end with an error. So the store
//! that it writes to is one with a gate: nothing appears in it until all rows have been read without error.

mod exec;
mod gate;
mod node;

pub use exec::CopyExec;
pub use node::{CopyNode, CopyPlanner};
