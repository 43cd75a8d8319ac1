//! The files a training query reads: whether the same rows would be read again, and whether they are
//! still what they were.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::error::{MlError, Result};

/// Files looked at together.
const QUESTIONS: usize = 16;

/// The sources of a physical plan.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<(ObjectStoreUrl, ObjectMeta)>,
    /// Whether every row comes from a known file, and no volatile function stands in between.
    reusable: bool,
    fingerprint: String,
}

impl Sources {
    /// The sources of `plan`.
    pub fn of(plan: &Arc<dyn ExecutionPlan>, volatile: bool) -> Self {
        let mut sources = Self { reusable: !volatile, ..Self::default() };
        let mut schemas = String::new();
        // The closure never fails.
        let _ = plan.apply(|node| {
            let config = node
                .downcast_ref::<DataSourceExec>()
                .and_then(|source| source.data_source().downcast_ref::<FileScanConfig>());
            if let Some(config) = config {
                // The text of a plan does not say how a format is parsed; Parquet files say it themselves.
                sources.reusable &= config.file_source.file_type() == "parquet";
                schemas.push_str(&format!("{:?}\n", config.file_schema()));
                for file in config.file_groups.iter().flat_map(|group| group.iter()) {
                    sources.files.push((config.object_store_url.clone(), file.object_meta.clone()));
                }
            } else if node.children().is_empty() {
                sources.reusable = false;
            }
            Ok(TreeNodeRecursion::Continue)
        });
        sources.files.sort_by(|a, b| (a.0.as_str(), &a.1.location).cmp(&(b.0.as_str(), &b.1.location)));
        sources.files.dedup_by(|a, b| a.0 == b.0 && a.1.location == b.1.location);
        let mut digest = Sha256::new();
        digest.update(displayable(plan.as_ref()).indent(true).to_string());
        digest.update(schemas);
        digest.update(sources.files());
        sources.fingerprint = digest.finalize().iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        sources
    }

    /// Whether the same plan would read the same rows again.
    pub fn reusable(&self) -> bool {
        self.reusable
    }

    /// A digest of the query and of its files' sizes and times.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The files, with their sizes and times; empty where rows do not come from files.
    pub fn files(&self) -> String {
        let line = |(url, meta): &(ObjectStoreUrl, ObjectMeta)| {
            format!("{}{} {} {}\n", url.as_str(), meta.location, meta.size, meta.last_modified)
        };
        self.files.iter().map(line).collect()
    }

    /// Fails when a file is no longer what it was when the statement was planned.
    ///
    /// # Errors
    /// Naming the file.
    pub async fn check_unchanged(&self, context: &TaskContext) -> Result<()> {
        let check = |(url, meta): (ObjectStoreUrl, ObjectMeta)| async move {
            let store = context.runtime_env().object_store(url)?;
            let changed = |how: String| MlError::Data {
                reason: format!("file {} {how} while the model was trained; run the statement again", meta.location),
            };
            let now =
                store.head(&meta.location).await.map_err(|e| changed(format!("could not be read again ({e})")))?;
            if now.size != meta.size || now.last_modified != meta.last_modified {
                return Err(changed("changed".into()));
            }
            Ok(())
        };
        // A store over a network answers many questions in the time of one.
        futures::stream::iter(self.files.clone()).map(check).buffered(QUESTIONS).try_collect().await
    }
}
