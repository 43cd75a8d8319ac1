//! Executors and jobs of Ballista's own types, for tests.

use std::sync::Arc;

use ballista_core::JobId;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::{ShuffleWritePartition, SuccessfulTask, TaskStatus, task_status};
use ballista_core::serde::scheduler::{
    ExecutorData, ExecutorMetadata, ExecutorOperatingSystemSpecification, ExecutorSpecification,
};
use ballista_scheduler::cluster::{BoundTask, ClusterState};
use ballista_scheduler::planner::DefaultDistributedPlanner;
use ballista_scheduler::state::execution_graph::{ExecutionGraph, ExecutionGraphBox, StaticExecutionGraph};
use datafusion::arrow::array::{Int32Array, RecordBatch};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning};
use datafusion::prelude::SessionConfig;

use crate::members::Members;

pub type Done = Result<(), Box<dyn std::error::Error>>;

/// An executor that nobody has to reach.
pub fn metadata(id: &str, vcores: u32) -> ExecutorMetadata {
    ExecutorMetadata {
        id: id.into(),
        host: "127.0.0.1".into(),
        port: 1,
        grpc_port: 1,
        specification: ExecutorSpecification { vcores },
        os_info: ExecutorOperatingSystemSpecification::default(),
    }
}

/// Members that take tasks, with so many cores each.
pub async fn members(cores: &[(&str, u32)]) -> ballista_core::error::Result<Members> {
    let members = Members::default();
    for (id, cores) in cores {
        let data = ExecutorData { executor_id: (*id).into(), total_vcores: *cores, available_vcores: *cores };
        members.register_executor(metadata(id, *cores), data).await?;
        members.set_blind(id, None);
    }
    Ok(members)
}

/// A job of one stage with so many partitions, ready to run.
pub fn graph(name: &str, partitions: usize) -> Result<ExecutionGraphBox, Box<dyn std::error::Error>> {
    let row = RecordBatch::try_from_iter([("x", Arc::new(Int32Array::from(vec![1])) as _)])?;
    let plan = MemorySourceConfig::try_new_exec(&vec![vec![row.clone()]; partitions], row.schema(), None)?;
    graph_of(name, plan)
}

/// A job of two stages with so many partitions each, the first ready to run.
pub fn shuffle(name: &str, partitions: usize) -> Result<ExecutionGraphBox, Box<dyn std::error::Error>> {
    let row = RecordBatch::try_from_iter([("x", Arc::new(Int32Array::from(vec![1])) as _)])?;
    let plan = MemorySourceConfig::try_new_exec(&vec![vec![row.clone()]; partitions], row.schema(), None)?;
    let hash = Partitioning::Hash(vec![Arc::new(Column::new("x", 0))], partitions);
    graph_of(name, Arc::new(RepartitionExec::try_new(plan, hash)?))
}

fn graph_of(name: &str, plan: Arc<dyn ExecutionPlan>) -> Result<ExecutionGraphBox, Box<dyn std::error::Error>> {
    let config = Arc::new(SessionConfig::new_with_ballista());
    let mut planner = DefaultDistributedPlanner::new();
    let job = JobId::from(name.to_string());
    let mut graph = StaticExecutionGraph::new("scheduler", &job, name, "session", plan, 0, config, &mut planner, None)?;
    graph.revive();
    Ok(Box::new(graph))
}

/// What an executor reports when a task has ended well.
pub fn succeeded((executor, task): &BoundTask) -> TaskStatus {
    let written = |partition: &usize| ShuffleWritePartition {
        partition_id: *partition as u64,
        num_batches: 1,
        num_rows: 1,
        num_bytes: 1,
        file_id: None,
        is_sort_shuffle: false,
    };
    let done = SuccessfulTask {
        executor_id: executor.clone(),
        partitions: task.global_input_partition_ids.iter().map(written).collect(),
        runtime_stats: Vec::new(),
        task_column_stats: Vec::new(),
        window_state: Vec::new(),
    };
    TaskStatus {
        task_id: task.key.task_id as u32,
        job_id: task.key.job_id.clone().into(),
        stage_id: task.key.stage_id as u32,
        stage_attempt_num: task.stage_attempt_num as u32,
        launch_time: 0,
        start_exec_time: 0,
        end_exec_time: 0,
        metrics: Vec::new(),
        status: Some(task_status::Status::Successful(done)),
    }
}
