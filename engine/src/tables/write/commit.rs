//! One run of a write: its files first, then the record that makes all of them part of the table.

use std::sync::Arc;

use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::target::{FILE_BYTES, Target, files};
use super::{WriteNode, target};
use crate::error::Result;
use crate::run::new_run;
use crate::session::{Execution, Session};
use crate::warehouse::columns::Column;
use crate::warehouse::table_records::Change;
use crate::warehouse::{DataFile, StoredTable};

/// A run that has not been committed. Dropping it takes its files away.
#[derive(Debug)]
pub struct Run {
    session: Session,
    target: Arc<Target>,
    orphans: Orphans,
}

impl Run {
    /// A run that writes rows with these columns into a table.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub fn new(session: &Session, name: &str, columns: Vec<Column>) -> Result<Self> {
        let tables = session.tables();
        let folder = tables.records().folder(name)?;
        let target = Target {
            table: name.into(),
            store: tables.location().url.as_str().into(),
            folder: folder.to_string(),
            run: new_run(),
            columns,
            file_bytes: FILE_BYTES,
        };
        let store = Arc::clone(tables.records().store());
        let orphans = Orphans { store, folder: folder.join("data").join(target.run.as_str()), left: true };
        Ok(Self { session: session.clone(), target: Arc::new(target), orphans })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.target.run
    }

    /// The plan that writes the rows of `input`.
    ///
    /// # Errors
    /// Never: the node's schema is valid.
    pub fn plan(&self, input: LogicalPlan) -> Result<LogicalPlan> {
        let node = WriteNode::new(Arc::clone(&self.target), input)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
    }

    /// Writes the rows of `input`; nobody sees them yet.
    ///
    /// # Errors
    /// When the query fails, a row does not fit, or the store cannot be written; the files are gone then.
    pub async fn write(&mut self, input: LogicalPlan) -> Result<Vec<DataFile>> {
        let written = self.try_write(input).await;
        if written.is_err() {
            self.orphans.remove().await;
        }
        written
    }

    async fn try_write(&self, input: LogicalPlan) -> Result<Vec<DataFile>> {
        let frame = self.session.context().execute_logical_plan(self.plan(input)?).await?;
        let task = Arc::new(frame.task_ctx());
        let plan = frame.create_physical_plan().await?;
        debug_assert_eq!(plan.schema(), target::schema());
        let rows = execute_stream(Arc::clone(&plan), task)?;
        files(&Execution::of_plan(plan, rows).collect().await?)
    }

    /// Makes the change; the files belong to the table from then on. Returns whether it was made.
    ///
    /// # Errors
    /// Those of [`TableRecords::commit`](crate::warehouse::TableRecords::commit).
    pub async fn commit(mut self, change: impl Fn(Option<StoredTable>) -> Result<Change> + Send) -> Result<bool> {
        // From here on the record may be there at any moment, and files that it lists are not taken away.
        self.orphans.left = false;
        let committed = self.session.tables().records().commit(&self.target.table, change).await;
        let lost = match &committed {
            Ok(committed) => !committed,
            Err(not) => !not.perhaps,
        };
        if lost {
            self.orphans.left = true;
            self.orphans.remove().await;
        }
        Ok(committed?)
    }

    /// Takes the files away.
    pub async fn discard(mut self) {
        self.orphans.remove().await;
    }
}

/// The files of a run that nothing refers to.
#[derive(Debug)]
struct Orphans {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    left: bool,
}

impl Orphans {
    async fn remove(&mut self) {
        if std::mem::take(&mut self.left) {
            remove(Arc::clone(&self.store), self.folder.clone()).await;
        }
    }
}

impl Drop for Orphans {
    fn drop(&mut self) {
        if self.left
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(remove(Arc::clone(&self.store), self.folder.clone()));
        }
    }
}

/// As well as it can be done: what stays is seen by nobody.
async fn remove(store: Arc<dyn ObjectStore>, folder: Path) {
    use futures::StreamExt;
    let paths = store.list(Some(&folder)).map_ok(|file| file.location).boxed();
    if let Err(error) = store.delete_stream(paths).try_collect::<Vec<_>>().await {
        log::info!("files of a run that failed stay in /{folder}: {error}");
    }
}
