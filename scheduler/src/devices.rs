//! What devices the executors have: each is asked for its own, by a job of one task, when somebody wants to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ballista_scheduler::cluster::ClusterState;
use datafusion::arrow::array::{Int32Array, RecordBatch};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use futures::TryStreamExt;
use sinew_ml::device::DeviceInfo;
use sinew_ml::operators::{GradientExec, Parcel, Pass, results};

use crate::failure;
use crate::jobs::{Ended, Job, Jobs};

/// An executor that is there lists its devices sooner.
const PATIENCE: Duration = Duration::from_secs(10);

/// The devices of every executor that takes tasks, or why one did not tell, in the order of their names.
pub async fn of_executors(jobs: &Arc<Jobs>, context: &Arc<TaskContext>) -> Vec<(String, Result<Vec<DeviceInfo>>)> {
    let asked = jobs.members.live().into_iter().map(|member| async move {
        let host = jobs.members.get_executor_metadata(&member.id).await.map(|metadata| metadata.host);
        let name = format!("executor {} at {}", member.id, host.as_deref().unwrap_or("an unknown address"));
        (name, ask(jobs, &member.id, Arc::clone(context)).await)
    });
    futures::future::join_all(asked).await
}

async fn ask(jobs: &Arc<Jobs>, id: &str, context: Arc<TaskContext>) -> Result<Vec<DeviceInfo>> {
    // Several may ask at once, and a job is placed by its name.
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let name = format!("devices of {id}, {}", ASKED.fetch_add(1, Ordering::Relaxed));
    // A task needs a partition; what is in it does not matter.
    let row = RecordBatch::try_from_iter([("one", Arc::new(Int32Array::from(vec![1])) as _)])?;
    let rows = MemorySourceConfig::try_new_exec(&[vec![row.clone()]], row.schema(), None)?;
    let plan = Arc::new(GradientExec::new(rows, Parcel::Here(Arc::new(Pass::Devices))));
    jobs.members.place(&name, vec![id.into()]);
    let job = Job { name: name.clone(), plan, context, deadline: Some(PATIENCE), compressed: false };
    let ended = jobs.run(job).await;
    jobs.members.forget(&name);
    let Ended::Well(finished) = ended? else {
        return Err(failure::cluster(format!("executor {id} did not list its devices"), "look at its log"));
    };
    let mut rows = Vec::new();
    for location in &finished.partitions {
        // It may have left meanwhile, and somebody else have done its task.
        if location.executor_meta.as_ref().is_none_or(|meta| meta.id != id) {
            return Err(failure::cluster("another executor answered for it", "it may have ended"));
        }
        rows.extend(jobs.fetch(location).await?.try_collect::<Vec<_>>().await?);
    }
    let lists = results::<Vec<DeviceInfo>>(&rows)?;
    Ok(lists.into_iter().flat_map(|(devices, _)| devices).collect())
}
