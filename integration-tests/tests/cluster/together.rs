//! Statements beside each other.

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::weights;

use crate::support::{Rows, expected, long, one, start, steps};

#[tokio::test(flavor = "multi_thread")]
async fn queries_run_while_a_model_trains() {
    let rows = Rows::new(20_000, 4).await;
    let train = long("m", 150, &rows.query());
    let expected = expected(&train).await;
    let cluster = Cluster::start(2);
    let (trainer, asker) = (cluster.session().await, cluster.session().await);
    let training = start(&trainer, &train);
    steps(&cluster, 5).await;
    let mut answered = 0;
    let query = format!("SELECT count(*) FROM {} l JOIN {} r USING (id)", rows.files("rows"), rows.files("rows"));
    while !training.is_finished() {
        assert_eq!(one(&asker, &query).await, rows.count as f64);
        answered += 1;
    }
    assert!(answered > 1);
    training.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "m") == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_train_at_once() {
    let rows = Rows::new(20_000, 4).await;
    let other = format!("{} WHERE c > 20", rows.query());
    let (first, second) = (long("m", 80, &rows.query()), long("m", 80, &other));
    let (one, two) = (expected(&first).await, expected(&second).await);
    assert!(one != two);
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    let second = second.replace("MODEL m ", "MODEL n ");
    let (a, b) = (start(&session, &first), start(&cluster.session().await, &second));
    a.await.unwrap().unwrap();
    b.await.unwrap().unwrap();
    assert!(weights(&cluster.warehouse(), "m") == one);
    assert!(weights(&cluster.warehouse(), "n") == two);
}

#[tokio::test(flavor = "multi_thread")]
async fn small_queries_stay_in_the_scheduler() {
    let rows = Rows::new(2_000, 2).await;
    let cluster = Cluster::with(1, &["--local-bytes", "1000000"]);
    let session = cluster.session().await;
    let files = rows.files("rows");
    let plan = async |sql: String| format!("{:?}", session.sql(&format!("EXPLAIN {sql}")).collect().await.unwrap());
    let small = format!("SELECT count(*) FROM {files} WHERE c > 0");
    assert!(!plan(small.clone()).await.contains("ClusterExec"));
    assert!(plan(format!("SELECT count(*) FROM {files} l JOIN {files} r USING (id)")).await.contains("ClusterExec"));
    let jobs = || cluster.metric("job_submitted_total").unwrap();
    let before = jobs();
    assert!(one(&session, &small).await > 0.0);
    assert_eq!(jobs(), before);
}
