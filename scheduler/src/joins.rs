//! Joins whose build side may not fit into a task's memory sort and merge, which can go to disk.
//!
//! Ballista turns hash joins off for that reason; sorting both sides of every join makes most queries several
//! times slower. Here DataFusion chooses as it does in one process, and then:
//!
//! ```text
//!  HashJoin(partitioned)   estimated bytes of a build partition <= limit   stays
//!                          larger, or unknown                              SortMergeJoin
//! ```
//! The rule runs before sorts and exchanges are placed, so that both kinds of joins get what they need.

use std::sync::Arc;

use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::JoinType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode, SortMergeJoinExec};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

/// Bytes that a value of variable length is taken to have.
const TEXT: usize = 32;

/// Replaces hash joins that may be too large.
#[derive(Debug)]
pub struct Joins {
    limit: usize,
}

impl Joins {
    /// Build sides of up to `limit` bytes in each partition are hashed.
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }

    fn replaced(&self, plan: Arc<dyn ExecutionPlan>, partitions: usize) -> Result<Transformed<Arc<dyn ExecutionPlan>>> {
        let Some(join) = plan.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(plan)) };
        // What was collected was small, and a projection inside the join is made by later rules only.
        if *join.partition_mode() != PartitionMode::Partitioned || join.contains_projection() || join.on().is_empty() {
            return Ok(Transformed::no(plan));
        }
        if !sorts(join) {
            return Ok(Transformed::no(plan));
        }
        let context = StatisticsContext::new();
        if bytes(&context, join.left())?.is_some_and(|all| all / partitions.max(1) <= self.limit) {
            return Ok(Transformed::no(plan));
        }
        let merged = SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            join.on().to_vec(),
            join.filter().cloned(),
            *join.join_type(),
            vec![SortOptions::default(); join.on().len()],
            join.null_equality(),
        )?;
        Ok(Transformed::yes(Arc::new(merged)))
    }
}

impl PhysicalOptimizerRule for Joins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let partitions = config.execution.target_partitions;
        Ok(plan.transform_up(|node| self.replaced(node, partitions))?.data)
    }

    fn name(&self) -> &str {
        "joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether a sorted join can take the place of a hashed one: where only one side's rows come out, it compares keys of
/// some types only.
fn sorts(join: &HashJoinExec) -> bool {
    use DataType as T;
    let one_side = !matches!(join.join_type(), JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full);
    let schema = join.left().schema();
    let known = |key: &Arc<dyn PhysicalExpr>| {
        let kind = key.data_type(&schema);
        kind.is_ok_and(|kind| {
            kind.is_integer()
                || kind.is_floating()
                || matches!(kind, T::Boolean | T::Utf8 | T::LargeUtf8 | T::Date32 | T::Date64 | T::Decimal128(..))
                || matches!(kind, T::Timestamp(_, None))
        })
    };
    !one_side || join.on().iter().all(|(left, _)| known(left))
}

/// An estimate of all bytes of a plan's output: from its own statistics, else what its inputs hold together.
fn bytes(context: &StatisticsContext, plan: &Arc<dyn ExecutionPlan>) -> Result<Option<usize>> {
    let statistics = context.compute(plan.as_ref(), &StatisticsArgs::new())?;
    let rows = statistics.num_rows.get_value();
    if let Some(known) = statistics.total_byte_size.get_value().copied() {
        return Ok(Some(known));
    }
    if let Some(rows) = rows {
        return Ok(Some(rows.saturating_mul(width(&plan.schema()))));
    }
    let children = plan.children();
    if children.is_empty() {
        return Ok(None);
    }
    children.into_iter().try_fold(Some(0_usize), |sum, child| {
        Ok(match (sum, bytes(context, child)?) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            _ => None,
        })
    })
}

/// Bytes of a row.
fn width(schema: &Schema) -> usize {
    let of = |kind: &DataType| kind.primitive_width().unwrap_or(TEXT);
    schema.fields().iter().map(|field| of(field.data_type())).sum::<usize>().max(1)
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::displayable;
    use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
    use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};

    use super::*;

    /// The plan of a join of two files of 20,000 rows, with hash joins up to `limit` bytes.
    async fn plan(limit: usize, kind: &str) -> Result<String> {
        let folder = tempfile::tempdir()?;
        let mut config = SessionConfig::new().with_target_partitions(2);
        // Neither side is small enough to be sent to every task.
        config.options_mut().optimizer.hash_join_single_partition_threshold = 0;
        config.options_mut().optimizer.hash_join_single_partition_threshold_rows = 0;
        let context = SessionContext::new_with_config(config);
        for name in ["a", "b"] {
            let path = format!("{}/{name}.parquet", folder.path().display());
            let write = format!("COPY (SELECT value AS k, value * 2 AS v FROM range(20000)) TO '{path}'");
            context.sql(&write).await?.collect().await?;
            context.register_parquet(name, &path, ParquetReadOptions::default()).await?;
        }
        let sql = format!("SELECT * FROM a {kind} JOIN b ON a.k = b.k AND a.v < b.v + 1");
        let logical = context.state().optimize(context.sql(&sql).await?.logical_plan())?;
        let state = context.state();
        let mut rules = state.physical_optimizers().to_vec();
        let after = rules.iter().position(|rule| rule.name() == "join_selection").map_or(0, |at| at + 1);
        rules.insert(after, Arc::new(Joins::new(limit)));
        let state =
            datafusion::execution::SessionStateBuilder::from(state).with_physical_optimizer_rules(rules).build();
        let plan = DefaultPhysicalPlanner::default().create_physical_plan(&logical, &state).await?;
        let rows = datafusion::physical_plan::collect(Arc::clone(&plan), context.task_ctx()).await?;
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 20_000);
        Ok(displayable(plan.as_ref()).indent(true).to_string())
    }

    #[tokio::test]
    async fn a_build_side_that_fits_is_hashed() -> Result<()> {
        let text = plan(1 << 20, "").await?;
        assert!(text.contains("HashJoinExec: mode=Partitioned") && !text.contains("SortMergeJoin"), "{text}");
        Ok(())
    }

    #[tokio::test]
    async fn a_larger_one_is_sorted_whatever_the_kind_of_the_join() -> Result<()> {
        for kind in ["", "LEFT", "RIGHT", "FULL"] {
            let text = plan(1 << 10, kind).await?;
            assert!(text.contains("SortMergeJoinExec") && !text.contains("HashJoinExec"), "{kind}: {text}");
        }
        Ok(())
    }
}
