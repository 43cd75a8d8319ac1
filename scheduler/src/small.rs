//! Queries whose work is known to be small from the files they read.

use std::sync::Arc;

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::union::UnionExec;
use sinew_ml::device::Device;
use sinew_ml::operators::ScoreExec;

/// Bytes of files that a plan reads; `None` when its work may be more than a few passes over them, as with joins.
pub fn bytes_read(plan: &Arc<dyn ExecutionPlan>) -> Option<u64> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let files = scan.data_source().downcast_ref::<FileScanConfig>()?;
        let files = files.file_groups.iter().flat_map(|group| group.files());
        return Some(files.map(|file| file.effective_size()).sum());
    }
    let linear = plan.is::<AggregateExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<FilterExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<ProjectionExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<UnionExec>();
    // A model on the processor is a pass, too; a device is an executor's.
    let scores = plan.downcast_ref::<ScoreExec>();
    let scores = scores.is_some_and(|score| matches!(score.place().device, Device::Auto | Device::Cpu));
    if !linear && !scores {
        return None;
    }
    plan.children().into_iter().map(bytes_read).sum()
}

#[cfg(test)]
mod tests {
    use datafusion::error::Result;
    use datafusion::prelude::{ParquetReadOptions, SessionContext};

    use super::*;

    #[tokio::test]
    async fn passes_over_files_are_counted_and_joins_are_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = format!("{}/t.parquet", folder.path().display());
        let context = SessionContext::new();
        context.sql(&format!("COPY (SELECT value AS k FROM range(1000)) TO '{path}'")).await?.collect().await?;
        let size = std::fs::metadata(&path)?.len();
        context.register_parquet("t", &path, ParquetReadOptions::default()).await?;
        let read = async |sql: &str| -> Result<Option<u64>> {
            Ok(bytes_read(&context.sql(sql).await?.create_physical_plan().await?))
        };
        assert_eq!(read("SELECT k % 7, sum(k) FROM t WHERE k > 3 GROUP BY 1 ORDER BY 2 LIMIT 3").await?, Some(size));
        assert_eq!(read("SELECT k FROM t UNION ALL SELECT k + 1 FROM t").await?, Some(2 * size));
        assert_eq!(read("SELECT count(*) FROM t a, t b").await?, None);
        assert_eq!(read("SELECT sum(k) OVER (ORDER BY k) FROM t").await?, None);
        Ok(())
    }
}
