//! What a person sees when an address, a key or a setting is wrong.

use std::time::{Duration, Instant};

use sinew_integration_tests::servers;

use crate::{Place, error, options, s3_options};

const QUICK: (&str, &str) = ("storage_retry_timeout", "1");

#[tokio::test]
async fn s3_errors_name_bucket_operation_and_next_step() {
    let server = servers::s3(&["bucket"]);
    let options = || s3_options(&server.url, &[QUICK]);
    let text = error(options(), "SELECT * FROM 's3://bucket/x.parquet'").await;
    assert!(text.starts_with("SINEW-3008: cannot read 's3://bucket/x.parquet': there is no such file"), "{text}");
    for script in ["SELECT * FROM 's3://nowhere/x.parquet'", "COPY (SELECT 1) TO 's3://nowhere/x.parquet'"] {
        let text = error(options(), script).await;
        assert!(text.starts_with("SINEW-3501: cannot ") && text.contains("s3://nowhere/x.parquet: 404"), "{text}");
        assert!(text.contains("NoSuchBucket") && text.contains("create the bucket"), "{text}");
    }
    let text = error(s3_options(&server.url, &[("warehouse", "s3://nowhere/wh")]), "SHOW MODELS").await;
    assert!(text.starts_with("SINEW-3501: cannot list s3://nowhere/wh/models: 404"), "{text}");
    servers::enforce_keys(&server);
    let text = error(options(), "SELECT * FROM 's3://bucket/'").await;
    assert!(text.starts_with("SINEW-3501: cannot list s3://bucket/: 403: InvalidAccessKeyId"), "{text}");
    assert!(text.contains("AWS_ACCESS_KEY_ID"), "{text}");
    let table = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://bucket/x.csv'";
    assert!(error(options(), table).await.contains("SINEW-3501"));
}

#[tokio::test]
async fn nobody_there_is_an_error_after_the_time_for_repetition() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let start = Instant::now();
    let text = error(s3_options(&url, &[QUICK]), "SELECT * FROM 's3://bucket/x.parquet'").await;
    assert!(text.starts_with("SINEW-3501: cannot look at s3://bucket/x.parquet"), "{text}");
    assert!(text.contains("refused") && text.contains("AWS_ENDPOINT_URL") && text.contains("retries"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let never = s3_options(&url, &[("storage_retry_timeout", "0")]);
    let text = error(never, "SELECT * FROM 's3://bucket/x.parquet'").await;
    assert!(text.contains("refused") && !text.contains("retries"), "{text}");
}

#[tokio::test]
async fn without_credentials_the_error_comes_soon_and_says_what_to_set() {
    let start = Instant::now();
    let bare = options(&[("s3_endpoint", "http://127.0.0.1:1"), ("storage_allow_http", "true")]);
    let text = error(bare, "SELECT * FROM 's3://bucket/x.parquet'").await;
    assert!(text.starts_with("SINEW-3503: there are no credentials for s3://bucket"), "{text}");
    assert!(text.contains("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"), "{text}");
    let text = error(options(&[("azure_account", "a")]), "SELECT * FROM 'az://box/x.parquet'").await;
    assert!(text.starts_with("SINEW-3503") && text.contains("AZURE_STORAGE_ACCOUNT_KEY"), "{text}");
    let text = error(options(&[]), "SELECT * FROM 'gs://bucket/x.parquet'").await;
    assert!(text.starts_with("SINEW-3503") && text.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[tokio::test]
async fn addresses_that_cannot_be_used() {
    for (script, words) in [
        ("SELECT * FROM 'http://169.254.169.254/latest/x.csv'", "SINEW-3005"),
        (
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'http://169.254.169.254/x.csv'",
            "there is no store for http://",
        ),
        ("COPY (SELECT 1) TO 'https://example.com/x.csv'", "there is no store for https://"),
        ("SELECT * FROM 's3://AKIA:verysecret@bucket/x.csv'", "holds no keys"),
        ("SELECT * FROM 's3://AKIA:verysecret@bucket:x/x.csv'", "s3://***@bucket:x/x.csv"),
        ("SELECT * FROM 's3://localhost:9000/x.csv'", "AWS_ENDPOINT_URL"),
    ] {
        let text = error(s3_options("http://127.0.0.1:1", &[QUICK]), script).await;
        assert!(text.contains(words), "{script}: {text}");
    }
    let plain = options(&[("s3_endpoint", "http://127.0.0.1:1"), QUICK]);
    let text = error(plain, "SELECT * FROM 's3://bucket/x.csv'").await;
    assert!(text.contains("not encrypted") && text.contains("SINEW_STORAGE_ALLOW_HTTP"), "{text}");
    let half = options(&[("s3_secret_access_key", "verysecretkey")]);
    let text = error(half, "SELECT * FROM 's3://bucket/x.csv'").await;
    assert!(text.contains("SINEW-3502") && text.to_lowercase().contains("access"), "{text}");
}

/// Keys would be written into the warehouse with the statement.
#[tokio::test]
async fn settings_of_stores_are_no_options_of_tables() {
    let options = || s3_options("http://127.0.0.1:1", &[QUICK]);
    let table = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://bucket/x.csv'
                   OPTIONS ('aws.secret_access_key' 'verysecret')";
    let text = error(options(), table).await;
    assert!(text.starts_with("SINEW-3111") && text.contains("aws.secret_access_key"), "{text}");
    assert!(text.contains("sinew.s3_region"), "{text}");
    let copy = "COPY (SELECT 1) TO 's3://bucket/x.csv' STORED AS CSV OPTIONS ('aws.region' 'eu-north-1')";
    let text = error(options(), copy).await;
    assert!(text.contains("aws") && text.contains("docs/storage.md"), "{text}");
}

#[test]
fn secrets_are_never_shown() {
    let place = Place::new(&[("SINEW_S3_SECRET_ACCESS_KEY", "verysecretkey"), ("SINEW_S3_ENDPOINT", "https://x")]);
    let shown = place.ok("memory://", "SHOW ALL; SHOW sinew.s3_secret_access_key");
    assert!(
        shown.contains("sinew.s3_secret_access_key,***") && shown.contains("sinew.s3_endpoint,https://x"),
        "{shown}"
    );
    assert!(!shown.contains("verysecret"), "{shown}");
    let output = place.command("memory://", "SET sinew.azure_key = 'verysecretkey'").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("SINEW-3007") && text.contains("SINEW_AZURE_KEY") && !text.contains("verysecret"), "{text}");
    let options = s3_options("https://x", &[]);
    assert!(!format!("{options:?}").contains("verysecret"), "{options:?}");
}
