//! Results that clients fetch where they lie: a query runs when its description is asked for, and each part of its
//! result has a ticket for the executor that holds it.
//!
//! ```text
//!  client ── GetFlightInfo ──> gateway: runs the job, signs a grant for each part
//!         <── endpoints: [executor's address, this connection], ticket = grant
//!         ── DoGet(grant) ──> executor: checks signature, expiry and its own name, reads that part      serve.rs
//!         ── DoGet(grant) ──> gateway, where the client cannot reach the executor: relays that part
//! ```
//! A grant is worth one part of one result until it expires. Executors know the gateway's public key and can sign
//! nothing.

mod grant;
mod serve;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;

pub use grant::{Grant, Signer, Verifier};
pub use serve::{Reader, serve_results};

/// Runs queries so that their results stay where they were made.
#[async_trait]
pub trait Place: Debug + Send + Sync {
    /// Whether an executor serves clients.
    fn ready(&self) -> bool;

    /// Runs `plan` to its end; `None` where it is no plan for the cluster; it has not run then.
    ///
    /// # Errors
    /// When the query fails.
    async fn place(&self, plan: &Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Option<Arc<dyn Placed>>>;
}

/// A result that stays while this lives.
#[async_trait]
pub trait Placed: Debug + Send + Sync {
    /// Its rows, where they are known.
    fn rows(&self) -> Option<usize>;

    /// Address and ticket of every part of the result that the gateway keeps under `name`; empty where it is small
    /// enough to come through the gateway.
    fn parts(&self, name: &str) -> Vec<Part>;

    /// The rows of one part, or of all.
    ///
    /// # Errors
    /// When the executor that holds them is lost.
    async fn relay(&self, part: Option<usize>) -> Result<SendableRecordBatchStream>;
}

/// Where a client fetches a part of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The executor's address, such as `grpc+tcp://host:50061`.
    pub address: String,
    /// A signed [`Grant`].
    pub ticket: Vec<u8>,
}
