//! Rows of a query as files of a run: written once, read as often as needed, removed with the run.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::exec::WriteExec;
use super::target::{Target, files};
use crate::error::{Result, SinewError};
use crate::storage::local_path;
use crate::warehouse::Location;
use crate::warehouse::columns::columns;

/// A file is closed when it has so many bytes: many files are shared out more evenly.
const FILE_BYTES: u64 = 32 << 20;

/// The files of one run, below `runs/` of the warehouse.
#[derive(Clone, Debug)]
pub struct Materialized {
    target: Arc<Target>,
    location: Location,
    schema: SchemaRef,
}

impl Materialized {
    /// The files of run `run` in a warehouse, for rows of this schema. Nothing is written yet.
    pub fn new(location: &Location, run: &str, schema: SchemaRef) -> Self {
        let target = Target {
            table: format!("the rows of run {run}"),
            store: location.url.as_str().into(),
            folder: folder(location, run).to_string(),
            run: run.into(),
            columns: columns(&schema),
            file_bytes: FILE_BYTES,
        };
        Self { target: Arc::new(target), location: location.clone(), schema }
    }

    /// The same, with one file for each partition however long it is.
    pub fn whole(self) -> Self {
        let target = Target { file_bytes: u64::MAX, ..self.target.as_ref().clone() };
        Self { target: Arc::new(target), ..self }
    }

    /// The plan that writes the rows of `query`.
    pub fn write(&self, query: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(WriteExec::new(Arc::clone(&self.target), query))
    }

    /// The plan that reads the rows, from what the plan that wrote them returned.
    ///
    /// # Errors
    /// When a file is not there.
    pub async fn read(&self, written: &[RecordBatch]) -> Result<Arc<dyn ExecutionPlan>> {
        let mut group = Vec::new();
        for file in files(written)? {
            let path = self.target.path(&file.path)?;
            let meta = self.location.store.head(&path).await.map_err(|source| SinewError::Read {
                path: path.to_string(),
                hint: "the rows of a training were written there a moment ago".into(),
                source,
            })?;
            group.push(PartitionedFile::new_from_meta(meta));
        }
        let source = Arc::new(ParquetSource::new(Arc::clone(&self.schema)));
        let scan = FileScanConfigBuilder::new(self.location.url.clone(), source)
            .with_file_groups(vec![FileGroup::new(group)])
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}

fn folder(location: &Location, run: &str) -> Path {
    location.child("runs").join(run)
}

/// Removes what a run left in a warehouse; what cannot be removed stays.
pub async fn remove_run(location: &Location, run: &str) {
    let all = location.store.list(Some(&folder(location, run))).map_ok(|meta| meta.location).boxed();
    let removed: std::result::Result<Vec<_>, _> = location.store.delete_stream(all).try_collect().await;
    if let Err(error) = removed {
        log::debug!("removing what run {run} left: {error}");
    }
    // Files leave their folders behind; object stores have none.
    if location.url.as_str() == "file:///" {
        let folder = local_path(&folder(location, run));
        let _ = tokio::task::spawn_blocking(move || remove_empty(&folder)).await;
    }
}

/// Removes a folder that has no files, with the folders in it.
fn remove_empty(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        } else if is_begun(&entry.file_name().to_string_lossy()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    // It stays where there is something in it.
    let _ = std::fs::remove_dir(folder);
}

/// Whether a file is one that a process was killed over while it wrote it: `name#1`, which no listing shows.
fn is_begun(name: &str) -> bool {
    let number = name.rsplit_once('#').map_or("", |(_, number)| number);
    !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// Removes a value that [`put_in_run`] stored; what cannot be removed goes with its run.
pub async fn remove_in_run(location: &Location, path: &str) {
    if let Err(error) = location.store.delete(&Path::from(path)).await {
        log::debug!("removing '{path}': {error}");
    }
}

/// Stores a value of a run below its folder, and returns its path.
///
/// # Errors
/// When the warehouse cannot be written.
pub async fn put_in_run(location: &Location, run: &str, name: &str, bytes: Vec<u8>) -> Result<Path> {
    let path = folder(location, run).join(name);
    location.store.put(&path, bytes.into()).await.map_err(|source| SinewError::Write {
        path: path.to_string(),
        hint: "check the warehouse".into(),
        source,
    })?;
    Ok(path)
}
