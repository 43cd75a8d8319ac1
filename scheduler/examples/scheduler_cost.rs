//! Prints what a task costs the scheduler, with 10, 50 and 200 executors that do nothing.
//!
//! ```text
//! cargo run --release --workspace --features sinew-scheduler/simulation --example scheduler-cost
//! ```

use sinew_scheduler::simulation::{be_executors_if_asked, measure};

#[tokio::main]
async fn main() {
    be_executors_if_asked().await;
    println!("| executors | scheduler CPU for each task, ms | wall for each job, ms |\n|---|---|---|");
    for (executors, jobs) in [(10, 200), (50, 100), (200, 50)] {
        let (task, job) = measure(executors, jobs).await;
        println!("| {executors} | {task:.3} | {job:.1} |");
    }
}
