//! Rows of a query brought together by virtual shard, for a cluster: every file that is written of them has
//! whole shards.
//!
//! ```text
//!  query ── ShardExec ── hash of the key ── projection ── (written to files)
//!           + a key for     exchange: one     - the key
//!             each shard    shard, one partition
//! ```
//! An exchange hashes its key, so the shards' keys are chosen to fall into different partitions. Were they to
//! fall together after all, files would have several shards, and nothing else would change.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::hash_utils::create_hashes;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::{REPARTITION_RANDOM_STATE, RepartitionExec};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::TryStreamExt;

use crate::network::shard_of;
use crate::profile::hash::hash_rows;

/// Name of the column that says where a row goes.
const KEY: &str = "__shard";

/// Adds each row's key as the last column.
#[derive(Clone, Debug)]
pub struct ShardExec {
    input: Arc<dyn ExecutionPlan>,
    keys: Arc<[u32]>,
    properties: Arc<PlanProperties>,
}

impl ShardExec {
    /// The rows of `input`, each with the key of its shard, one of `shards`.
    pub fn new(input: Arc<dyn ExecutionPlan>, shards: u32) -> Self {
        let mut fields: Vec<_> = input.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(Field::new(KEY, DataType::UInt32, false)));
        let partitions = input.output_partitioning().partition_count();
        let properties = super::properties(Arc::new(Schema::new(fields)), partitions, EmissionType::Incremental);
        Self { input, keys: keys(shards.max(1)).into(), properties }
    }

    /// The rows of `query` with whole shards in every partition.
    ///
    /// # Errors
    /// Never for a valid plan.
    pub fn arrange(query: Arc<dyn ExecutionPlan>, shards: u32) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = query.schema();
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new(KEY, columns.fields().len()));
        let by_key = Partitioning::Hash(vec![key], shards.max(1) as usize);
        let keyed = Arc::new(Self::new(query, shards));
        let exchanged = Arc::new(RepartitionExec::try_new(keyed, by_key)?);
        let kept = columns.fields().iter().enumerate().map(|(i, field)| {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), i));
            (column, field.name().clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(kept.collect::<Vec<_>>(), exchanged)?))
    }

    /// The number of shards.
    pub fn shards(&self) -> u32 {
        self.keys.len() as u32
    }
}

/// A key for each shard: where the exchange hashes as we expect, shard s goes to partition s.
fn keys(shards: u32) -> Vec<u32> {
    let mut keys: Vec<Option<u32>> = vec![None; shards as usize];
    // Coupons: far more than enough for the last shard to find its key.
    let tries = shards.saturating_mul(64).max(1024);
    let all: ArrayRef = Arc::new(UInt32Array::from_iter_values(0..tries));
    let mut hashes = vec![0u64; tries as usize];
    if create_hashes([&all], REPARTITION_RANDOM_STATE.random_state(), &mut hashes).is_ok() {
        for (key, hash) in (0..).zip(&hashes) {
            keys[(hash % u64::from(shards)) as usize].get_or_insert(key);
        }
    }
    // Keys must differ whatever happens.
    keys.into_iter().zip(tries..).map(|(key, other)| key.unwrap_or(other)).collect()
}

/// A batch with its rows' keys.
fn keyed(batch: &RecordBatch, keys: &[u32], schema: &SchemaRef) -> Result<RecordBatch> {
    let shards = keys.len() as u32;
    let column = hash_rows(batch)?.values().iter().map(|hash| keys[shard_of(*hash, shards) as usize]).collect();
    let mut columns = batch.columns().to_vec();
    columns.push(Arc::new(UInt32Array::new(column, None)));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

impl ExecutionPlan for ShardExec {
    fn name(&self) -> &str {
        "ShardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(super::only_child(self.name(), children)?, self.shards())))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let (keys, schema) = (Arc::clone(&self.keys), self.schema());
        let rows = rows.and_then(move |batch| std::future::ready(keyed(&batch, &keys, &schema)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

impl DisplayAs for ShardExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "ShardExec: shards={}", self.shards())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_keys_of_their_own() {
        for shards in [1, 2, 3, 8, 100] {
            let mut keys = keys(shards);
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), shards as usize);
        }
    }
}
