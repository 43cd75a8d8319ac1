//! What nobody may ask for: sizes that end the process before any limit of memory is felt, because memory is taken
//! for them at once.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::scalar::ScalarValue;

use crate::error::{Result, SinewError};

/// DataFusion's settings of a number of things, and the least and the most.
const SETTINGS: [(&str, u64, u64); 9] = [
    ("datafusion.execution.batch_size", 1, 1 << 20),
    ("datafusion.execution.target_partitions", 0, 4096),
    ("datafusion.execution.planning_concurrency", 0, 4096),
    ("datafusion.execution.meta_fetch_concurrency", 1, 4096),
    ("datafusion.execution.minimum_parallel_output_files", 1, 4096),
    ("datafusion.execution.max_buffered_batches_per_output_file", 1, 4096),
    ("datafusion.execution.parquet.write_batch_size", 1, 1 << 20),
    ("datafusion.execution.parquet.maximum_parallel_row_group_writers", 1, 4096),
    ("datafusion.execution.parquet.maximum_buffered_record_batches_per_stream", 1, 4096),
];

/// Centroids of an approximate percentile; DataFusion's default is 100.
const CENTROIDS: u64 = 10_000;

/// Looks at a SET.
///
/// # Errors
/// When the value is not among those that the setting may have.
pub fn setting(variable: &str, value: &str) -> Result<()> {
    let known = SETTINGS.iter().find(|(name, ..)| variable.eq_ignore_ascii_case(name));
    let Some((name, least, most)) = known else { return Ok(()) };
    // What is no number is DataFusion's to refuse.
    match value.trim().parse::<u128>() {
        Ok(number) if !(u128::from(*least)..=u128::from(*most)).contains(&number) => Err(SinewError::Config {
            name: (*name).into(),
            value: value.into(),
            expected: format!("write a number from {least} to {most}"),
        }),
        _ => Ok(()),
    }
}

/// Looks at the functions of a plan.
///
/// # Errors
/// When an argument is too large.
pub fn functions(plan: &LogicalPlan) -> Result<()> {
    let mut refused = Ok(());
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                refused = function(expr);
                Ok(if refused.is_ok() { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })
    })?;
    refused
}

fn function(expr: &Expr) -> Result<()> {
    let Expr::AggregateFunction(call) = expr else { return Ok(()) };
    let place = match call.func.name() {
        "approx_percentile_cont" => 2,
        "approx_percentile_cont_with_weight" => 3,
        _ => return Ok(()),
    };
    let Some(Expr::Literal(value, _)) = call.params.args.get(place) else { return Ok(()) };
    let number = value.cast_to(&datafusion::arrow::datatypes::DataType::UInt64);
    match number {
        Ok(ScalarValue::UInt64(Some(centroids))) if centroids > CENTROIDS => Err(SinewError::Config {
            name: format!("{}, centroids", call.func.name()),
            value: value.to_string(),
            expected: format!("write a number up to {CENTROIDS}"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Session, SessionOptions};

    #[tokio::test]
    async fn sizes_that_would_end_the_process_are_refused() -> crate::Result<()> {
        let session = Session::embedded(SessionOptions::in_memory())?;
        for sql in [
            "SET datafusion.execution.batch_size = 1000000000000000000",
            "SET DataFusion.Execution.batch_size = 0",
            "SET datafusion.execution.target_partitions = 200000",
            "SELECT approx_percentile_cont(value, 0.5, 1000000000000000) FROM range(10)",
            "SELECT approx_percentile_cont(1000000000000) WITHIN GROUP (ORDER BY value) FROM range(10)",
            "SELECT 1 + (SELECT approx_percentile_cont(value, 0.5, 100000) FROM range(10))",
        ] {
            let error = session.sql(sql).collect().await.map(|_| String::new()).unwrap_or_else(|e| e.to_string());
            assert!(!error.is_empty(), "{sql}");
        }
        session.sql("SET datafusion.execution.batch_size = 4096").collect().await?;
        session.sql("SELECT approx_percentile_cont(value, 0.5, 1000) FROM range(10)").collect().await?;
        Ok(())
    }
}
