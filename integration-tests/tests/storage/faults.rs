//! A service in trouble: repeated requests succeed, or end in an error with nothing half published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sinew_integration_tests::servers::{self, Proxy, Request, Verdict};

use crate::{error, run, s3_options};

const TRAIN: &str = "TRAIN MODEL m USING linear_regression PREDICT y AS
    SELECT 1.0 * x AS x, 2.0 * x AS y FROM (VALUES (1), (2), (3), (4)) t(x)";

/// A server behind a proxy.
struct Stand {
    server: servers::Server,
    proxy: Proxy,
}

impl Stand {
    fn new(judge: impl Fn(&mut Request) -> Verdict + Send + Sync + 'static) -> Self {
        let server = servers::s3(&["bucket"]);
        let proxy = Proxy::new(server.port(), judge);
        Self { server, proxy }
    }

    /// Options that reach the server through the proxy.
    fn through(&self, seconds: &str) -> sinew::SessionOptions {
        let more = [("storage_retry_timeout", seconds), ("storage_timeout", "2"), ("warehouse", "s3://bucket/wh")];
        s3_options(&self.proxy.url, &more)
    }

    /// Options that reach the server itself.
    fn direct(&self) -> sinew::SessionOptions {
        s3_options(&self.server.url, &[("warehouse", "s3://bucket/wh")])
    }
}

#[tokio::test]
async fn passing_trouble_is_not_noticed() {
    let seen = Arc::new(AtomicUsize::new(0));
    let stand = Stand::new({
        let seen = Arc::clone(&seen);
        // Of three requests one succeeds.
        move |_| match seen.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Verdict::Answer(503, "<Error><Code>SlowDown</Code></Error>".into()),
            1 => Verdict::Answer(500, "<Error><Code>InternalError</Code></Error>".into()),
            _ => Verdict::Pass,
        }
    });
    run(stand.through("30"), TRAIN).await;
    let shown = run(stand.through("30"), "SHOW MODELS").await;
    assert!(shown.contains("| m ") && seen.load(Ordering::Relaxed) > 20, "{shown}");
}

#[tokio::test]
async fn lasting_trouble_ends_in_an_error_and_leaves_nothing_visible() {
    for (part, status, body, words) in [
        ("versions/", 503, "<Error><Code>SlowDown</Code><Message>Later.</Message></Error>", "overloaded"),
        ("weights", 500, "", "overloaded"),
        ("versions/", 403, "<Error><Code>AccessDenied</Code><Message>No.</Message></Error>", "not allowed"),
        ("versions/", 400, "<Error><Code>ExpiredToken</Code><Message>Old.</Message></Error>", "expired"),
    ] {
        let stand = Stand::new(move |request| match request.line.starts_with("PUT") && request.line.contains(part) {
            true => Verdict::Answer(status, body.into()),
            false => Verdict::Pass,
        });
        let start = Instant::now();
        let text = error(stand.through("2"), TRAIN).await;
        assert!(text.starts_with("SINEW-3501: cannot write s3://bucket/wh/models/m/"), "{text}");
        assert!(text.contains(&format!(": {status}")) && text.contains(words), "{text}");
        assert_eq!(text.contains("retries"), status >= 500, "{text}");
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
        assert!(!run(stand.direct(), "SHOW MODELS").await.contains("| m "));
        run(stand.direct(), TRAIN).await;
    }
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_one_version() {
    let hung_up = Arc::new(AtomicUsize::new(0));
    let stand = Stand::new({
        let hung_up = Arc::clone(&hung_up);
        move |request| {
            let create = request.line.starts_with("PUT") && request.header("if-none-match").is_some();
            // Each object's first write is carried out, and its answer is lost.
            match create && hung_up.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                true => Verdict::PassAndHangUp,
                false => Verdict::Pass,
            }
        }
    });
    run(stand.through("10"), TRAIN).await;
    assert!(hung_up.load(Ordering::Relaxed) >= 4);
    let shown = run(stand.direct(), "SHOW VERSIONS OF MODEL m").await;
    assert_eq!(shown.lines().count(), 5, "one version, and the table's four lines:\n{shown}");
}

#[tokio::test]
async fn rows_that_were_inserted_stay_when_the_answer_is_lost() {
    let records = |request: &Request, method: &str| {
        request.line.starts_with(method) && request.line.contains("/wh/tables/t/manifests/00000002.json")
    };
    for readable in [true, false] {
        // The record is written, and nobody ever says so.
        let stand = Stand::new(move |request| match () {
            () if records(request, "PUT") => Verdict::PassAndHangUp,
            () if records(request, "GET") && !readable => Verdict::Answer(503, String::new()),
            () => Verdict::Pass,
        });
        run(stand.direct(), "CREATE TABLE t AS SELECT 1 AS a").await;
        let insert = "INSERT INTO t VALUES (2), (3)";
        match readable {
            true => drop(run(stand.through("1"), insert).await),
            false => assert!(error(stand.through("1"), insert).await.starts_with("SINEW-3501")),
        }
        let shown = run(stand.direct(), "SELECT sum(a) AS total FROM t").await;
        assert!(shown.contains("| 6 "), "{shown}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    let stand = Stand::new(|_| Verdict::Stall(Duration::from_secs(30)));
    let start = Instant::now();
    let text = error(stand.through("1"), "SELECT * FROM 's3://bucket/x.parquet'").await;
    assert!(text.starts_with("SINEW-3501: cannot look at s3://bucket/x.parquet"), "{text}");
    assert!(text.contains("no answer came in time"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_upload_that_breaks_leaves_no_file() {
    let stand = Stand::new(|request| match request.line.starts_with("PUT") {
        true => Verdict::Answer(500, String::new()),
        false => Verdict::Pass,
    });
    let text = error(stand.through("1"), "COPY (SELECT 1 AS x) TO 's3://bucket/out/x.parquet'").await;
    assert!(text.contains("SINEW-3501: cannot write s3://bucket/out/x.parquet: 500"), "{text}");
    assert!(error(stand.direct(), "SELECT * FROM 's3://bucket/out/'").await.contains("no such file"));
}
