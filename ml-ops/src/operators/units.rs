//! Rows of a training query as units that can be read alone: a file, or a range of one.
//!
//! A query has units if nothing in it looks at more than one row: a scan of files, and filters and
//! projections over it. Any other query is written to files first, which then are its units.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use object_store::ObjectStoreExt;

use crate::error::{MlError, Result};

/// Bytes of a unit, at most, where files can be split.
const UNIT_BYTES: u64 = 64 << 20;
/// A smaller file is never split.
const LEAST_BYTES: u64 = 1 << 20;
/// Units for each place that rows are folded, at least, so that the work is even.
const UNITS_PER_SLOT: usize = 2;

/// The scan below a query that has units.
pub fn scan(query: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    let mut node = query;
    loop {
        if let Some(source) = node.downcast_ref::<DataSourceExec>() {
            let config = source.data_source().downcast_ref::<FileScanConfig>()?;
            return config.limit.is_none().then_some(config);
        }
        node = local_child(node)?;
    }
}

/// The input of an operator that looks at one row at a time.
fn local_child(node: &Arc<dyn ExecutionPlan>) -> Option<&Arc<dyn ExecutionPlan>> {
    let local = node.is::<FilterExec>()
        || node.is::<ProjectionExec>()
        || node.is::<CooperativeExec>()
        || node.is::<UnnestExec>();
    match node.children().as_slice() {
        [child] if local && node.fetch().is_none() => Some(child),
        _ => None,
    }
}

/// The files of a query, each a unit; `None` if its rows cannot be read in parts.
pub fn files(query: &Arc<dyn ExecutionPlan>) -> Option<Vec<PartitionedFile>> {
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    for file in scan(query)?.file_groups.iter().flat_map(|group| group.files()) {
        // The planner may have split a file; all its parts are the whole of it.
        if seen.insert(&file.object_meta.location) {
            files.push(PartitionedFile { range: None, statistics: None, ..file.clone() });
        }
    }
    Some(files)
}

/// The units of a query, for so many slots; `None` if its rows cannot be read in parts.
pub fn of(query: &Arc<dyn ExecutionPlan>, slots: usize) -> Option<Vec<PartitionedFile>> {
    let (scan, files) = (scan(query)?, files(query)?);
    let bytes: u64 = files.iter().map(|file| file.object_meta.size).sum();
    let wanted = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX).max(slots * UNITS_PER_SLOT).max(1);
    let groups = files.iter().map(|file| FileGroup::new(vec![file.clone()])).collect();
    let whole = FileScanConfigBuilder::from(scan.clone()).with_file_groups(groups).build();
    let least = usize::try_from(LEAST_BYTES).unwrap_or(usize::MAX);
    let split = whole.file_source.repartitioned(wanted, least, None, &whole);
    let Ok(Some(split)) = split else { return Some(files) };
    Some(split.file_groups.iter().flat_map(|group| group.files().to_vec()).collect())
}

/// The query over these groups of files, one partition for each.
///
/// # Errors
/// When the query has no units.
pub fn bind(query: &Arc<dyn ExecutionPlan>, groups: Vec<FileGroup>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(config) =
        query.downcast_ref::<DataSourceExec>().and_then(|source| source.data_source().downcast_ref::<FileScanConfig>())
    {
        let bound = FileScanConfigBuilder::from(config.clone())
            .with_output_partitioning(None)
            .with_output_ordering(Vec::new())
            .with_file_groups(groups)
            .build();
        return Ok(DataSourceExec::from_data_source(bound));
    }
    match local_child(query) {
        Some(child) => {
            let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            Ok(Arc::clone(query).replace_children(vec![bind(child, groups)?], recompute)?)
        }
        None => Err(MlError::Internal(format!("{} does not read its rows in parts", query.name()))),
    }
}

/// The units of each partition of a bound query.
///
/// # Errors
/// When the query has no units.
pub fn groups(query: &Arc<dyn ExecutionPlan>) -> Result<&[FileGroup]> {
    match scan(query) {
        Some(scan) if scan.file_groups.len() == query.output_partitioning().partition_count() => Ok(&scan.file_groups),
        _ => Err(MlError::Internal("the rows of a step are not bound to files".into())),
    }
}

/// Bytes of a unit.
pub fn bytes(file: &PartitionedFile) -> u64 {
    file.range.as_ref().map_or(file.object_meta.size, |range| (range.end - range.start).unsigned_abs())
}

/// A name that says which rows a unit has: its file as it was when the statement was planned, and the range.
pub fn name(store: &str, file: &PartitionedFile) -> String {
    let meta = &file.object_meta;
    let range = file.range.as_ref().map_or_else(String::new, |range| format!(" {}-{}", range.start, range.end));
    format!("{store}{} {} {}{range}", meta.location, meta.size, meta.last_modified.timestamp_nanos_opt().unwrap_or(0))
}

/// A key of rows in a length that travels well.
pub fn digest(key: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(key.as_bytes()))
}

/// A short form of the name.
pub fn id(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

/// Fails when a unit's file is no longer what it was when the statement was planned.
///
/// # Errors
/// Naming the file.
pub async fn check_unchanged(
    query: &Arc<dyn ExecutionPlan>,
    file: &PartitionedFile,
    context: &TaskContext,
) -> Result<()> {
    let scan = scan(query).ok_or_else(|| MlError::Internal("a unit without a scan".into()))?;
    let store = context.runtime_env().object_store(&scan.object_store_url)?;
    let meta = &file.object_meta;
    let now = store.head(&meta.location).await.map_err(DataFusionError::from)?;
    if now.size != meta.size || now.last_modified != meta.last_modified {
        return Err(MlError::Data {
            reason: format!("file {} changed while the model was trained; run the statement again", meta.location),
        });
    }
    Ok(())
}
