//! What DataFusion's messages leave out: how a CSV or JSON file is compressed. A scan of one would arrive as one of
//! plain lines, and read something else. The scheduler reads such files itself.

use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

/// Whether all scans of a plan arrive as they are sent.
pub fn travels(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let mut whole = true;
    let walked = plan.apply(|node| {
        let source = node.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
        if let Some(scan) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
            whole &= scan.file_compression_type == FileCompressionType::UNCOMPRESSED;
        }
        Ok(TreeNodeRecursion::Continue)
    });
    walked.is_ok() && whole
}
