//! Which task runs where, with Ballista's own jobs.

use ballista_core::serde::protobuf::job_status::Status;
use ballista_core::serde::protobuf::{JobStatus, RunningJob};
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;

use super::*;
use crate::testing::{Done, graph, members, metadata, shuffle, succeeded};

fn running(jobs: Vec<ExecutionGraphBox>) -> Arc<HashMap<JobId, JobInfoCache>> {
    let status = |id: &JobId| JobStatus {
        job_id: id.to_string(),
        job_name: id.to_string(),
        status: Some(Status::Running(RunningJob::default())),
    };
    let cached = jobs.into_iter().map(|mut graph| {
        let id = graph.job_id().clone();
        graph.update_status(status(&id));
        (id, JobInfoCache::new(graph))
    });
    Arc::new(cached.collect())
}

async fn bind(members: &Members, jobs: &Arc<HashMap<JobId, JobInfoCache>>) -> Result<Vec<BoundTask>> {
    members.bind_schedulable_tasks(TaskDistributionPolicy::RoundRobin, Arc::clone(jobs), None).await
}

/// Executor and partitions of every task, in order.
fn places(bound: &[BoundTask]) -> Vec<(String, Vec<usize>)> {
    let mut places: Vec<_> =
        bound.iter().map(|(id, task)| (id.clone(), task.global_input_partition_ids.clone())).collect();
    places.sort();
    places
}

#[tokio::test]
async fn steps_run_where_their_rows_are_beside_queries() -> Done {
    let members = members(&[("e0", 1), ("e1", 1)]).await?;
    members.place("step", ["e1", "e0", "e1", "gone"].map(String::from).to_vec());
    let jobs = running(vec![graph("query", 5)?, graph("step", 4)?]);
    let bound = bind(&members, &jobs).await?;
    let (steps, queries): (Vec<_>, Vec<_>) =
        bound.into_iter().partition(|(_, task)| task.key.job_id.to_string() == "step");
    // Partition 3 goes to someone who is there; no partition is in two tasks.
    assert_eq!(places(&steps), [("e0".to_string(), vec![1]), ("e1".to_string(), vec![0, 2, 3])]);
    assert!(steps.iter().all(|(_, task)| task.vcores_consumed == 0), "steps take no core from queries");
    assert_eq!(queries.iter().map(|(_, task)| task.vcores_consumed).sum::<u32>(), 2);
    assert!(bind(&members, &jobs).await?.is_empty(), "all cores are busy, and the step waits for nothing");
    Ok(())
}

#[tokio::test]
async fn free_cores_are_counted_from_the_tasks_that_run() -> Done {
    let members = members(&[("e0", 2), ("e1", 2)]).await?;
    let jobs = running(vec![graph("query", 12)?]);
    let first = bind(&members, &jobs).await?;
    let cores = |bound: &[BoundTask]| bound.iter().map(|(_, task)| task.vcores_consumed).sum::<u32>();
    assert_eq!(cores(&first), 4);
    // Ballista gives cores back twice, or not at all, when stages are undone; neither matters.
    members.unbind_tasks(vec![("e0".into(), 2), ("e1".into(), 2)]).await?;
    assert!(bind(&members, &jobs).await?.is_empty(), "nothing has ended");
    let job = &jobs[&JobId::from("query".to_string())];
    let on_e0: Vec<_> = first.iter().filter(|(id, _)| id == "e0").map(succeeded).collect();
    let mut ended = 0;
    for status in on_e0 {
        job.execution_graph.write().await.update_task_status(&metadata("e0", 2), vec![status], 4, 4)?;
        ended += 1;
    }
    assert!(ended > 0);
    let second = bind(&members, &jobs).await?;
    assert!(second.iter().all(|(id, _)| id == "e0") && cores(&second) == 2, "{:?}", places(&second));
    // An executor that is lost frees nothing for others, and takes nothing.
    members.remove_executor("e1").await?;
    job.execution_graph.write().await.reset_stages_on_lost_executor("e1")?;
    assert!(bind(&members, &jobs).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn an_executor_that_was_not_tried_or_is_leaving_gets_no_tasks() -> Done {
    let members = members(&[("e0", 1)]).await?;
    let data = ExecutorData { executor_id: "new".into(), total_vcores: 8, available_vcores: 8 };
    members.register_executor(metadata("new", 8), data).await?;
    assert_eq!(members.slots(), 1);
    members.place("step", vec!["e0".into(), "lost".into()]);
    let jobs = running(vec![graph("query", 5)?, graph("step", 2)?]);
    assert!(bind(&members, &jobs).await?.iter().all(|(id, _)| id == "e0"));
    Ok(())
}

/// The first stage has ended on both executors and the second runs when one of them is lost.
#[tokio::test]
async fn a_job_of_which_a_stage_was_undone_gets_no_more_tasks() -> Done {
    let members = members(&[("e0", 1), ("e1", 1)]).await?;
    let jobs = running(vec![shuffle("query", 2)?]);
    let id = JobId::from("query".to_string());
    let job = &jobs[&id].execution_graph;
    for (executor, task) in bind(&members, &jobs).await? {
        let cores = metadata(&executor, 1);
        job.write().await.update_task_status(&cores, vec![succeeded(&(executor, task))], 4, 4)?;
    }
    job.write().await.revive();
    assert_eq!(bind(&members, &jobs).await?.len(), 2, "the second stage runs");
    assert!(!members.is_undone(&id));
    members.remove_executor("e1").await?;
    job.write().await.reset_stages_on_lost_executor("e1")?;
    assert!(bind(&members, &jobs).await?.is_empty());
    assert!(members.is_undone(&id));
    members.forget_job(&id);
    assert!(!members.is_undone(&id));
    Ok(())
}
