//! An executor takes tasks when it has shown that it writes where the scheduler reads: on a folder that is not
//! shared, every executor would otherwise have a warehouse of its own.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{Int32Array, RecordBatch};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use futures::TryStreamExt;
use sinew::tables::{Materialized, remove_run};
use sinew::warehouse::Location;

use crate::jobs::{Ended, Job, Jobs};

/// An executor that is there writes a row sooner.
const PATIENCE: Duration = Duration::from_secs(60);

/// Has an executor write a file into the warehouse, and looks at it.
///
/// # Errors
/// Why it does not count as a member.
pub async fn prove(jobs: &Arc<Jobs>, warehouse: &Location, id: &str, context: Arc<TaskContext>) -> Result<(), String> {
    let run = format!("probe-{id}");
    let outcome = write(jobs, warehouse, id, &run, context).await;
    remove_run(warehouse, &run).await;
    outcome.map_err(|error| {
        let shown = sinew::SinewError::from(error).to_string();
        format!("executor {id} does not share the warehouse '{}' with the scheduler ({shown})", warehouse.shown)
    })
}

async fn write(jobs: &Arc<Jobs>, warehouse: &Location, id: &str, run: &str, context: Arc<TaskContext>) -> Result<()> {
    let row = RecordBatch::try_from_iter([("one", Arc::new(Int32Array::from(vec![1])) as _)])?;
    let files = Materialized::new(warehouse, run, row.schema());
    let plan = files.write(MemorySourceConfig::try_new_exec(&[vec![row.clone()]], row.schema(), None)?);
    let name = format!("probe of {id}");
    jobs.members.place(&name, vec![id.into()]);
    let job = Job { name: name.clone(), plan, context, deadline: Some(PATIENCE), compressed: false };
    let ended = jobs.run_on_anyone(job).await;
    jobs.members.forget(&name);
    let Ended::Well(finished) = ended? else {
        return Err(crate::failure::cluster("it did not answer", "look at its log"));
    };
    let mut written = Vec::new();
    for location in &finished.partitions {
        // It may have left meanwhile, and somebody else have done its task.
        if location.executor_meta.as_ref().is_none_or(|meta| meta.id != id) {
            return Err(crate::failure::cluster("another executor answered for it", "it may have ended"));
        }
        written.extend(jobs.fetch(location).await?.try_collect::<Vec<_>>().await?);
    }
    files.read(&written).await?;
    Ok(())
}
