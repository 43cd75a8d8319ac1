//! What a cluster may touch: executors keep to the roots of the scheduler, and to their own.

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::run;

use crate::support::{Rows, one};

#[tokio::test(flavor = "multi_thread")]
async fn executors_keep_to_the_roots_of_the_session_and_to_their_own() {
    let (rows, others) = (Rows::new(500, 2).await, Rows::new(500, 2).await);
    let list = format!("{},{}", rows.folder().display(), others.folder().display());
    let mut cluster = Cluster::with(0, &["--roots", &list]);
    // One that may touch less than the scheduler.
    cluster.add_executor_with(&["--roots", &rows.folder().display().to_string()]);
    cluster.wait_for(1);
    let session = cluster.session().await;
    assert_eq!(one(&session, &rows.counting()).await, 500.0);
    run(&session, &format!("CREATE TABLE kept AS SELECT * FROM {}", rows.files("rows"))).await.unwrap();
    assert_eq!(one(&session, "SELECT count(*) FROM kept WHERE c + 1 > 0").await, 500.0);
    let error = run(&session, &others.counting()).await.unwrap_err();
    assert!(error.starts_with("SINEW-3704"), "{error}");
    let train = format!("TRAIN MODEL m USING linear_regression PREDICT y AS {}", others.query());
    assert!(run(&session, &train).await.unwrap_err().contains("SINEW-3704"));
    // And what the scheduler refuses reaches no executor.
    let error = run(&session, "SELECT count(*) FROM '/etc/passwd.csv'").await.unwrap_err();
    assert!(error.starts_with("SINEW-3704") && error.contains("--roots"), "{error}");
    assert_eq!(one(&session, &rows.counting()).await, 500.0);
}
