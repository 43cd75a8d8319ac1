//! A cluster of many executors that do nothing: what a task costs the scheduler.
//!
//! ```text
//!  this process: Ballista's scheduler, our members, jobs and launcher, a driver that waits for each job
//!  a child:      N executors, each with a port, that report every task as done at once
//! ```
//! The example `scheduler-cost` prints it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::BALLISTA_PROTOCOL_VERSION;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use ballista_core::serde::protobuf::executor_grpc_server::{ExecutorGrpc, ExecutorGrpcServer};
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::scheduler_grpc_server::SchedulerGrpcServer;
use ballista_core::serde::protobuf::{
    CancelTasksParams, CancelTasksResult, ExecutorRegistration, ExecutorResource, ExecutorSpecification,
    ExecutorStatus, HeartBeatParams, LaunchMultiTaskParams, LaunchMultiTaskResult, LaunchTaskParams, LaunchTaskResult,
    RegisterExecutorParams, RemoveJobDataParams, RemoveJobDataResult, ShuffleWritePartition, StopExecutorParams,
    StopExecutorResult, SuccessfulTask, TaskStatus, UpdateTaskStatusParams, executor_resource, executor_status,
    task_status,
};
use datafusion::arrow::array::{Int32Array, RecordBatch};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::prelude::{SessionConfig, SessionContext};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server as Tonic};
use tonic::{Request, Response, Status};

use crate::assembly::assemble;
use crate::jobs::{Ended, Job};

/// In the environment of the child: the scheduler's address and how many executors to be.
const CHILD: &str = "SINEW_SIMULATED_EXECUTORS";

/// An executor that has done every task before it is asked.
struct Idle {
    id: String,
    scheduler: SchedulerGrpcClient<Channel>,
}

#[async_trait]
impl ExecutorGrpc for Idle {
    async fn launch_task(&self, _: Request<LaunchTaskParams>) -> Result<Response<LaunchTaskResult>, Status> {
        Err(Status::unimplemented("tasks come in numbers"))
    }

    async fn launch_multi_task(
        &self,
        request: Request<LaunchMultiTaskParams>,
    ) -> Result<Response<LaunchMultiTaskResult>, Status> {
        let mut done = Vec::new();
        for tasks in request.into_inner().multi_tasks {
            for task in tasks.task_ids {
                let partition = |id: u32| ShuffleWritePartition {
                    partition_id: u64::from(id),
                    num_batches: 1,
                    num_rows: 1,
                    num_bytes: 64,
                    file_id: Some(u64::from(task.task_id)),
                    is_sort_shuffle: false,
                };
                let partitions = task.global_output_partition_ids.iter().map(|id| partition(*id)).collect();
                let status = SuccessfulTask { executor_id: self.id.clone(), partitions, ..SuccessfulTask::default() };
                done.push(TaskStatus {
                    task_id: task.task_id,
                    job_id: tasks.job_id.clone(),
                    stage_id: tasks.stage_id,
                    stage_attempt_num: tasks.stage_attempt_num,
                    status: Some(task_status::Status::Successful(status)),
                    ..TaskStatus::default()
                });
            }
        }
        let (mut scheduler, executor_id) = (self.scheduler.clone(), self.id.clone());
        tokio::spawn(async move {
            scheduler.update_task_status(UpdateTaskStatusParams { executor_id, task_status: done }).await.unwrap();
        });
        Ok(Response::new(LaunchMultiTaskResult::default()))
    }

    async fn stop_executor(&self, _: Request<StopExecutorParams>) -> Result<Response<StopExecutorResult>, Status> {
        Ok(Response::new(StopExecutorResult {}))
    }

    async fn cancel_tasks(&self, _: Request<CancelTasksParams>) -> Result<Response<CancelTasksResult>, Status> {
        Ok(Response::new(CancelTasksResult { cancelled: true }))
    }

    async fn remove_job_data(&self, _: Request<RemoveJobDataParams>) -> Result<Response<RemoveJobDataResult>, Status> {
        Ok(Response::new(RemoveJobDataResult {}))
    }
}

/// So many executors of one core each, until the process is killed.
async fn be_executors(scheduler: &str, count: usize) {
    let url = format!("http://{scheduler}");
    let channel = Channel::from_shared(url).unwrap().tcp_nodelay(true).connect().await.unwrap();
    for number in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = u32::from(listener.local_addr().unwrap().port());
        let id = format!("idle-{number:04}");
        let mut client = SchedulerGrpcClient::new(channel.clone());
        let service = ExecutorGrpcServer::new(Idle { id: id.clone(), scheduler: client.clone() });
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(Tonic::builder().add_service(service).serve_with_incoming(incoming));
        let resource = ExecutorResource { resource: Some(executor_resource::Resource::Vcores(1)) };
        let metadata = ExecutorRegistration {
            id: id.clone(),
            host: Some("127.0.0.1".into()),
            port,
            grpc_port: port,
            specification: Some(ExecutorSpecification { resources: vec![resource] }),
            os_info: Some(Default::default()),
            ballista_protocol_version: BALLISTA_PROTOCOL_VERSION,
        };
        client.register_executor(RegisterExecutorParams { metadata: Some(metadata.clone()) }).await.unwrap();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let status = ExecutorStatus { status: Some(executor_status::Status::Active(String::new())) };
                let sign = HeartBeatParams {
                    executor_id: id.clone(),
                    metrics: Vec::new(),
                    status: Some(status),
                    metadata: Some(metadata.clone()),
                };
                if client.heart_beat_from_executor(sign).await.is_err() {
                    std::process::exit(0);
                }
            }
        });
    }
    println!("ready");
    std::future::pending().await
}

/// Seconds of processor time that this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Jobs of one task for each executor, as the steps of a training are; milliseconds of processor time for each
/// task, and of wall time for each job.
pub async fn measure(executors: usize, jobs: usize) -> (f64, f64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let codec = sinew::codec(Arc::new(BallistaPhysicalExtensionCodec::default()));
    let ballista = assemble(&endpoint, &codec, 60, Duration::from_secs(10)).await.unwrap();
    let grpc = SchedulerGrpcServer::new(ballista.server.as_ref().clone());
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Tonic::builder().add_service(grpc).serve_with_incoming(incoming));

    let mut child = Command::new(std::env::current_exe().unwrap())
        // For the test, which is a test binary; the example takes no arguments.
        .args(["--ignored", "--exact", "--nocapture", "simulation::executors_of_the_simulation"])
        .env(CHILD, format!("{endpoint} {executors}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    tokio::task::spawn_blocking(move || while !lines.next().unwrap().unwrap().contains("ready") {}).await.unwrap();

    for member in (0..executors).map(|number| format!("idle-{number:04}")) {
        ballista.members.set_blind(&member, None);
    }
    let members = ballista.members.live();
    assert_eq!(members.len(), executors);
    let context = SessionContext::new_with_config(SessionConfig::new_with_ballista()).task_ctx();
    let row = RecordBatch::try_from_iter([("one", Arc::new(Int32Array::from(vec![1])) as _)]).unwrap();
    let rows = vec![vec![row.clone()]; executors];
    let run = async |number: usize| {
        let plan = MemorySourceConfig::try_new_exec(&rows, row.schema(), None).unwrap();
        let name = format!("step {number}");
        ballista.members.place(&name, members.iter().map(|member| member.id.clone()).collect());
        let job = Job { name: name.clone(), plan, context: Arc::clone(&context), deadline: None, compressed: false };
        let Ended::Well(finished) = ballista.jobs.run(job).await.unwrap() else { panic!("{name} was late") };
        ballista.members.forget(&name);
        assert_eq!(finished.partitions.len(), executors);
    };
    for number in 0..jobs / 10 + 1 {
        run(number).await;
    }
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    for number in 0..jobs {
        run(1_000_000 + number).await;
    }
    let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed().as_secs_f64());
    child.kill().unwrap();
    child.wait().unwrap();
    (cpu * 1e3 / (jobs * executors) as f64, wall * 1e3 / jobs as f64)
}

/// Plays the executors where the process was started for that; does not return then.
pub async fn be_executors_if_asked() {
    if let Ok(asked) = std::env::var(CHILD) {
        let (scheduler, count) = asked.split_once(' ').unwrap();
        be_executors(scheduler, count.parse().unwrap()).await;
    }
}

#[cfg(test)]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other half of a simulation, started by it"]
async fn executors_of_the_simulation() {
    be_executors_if_asked().await;
}

#[cfg(test)]
#[tokio::test(flavor = "multi_thread")]
async fn every_executor_of_eight_has_one_task_of_each_job() {
    measure(8, 10).await;
}
