//! Executors that die or hang: what they did is done again by others, and counts once.

use std::time::{Duration, Instant};

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::{run, weights};

use crate::support::{Dice, PATIENCE, Rows, expected, long, long_network, no_runs, one, start, steps};

/// Kills one of two executors at random moments of a training, ten times.
async fn killed_at_random(seed: u64, rows: &Rows, long: impl Fn(&str) -> String) {
    let expected = expected(&long("m")).await;
    let mut dice = Dice::new(seed);
    let mut cluster = Cluster::start(2);
    let session = cluster.session().await;
    let started = Instant::now();
    run(&session, &long("whole")).await.unwrap();
    assert!(weights(&cluster.warehouse(), "whole") == expected);
    let mut usual = started.elapsed();
    let mut alive = vec![0, 1];
    for round in 0..10 {
        let model = format!("m{round}");
        let training = start(&session, &long(&model));
        tokio::time::sleep(usual.mul_f64(dice.next())).await;
        let victim = alive.remove((dice.next() * 1.999) as usize);
        let late = training.is_finished();
        cluster.kill_executor(victim);
        alive.push(cluster.add_executor());
        let ended = tokio::time::timeout(PATIENCE, training).await;
        let ended = ended.unwrap_or_else(|_| panic!("round {round} hangs\n{}", cluster.logs()));
        ended.unwrap().unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert!(weights(&cluster.warehouse(), &model) == expected, "round {round}");
        cluster.wait_for(2);
        if late {
            // The first training read what later ones find.
            usual = usual.mul_f64(0.8);
        }
    }
    assert_eq!(one(&session, &rows.counting()).await, rows.count as f64);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_files_are_read() {
    let rows = Rows::new(20_000, 4).await;
    rows.write("csv", 4, "CSV").await;
    let query = rows.query().replace(&rows.files("rows"), &rows.files("csv"));
    killed_at_random(1, &rows, |model| long(model, 5, &query)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_query_is_written() {
    let rows = Rows::new(20_000, 4).await;
    killed_at_random(2, &rows, |model| long(model, 5, &rows.joined())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_and_in_steps() {
    let rows = Rows::new(20_000, 4).await;
    killed_at_random(3, &rows, |model| long(model, 60, &rows.query())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_network_learns() {
    let rows = Rows::new(20_000, 4).await;
    killed_at_random(5, &rows, |model| long_network(model, 40, &rows.query())).await;
}

/// The tasks of queries are given out by counts of free cores, which must not drift when stages are undone.
#[tokio::test(flavor = "multi_thread")]
async fn killed_during_queries() {
    let rows = Rows::new(20_000, 4).await;
    let files = rows.files("rows");
    let query = format!("SELECT count(*), sum(l.c + r.class) FROM {files} l JOIN {files} r ON l.id = r.id + 1");
    let mut dice = Dice::new(4);
    let mut cluster = Cluster::start(2);
    let session = cluster.session().await;
    let started = Instant::now();
    assert_eq!(one(&session, &query).await, rows.count as f64 - 1.0);
    let usual = started.elapsed();
    let mut alive = vec![0, 1];
    for round in 0..6 {
        let running = start(&session, &query);
        tokio::time::sleep(usual.mul_f64(dice.next())).await;
        cluster.kill_executor(alive.remove((dice.next() * 1.999) as usize));
        alive.push(cluster.add_executor());
        let ended = tokio::time::timeout(PATIENCE, running).await;
        let ended = ended.unwrap_or_else(|_| panic!("round {round} hangs\n{}", cluster.logs()));
        let batches = ended.unwrap().unwrap_or_else(|e| panic!("round {round}: {e}"));
        assert_eq!(sinew_integration_tests::number(batches[0].column(0), 0), rows.count as f64 - 1.0);
        cluster.wait_for(2);
    }
    // Both still take tasks of queries.
    let ran = |number: usize| cluster.log_of(number).matches("Finished task").count();
    let before: Vec<usize> = alive.iter().map(|number| ran(*number)).collect();
    one(&session, &query).await;
    let after: Vec<usize> = alive.iter().map(|number| ran(*number)).collect();
    assert!(before.iter().zip(&after).all(|(before, after)| before < after), "{before:?} {after:?}");
}

/// The process is there, its connections are open, and it does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_counts_once() {
    let rows = Rows::new(20_000, 4).await;
    let train = |model: &str| long(model, 150, &rows.query());
    let expected = expected(&train("m")).await;
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    let training = start(&session, &train("m"));
    steps(&cluster, 10).await;
    let stopped = Instant::now();
    cluster.signal_executor(1, "STOP");
    assert!(!training.is_finished());
    training.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "m") == expected);
    assert_eq!(cluster.metric("sinew_executors"), Some(1.0), "it is given up");
    tokio::time::sleep(Duration::from_secs(20).saturating_sub(stopped.elapsed())).await;
    let training = start(&session, &train("again"));
    steps(&cluster, cluster.metric("sinew_steps_total").unwrap() as usize + 5).await;
    cluster.signal_executor(1, "CONT");
    training.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "again") == expected);
    // It has begun again, and works.
    cluster.wait_for(2);
    let before = sinew_integration_tests::cluster::cpu_seconds(cluster.executor(1));
    run(&session, &train("both")).await.unwrap();
    assert!(weights(&cluster.warehouse(), "both") == expected);
    assert!(sinew_integration_tests::cluster::cpu_seconds(cluster.executor(1)) > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_lost() {
    let rows = Rows::new(20_000, 4).await;
    let mut cluster = Cluster::with(2, &["--grace", "4"]);
    let session = cluster.session().await;
    let training = start(&session, &long("m", 2_000, &rows.query()));
    steps(&cluster, 10).await;
    let killed = Instant::now();
    cluster.kill_executor(0);
    cluster.kill_executor(1);
    let error = training.await.unwrap().unwrap_err();
    let took = killed.elapsed();
    assert!(error.contains("SINEW-3401") && error.contains("executor"), "{error}");
    assert!(took < Duration::from_secs(14), "{took:?}");
    // A new statement waits for one, and says that none came.
    let count = rows.counting();
    let asked = Instant::now();
    let error = run(&session, &count).await.unwrap_err();
    let took = asked.elapsed();
    assert!(error.contains("SINEW-3401") && error.contains("no executor"), "{error}");
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(10), "{took:?}");
    // One that comes in time is enough, and nothing of the failed training is there.
    let waiting = start(&session, &count);
    cluster.add_executor();
    let batches = waiting.await.unwrap().unwrap();
    assert_eq!(sinew_integration_tests::number(batches[0].column(0), 0), rows.count as f64);
    assert!(!cluster.warehouse().join("models/m/versions").exists());
    no_runs(&cluster).await;
}

/// A connection that breaks says more than a missing sign of life.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_acted_on_at_once() {
    let rows = Rows::new(20_000, 4).await;
    let mut cluster = Cluster::with(2, &["--executor-timeout", "60"]);
    let session = cluster.session().await;
    let train = long("m", 100, &rows.query());
    let expected = expected(&train).await;
    let training = start(&session, &train);
    steps(&cluster, 10).await;
    let killed = Instant::now();
    cluster.kill_executor(0);
    cluster.wait_for(1);
    let noticed = killed.elapsed();
    training.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "m") == expected);
    assert!(noticed < Duration::from_secs(5), "noticed after {noticed:?}");
    assert!(killed.elapsed() < Duration::from_secs(30), "{:?}", killed.elapsed());
}
