//! SQL and machine learning in one dataflow engine: what people embed.
//!
//! A [`Session`] runs SQL, `TRAIN MODEL` among it, and streams the results; the [`warehouse`] keeps
//! models and table definitions; [`cli`] is the `sinew` command line.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> sinew::Result<()> {
//! let session = sinew::Session::embedded(sinew::SessionOptions::in_memory())?;
//! let batches = session.sql("SELECT 1 + 1 AS two").collect().await?;
//! assert_eq!(batches[0].num_rows(), 1);
//! # Ok(())
//! # }
//! ```

pub mod cli;
mod codec;
pub mod config;
pub mod daemon;
pub mod error;
pub mod flight;
pub mod frame;
pub mod manual;
mod plans;
mod run;
pub mod session;
pub mod storage;
pub mod tables;
pub mod warehouse;

pub use codec::codec;
pub use config::SessionOptions;
pub use error::{Result, SinewError};
pub use frame::{Learn, Trained};
pub use session::{Execution, ExecutionKind, Host, Interrupted, Session, Statements, devices, environment};
