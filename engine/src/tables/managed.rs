//! A table of the warehouse as a plan reads it: exactly the files of its manifest, whatever else lies there.
//!
//! Views and prepared statements keep the provider they were made with, so it is the provider that changes
//! when the table has a new manifest.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::DefaultTableSource;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, LogicalPlan, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::RwLock;
use url::Url;

use crate::error::{Result, SinewError};
use crate::warehouse::columns::schema;
use crate::warehouse::table_records::Newest;
use crate::warehouse::{Location, Manifest};

/// A table of the warehouse.
#[derive(Debug)]
pub struct ManagedTable {
    name: String,
    store: ObjectStoreUrl,
    folder: Path,
    schema: SchemaRef,
    current: RwLock<(Newest, Arc<Manifest>)>,
}

impl ManagedTable {
    /// The table whose folder is `folder`, by the manifest that `record` holds. Nothing is read.
    ///
    /// # Errors
    /// When the manifest holds a type that this version does not know.
    pub fn new(name: &str, location: &Location, folder: Path, record: Newest, manifest: Arc<Manifest>) -> Result<Self> {
        let schema = schema(&manifest.columns)?;
        let store = location.url.clone();
        Ok(Self { name: name.into(), store, folder, schema, current: RwLock::new((record, manifest)) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The record it was last brought up to.
    pub fn record(&self) -> Newest {
        self.current.read().0
    }

    /// Brings it up to another manifest, if that has the same columns; otherwise returns false.
    pub fn update(&self, record: Newest, manifest: &Arc<Manifest>) -> bool {
        let mut current = self.current.write();
        let same = current.1.columns == manifest.columns;
        if same {
            *current = (record, Arc::clone(manifest));
        }
        same
    }

    /// The tables of the warehouse that a plan scans, below its views too.
    ///
    /// # Errors
    /// When the plan cannot be walked.
    pub fn scanned_by(plan: &LogicalPlan) -> Result<Vec<Arc<dyn TableProvider>>> {
        let mut found = Vec::new();
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node
                && let Some(source) = scan.source.downcast_ref::<DefaultTableSource>()
                && source.table_provider.downcast_ref::<Self>().is_some()
            {
                found.push(Arc::clone(&source.table_provider));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(found)
    }

    /// The files of a manifest as DataFusion reads files; `None` when there are none.
    fn files(&self, manifest: &Manifest, options: TableParquetOptions) -> Result<Option<ListingTable>> {
        let mut files = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            let path = Path::parse(format!("{}/{}", self.folder, file.path))
                .map_err(|e| SinewError::Internal(format!("the path of a table's file: {e}")))?;
            files.push(address(self.store.as_str(), &path)?);
        }
        if files.is_empty() {
            return Ok(None);
        }
        let format = ParquetFormat::default().with_options(options);
        let options = ListingOptions::new(Arc::new(format)).with_file_extension(".parquet");
        let config = ListingTableConfig::new_with_multi_paths(files)
            .with_listing_options(options)
            .with_schema(Arc::clone(&self.schema));
        Ok(Some(ListingTable::try_new(config)?))
    }
}

#[async_trait]
impl TableProvider for ManagedTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let manifest = Arc::clone(&self.current.read().1);
        let options =
            TableParquetOptions { global: state.config_options().execution.parquet.clone(), ..Default::default() };
        match self.files(&manifest, options)? {
            Some(files) => {
                // All files are looked at, so that one that is missing is noticed; the limit comes after.
                let plan = match files.scan(state, projection, filters, None).await {
                    Ok(plan) => plan,
                    Err(error) => {
                        // A file that is not whole has no footer to read: what it is says more than that.
                        let store = state.runtime_env().object_store(&self.store)?;
                        self.complete(&manifest, &self.looked_at(&manifest, store.as_ref()).await)?;
                        return Err(error);
                    }
                };
                self.complete(&manifest, &scanned(&plan)?)?;
                Ok(limit.and_then(|limit| plan.with_fetch(Some(limit))).unwrap_or(plan))
            }
            None => {
                let schema = match projection {
                    Some(columns) => Arc::new(self.schema.project(columns)?),
                    None => Arc::clone(&self.schema),
                };
                Ok(Arc::new(EmptyExec::new(schema)))
            }
        }
    }
}

impl ManagedTable {
    /// The sizes of the manifest's files, of those that are there.
    async fn looked_at(&self, manifest: &Manifest, store: &dyn ObjectStore) -> HashMap<String, u64> {
        let mut found = HashMap::new();
        for file in &manifest.files {
            let path = format!("{}/{}", self.folder, file.path);
            if let Ok(parsed) = Path::parse(&path)
                && let Ok(meta) = store.head(&parsed).await
            {
                found.insert(path, meta.size);
            }
        }
        found
    }

    /// Sees that every file of the manifest is among those found, with their sizes: a listing says nothing of a file
    /// that is not there.
    fn complete(&self, manifest: &Manifest, found: &HashMap<String, u64>) -> DataFusionResult<()> {
        for file in &manifest.files {
            let path = format!("{}/{}", self.folder, file.path);
            let reason = match found.get(&path) {
                Some(size) if *size == file.bytes => continue,
                Some(size) => {
                    format!("it has {size} bytes, and the table '{}' knows it with {}", self.name, file.bytes)
                }
                None => format!("it is missing, and the table '{}' has {} rows in it", self.name, file.rows),
            };
            let hint = "restore the file from a copy; DROP TABLE and CREATE TABLE make the table anew".into();
            return Err(SinewError::Damaged { path: format!("'/{path}'"), reason, hint }.into());
        }
        Ok(())
    }
}

/// The files that a plan reads, and their sizes.
fn scanned(plan: &Arc<dyn ExecutionPlan>) -> DataFusionResult<HashMap<String, u64>> {
    let mut found = HashMap::new();
    plan.apply(|node| {
        let source = node.downcast_ref::<DataSourceExec>().map(DataSourceExec::data_source);
        if let Some(scan) = source.and_then(|source| source.downcast_ref::<FileScanConfig>()) {
            let files = scan.file_groups.iter().flat_map(FileGroup::iter);
            found.extend(files.map(|file| (file.object_meta.location.as_ref().to_string(), file.object_meta.size)));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// The address of one object; its path is taken as it is, without patterns.
fn address(store: &str, path: &Path) -> Result<ListingTableUrl> {
    let odd = || SinewError::Internal(format!("'{store}' is not the address of a store"));
    let mut url = Url::parse(store).map_err(|_| odd())?;
    url.path_segments_mut().map_err(|()| odd())?.clear().extend(path.parts().map(|part| part.as_ref().to_string()));
    Ok(ListingTableUrl::try_new(url, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_its_path() -> Result<()> {
        for path in ["w/t/part-1.parquet", "my dir/=2E*?[a]/x#1%20ü.parquet"] {
            let path = Path::parse(path).map_err(|e| SinewError::Internal(e.to_string()))?;
            for store in ["file:///", "memory://warehouse/", "s3://bucket"] {
                assert_eq!(address(store, &path)?.prefix(), &path);
            }
        }
        Ok(())
    }
}
