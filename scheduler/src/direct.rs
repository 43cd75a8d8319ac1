//! Queries whose clients fetch the results from the executors that made them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::serde::protobuf::{self, PartitionLocation};
use ballista_core::serde::scheduler::{Action, ShuffleFileKind};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use prost::Message;
use sinew::flight::{Grant, KEPT, Part, Place, Placed, Signer};

use crate::failure;
use crate::jobs::{Finished, Jobs};
use crate::query::{self, ClusterExec};

/// A result of fewer bytes comes through the gateway: a connection to an executor costs more.
const SMALL: u64 = 1 << 20;

/// Runs queries as jobs and signs leave to read their results.
pub struct Direct {
    jobs: Arc<Jobs>,
    signer: Arc<Signer>,
}

impl Direct {
    /// Jobs, and the key that executors know.
    pub fn new(jobs: Arc<Jobs>, signer: Arc<Signer>) -> Self {
        Self { jobs, signer }
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Direct")
    }
}

#[async_trait]
impl Place for Direct {
    fn ready(&self) -> bool {
        self.jobs.members.serves_results()
    }

    async fn place(&self, plan: &Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Option<Arc<dyn Placed>>> {
        let Some(job) = plan.downcast_ref::<ClusterExec>() else { return Ok(None) };
        let finished = query::finished(&self.jobs, job.plan(), &context).await?;
        Ok(Some(Arc::new(Held { finished, schema: plan.schema(), signer: Arc::clone(&self.signer) })))
    }
}

/// The result of a job.
struct Held {
    finished: Arc<Finished>,
    schema: SchemaRef,
    signer: Arc<Signer>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} parts", self.finished.partitions.len())
    }
}

impl Held {
    /// The executor that serves a part, and what it reads.
    fn held(&self, location: &PartitionLocation) -> Option<(String, String, Vec<u8>)> {
        let executor = location.executor_meta.as_ref()?;
        let address = self.finished.jobs().members.results_at(&executor.id)?;
        let partition = location.partition_id.as_ref()?;
        let action = Action::FetchPartition {
            job_id: partition.job_id.clone().into(),
            stage_id: partition.stage_id as usize,
            partition_id: partition.partition_id as usize,
            host: executor.host.clone(),
            port: executor.port as u16,
            file_id: location.file_id,
            layout: location.layout(),
            file_kind: ShuffleFileKind::Data,
            byte_ranges: Vec::new(),
        };
        let action: protobuf::Action = action.try_into().ok()?;
        Some((executor.id.clone(), address, action.encode_to_vec()))
    }
}

#[async_trait]
impl Placed for Held {
    fn rows(&self) -> Option<usize> {
        self.finished.rows()
    }

    fn parts(&self, name: &str) -> Vec<Part> {
        if self.finished.bytes() < SMALL {
            return Vec::new();
        }
        let held: Option<Vec<_>> = self.finished.partitions.iter().map(|location| self.held(location)).collect();
        // One that no executor serves comes through the gateway, and then all do, in their order.
        let parts = held.unwrap_or_default().into_iter().enumerate();
        let until = Grant::ends_after(KEPT);
        let part = |(number, (executor, address, what)): (usize, (String, String, Vec<u8>))| Part {
            address,
            ticket: self.signer.sign(&Grant { executor, what, until, result: name.into(), part: number as u32 }),
        };
        parts.map(part).collect()
    }

    async fn relay(&self, part: Option<usize>) -> Result<SendableRecordBatchStream> {
        let finished = Arc::clone(&self.finished);
        match part {
            None => {
                let schema = Arc::clone(&self.schema);
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, query::stream(finished))))
            }
            Some(number) => {
                let no_part =
                    || failure::cluster(format!("the result has no part {number}"), "run the statement again");
                let location = finished.partitions.get(number).ok_or_else(no_part)?;
                let rows = finished.jobs().fetch(location).await?;
                let held = Arc::clone(&finished);
                let rows = RecordBatchStreamAdapter::new(
                    rows.schema(),
                    rows.map(move |batch| {
                        let _ = &held;
                        batch
                    }),
                );
                Ok(Box::pin(rows))
            }
        }
    }
}
