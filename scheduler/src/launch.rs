//! Sending tasks to executors, with a guard: Ballista takes a message that is too large for a dead executor.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::MultiTaskDefinition;
use ballista_core::serde::scheduler::ExecutorMetadata;
use ballista_scheduler::state::executor_manager::ExecutorManager;
use ballista_scheduler::state::task_manager::TaskLauncher;
use parking_lot::Mutex;

use crate::travel::Defaults;

/// The largest message between scheduler and executors.
pub const MESSAGE_BYTES: u32 = 64 << 20;
/// What the frame around the tasks may take.
const FRAME_BYTES: usize = 64 << 10;

/// Jobs whose tasks were refused, and why.
pub type Refused = Arc<Mutex<HashMap<JobId, String>>>;

/// Launches tasks, and refuses those that no message can carry.
pub struct Launcher {
    endpoint: String,
    refused: Refused,
    defaults: Defaults,
}

impl Launcher {
    /// A launcher for the scheduler that executors reach at `endpoint`.
    pub fn new(endpoint: String, refused: Refused) -> Self {
        Self { endpoint, refused, defaults: Defaults::new() }
    }
}

#[async_trait]
impl TaskLauncher for Launcher {
    async fn launch_tasks(
        &self,
        executor: &ExecutorMetadata,
        tasks: Vec<MultiTaskDefinition>,
        executor_manager: &ExecutorManager,
    ) -> Result<HashSet<JobId>> {
        let limit = MESSAGE_BYTES as usize - FRAME_BYTES;
        let (large, mut small): (Vec<_>, Vec<_>) = tasks.into_iter().partition(|task| task.plan.len() > limit);
        let mut failed = HashSet::new();
        for task in large {
            let bytes = task.plan.len();
            log::error!("a task of job {} has a plan of {bytes} bytes, more than a message can carry", task.job_id);
            let job = JobId::from(task.job_id);
            self.refused.lock().insert(
                job.clone(),
                format!(
                    "SINEW-3401: the plan of a task has {bytes} bytes, and a message carries {limit}; \
                     name fewer files, put large lists of values into a table, or \
                     predict with a model of fewer parameters (they travel with the plan)"
                ),
            );
            failed.insert(job);
        }
        small.iter_mut().for_each(|task| self.defaults.leave_out(&mut task.props));
        // Several tasks together may be too large for one message, too.
        while !small.is_empty() {
            let mut bytes = 0;
            let fits = small.iter().take_while(|task| {
                bytes += task.plan.len();
                bytes <= limit
            });
            let rest = small.split_off(fits.count().max(1));
            let batch = std::mem::replace(&mut small, rest);
            failed.extend(executor_manager.launch_multi_task(&executor.id, batch, self.endpoint.clone()).await?);
        }
        Ok(failed)
    }
}

#[cfg(test)]
mod tests;
