//! INSERT and COPY of the `sinew` process: killed at any moment, and beside other processes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::RngCore;
use proptest::test_runner::{RngAlgorithm, TestRng};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn start(&self, sql: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
        command.args(["--threads", "2", "--format", "csv", "-c", sql]).current_dir(self.path());
        command.env_remove("SINEW_WAREHOUSE").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The last line of statements that must succeed.
    fn ok(&self, sql: &str) -> String {
        let output = self.start(sql).wait_with_output().unwrap();
        assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().to_string()
    }

    fn number(&self, sql: &str) -> u64 {
        self.ok(sql).parse().unwrap()
    }

    /// Runs a statement and kills its process at one of the moments from its start to its usual end.
    fn killed(&self, sql: &str, usual: Duration, moments: &mut TestRng) -> bool {
        let mut child = self.start(sql);
        let end = usual.as_micros() as u64 * 11 / 10 + 1;
        std::thread::sleep(Duration::from_micros(moments.next_u64() % end));
        child.kill().unwrap();
        child.wait().unwrap().success()
    }
}

/// The moments differ from each other and are the same in every run.
fn moments(seed: u8) -> TestRng {
    TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32])
}

fn usual(mut run: impl FnMut()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

#[test]
fn a_killed_insert_is_whole_or_not_there() {
    let place = Place::new();
    let mut expected = place.number(
        "CREATE TABLE t AS SELECT value AS a, md5(value::varchar) AS b FROM generate_series(1, 10); \
         SELECT count(*) FROM t",
    );
    let insert = "INSERT INTO t SELECT value, md5(value::varchar) FROM generate_series(1, 100000)";
    let usual = usual(|| drop(place.ok(insert)));
    expected += 100_000;
    let mut moments = moments(7);
    let (mut kept, mut lost) = (0, 0);
    for _ in 0..12 {
        let told = place.killed(insert, usual, &mut moments);
        let now = place.number("SELECT count(*) FROM t");
        assert!(now == expected && !told || now == expected + 100_000, "{now} rows after {expected}");
        if now > expected {
            kept += 1
        } else {
            lost += 1
        }
        place.ok("INSERT INTO t VALUES (0, 'x')");
        expected = now + 1;
        assert_eq!(place.number("SELECT count(*) FROM t"), expected);
    }
    assert!(lost > 0, "no process was killed before its end: {kept} of 12 were kept");
}

#[test]
fn a_killed_create_is_whole_or_not_there() {
    let place = Place::new();
    let create = "CREATE OR REPLACE TABLE t AS SELECT value AS a FROM generate_series(1, 100000)";
    let usual = usual(|| drop(place.ok(create)));
    let mut moments = moments(8);
    for _ in 0..6 {
        place.ok("CREATE OR REPLACE TABLE t AS SELECT 1 AS a");
        place.killed(create, usual, &mut moments);
        let rows = place.number("SELECT count(*) FROM t");
        assert!(rows == 1 || rows == 100_000, "{rows}");
    }
}

#[test]
fn a_killed_copy_leaves_a_whole_file_or_none() {
    let place = Place::new();
    for ending in ["csv", "parquet", "json"] {
        // More than one part, so that the file grows before its end.
        let copy = format!(
            "SET datafusion.execution.objectstore_writer_buffer_size = 100000; \
             COPY (SELECT value AS a, md5(value::varchar) || md5((value + 1)::varchar) AS b FROM generate_series(1, 40000)) \
             TO 'out.{ending}'"
        );
        let file = place.path().join(format!("out.{ending}"));
        let usual = usual(|| drop(place.ok(&copy)));
        let mut moments = moments(9);
        for _ in 0..4 {
            std::fs::remove_file(&file).unwrap();
            place.killed(&copy, usual, &mut moments);
            if file.exists() {
                assert_eq!(place.number(&format!("SELECT count(*) FROM 'out.{ending}'")), 40_000);
            }
            place.ok(&copy);
            assert_eq!(place.number(&format!("SELECT count(*) FROM 'out.{ending}'")), 40_000);
        }
    }
}

#[test]
fn inserts_of_two_processes_are_all_kept() {
    let place = Place::new();
    place.ok("CREATE TABLE t (a BIGINT, b VARCHAR)");
    let script = |name: &str| {
        (0..10).map(|n| format!("INSERT INTO t SELECT {n}, '{name}' FROM generate_series(1, 100);")).collect::<String>()
    };
    let writers = ["one", "two"].map(|name| place.start(&script(name)));
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(place.number("SELECT count(*) FROM t"), 2_000);
    assert_eq!(place.number("SELECT count(*) FROM (SELECT DISTINCT a, b FROM t)"), 20);
}
