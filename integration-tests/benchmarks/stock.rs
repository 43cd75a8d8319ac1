//! Ballista as its own crates start it, to measure beside ours: nothing of Sinew is in these processes.
//!
//! ```text
//! stock-ballista scheduler PORT
//! stock-ballista executor SCHEDULER_PORT FLIGHT_PORT GRPC_PORT WORK_FOLDER     one core
//! stock-ballista queries SCHEDULER_PORT FILE                                   FILE: one JSON object, see `Job`
//! ```
//! `queries` prints `NAME SECONDS ROWS` for each query, the smallest of the repetitions.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use ballista::prelude::{SessionConfigExt, SessionContextExt};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use serde_json::Value;

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["scheduler", port] => scheduler(port.parse()?).await,
        ["executor", scheduler, flight, grpc, folder] => {
            executor(scheduler.parse()?, flight.parse()?, grpc.parse()?, folder).await
        }
        ["queries", port, file] => queries(port, &serde_json::from_slice(&std::fs::read(file)?)?).await,
        _ => Err("scheduler PORT | executor SCHEDULER_PORT FLIGHT_PORT GRPC_PORT FOLDER | queries PORT FILE".into()),
    }
}

async fn scheduler(port: u16) -> Outcome {
    let config = Arc::new(SchedulerConfig { bind_port: port, ..SchedulerConfig::default() });
    let cluster = BallistaCluster::new_from_config(&config).await?;
    Ok(start_server(cluster, ([127, 0, 0, 1], port).into(), config).await?)
}

async fn executor(scheduler_port: u16, port: u16, grpc_port: u16, folder: &str) -> Outcome {
    let config = ExecutorProcessConfig {
        scheduler_port,
        port,
        grpc_port,
        vcores: 1,
        work_dir: Some(folder.into()),
        scheduler_connect_timeout_seconds: 30,
        ..ExecutorProcessConfig::default()
    };
    Ok(start_executor_process(Arc::new(config)).await?)
}

/// `{"tables": {"name": "folder or file"}, "queries": [["name", "SQL"]], "repeat": 2}`
async fn queries(port: &str, job: &Value) -> Outcome {
    let config = SessionConfig::new_with_ballista().with_target_partitions(2).with_ballista_standalone_parallelism(2);
    let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    let context = SessionContext::remote_with_state(&format!("df://127.0.0.1:{port}"), state).await?;
    for (name, location) in job["tables"].as_object().ok_or("tables")? {
        let location = location.as_str().ok_or("a location is text")?;
        context.register_parquet(name, location, ParquetReadOptions::default()).await?;
    }
    for query in job["queries"].as_array().ok_or("queries")? {
        let (name, sql) = (query[0].as_str().ok_or("a name")?, query[1].as_str().ok_or("its text")?);
        let (mut best, mut rows) = (f64::INFINITY, Ok(0));
        for _ in 0..job["repeat"].as_u64().unwrap_or(1) {
            let start = Instant::now();
            let batches = match context.sql(sql).await {
                Ok(frame) => frame.collect().await,
                Err(error) => Err(error),
            };
            rows = batches.map(|all| all.iter().map(|b| b.num_rows()).sum::<usize>());
            best = best.min(start.elapsed().as_secs_f64());
        }
        match rows {
            Ok(rows) => println!("{name} {best:.4} {rows}"),
            Err(error) => println!("{name} failed {}", error.to_string().lines().next().unwrap_or_default()),
        }
    }
    Ok(())
}
