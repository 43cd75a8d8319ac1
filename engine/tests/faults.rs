//! The `sinew` process under signals, beside other processes, and over disks that cannot be written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
        command.args(["--threads", "2", "--format", "csv"]).args(args).current_dir(self.path());
        command.env_remove("SINEW_WAREHOUSE").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, sql: &str) -> Child {
        self.command(&["-c", sql]).spawn().unwrap()
    }

    /// Standard output of statements that must succeed.
    fn ok(&self, sql: &str) -> String {
        let output = self.start(sql).wait_with_output().unwrap();
        assert!(output.status.success(), "{sql}\n{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// The models there are.
    fn models(&self) -> Vec<String> {
        self.ok("SHOW MODELS").lines().skip(1).map(|line| line.split(',').next().unwrap().into()).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A training that ends soon.
fn quick(name: &str) -> String {
    format!(
        "TRAIN MODEL {name} USING linear_regression PREDICT y AS \
         SELECT value AS x, value * 2 AS y FROM generate_series(1, 1000) t(value)"
    )
}

/// Sends a signal after `delay` and waits for the end, at most `limit` from the signal on.
fn signalled(mut child: Child, signal: &str, delay: Duration, limit: Duration) -> Output {
    std::thread::sleep(delay);
    // A reader that reads, as a terminal does.
    let mut out = child.stdout.take().unwrap();
    let stdout = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes)
    });
    let sent = Instant::now();
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    while child.try_wait().unwrap().is_none() {
        if sent.elapsed() > limit {
            child.kill().unwrap();
            panic!("still there {limit:?} after {signal}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let stdout = stdout.join().unwrap().unwrap();
    Output { stdout, ..child.wait_with_output().unwrap() }
}

#[test]
fn a_signal_ends_a_script_whose_output_nobody_reads() {
    let place = Place::new();
    let mut child = place.start("SELECT * FROM generate_series(1, 100000000)");
    std::thread::sleep(Duration::from_millis(1500));
    let sent = Instant::now();
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(sent.elapsed() < Duration::from_secs(4), "still there");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn signals_end_a_training_in_every_phase() {
    let place = Place::new();
    let line = |i: u32| format!("{},{},{}\n", i * 7919 % 10_007, i % 17, i * 31 % 101);
    let rows: String = (0..500_000).map(line).collect();
    std::fs::write(place.path().join("t.csv"), format!("a,b,y\n{rows}")).unwrap();
    let reading = "TRAIN MODEL m USING linear_regression PREDICT y FROM 't.csv'";
    let iterating = "TRAIN MODEL m USING logistic_regression PREDICT y \
         OPTIONS(solver = 'sgd', max_iter = 1000000, tol = 0) AS \
         SELECT value % 7 AS x, value % 11 AS z, value % 3 AS y FROM generate_series(1, 300000) t(value)";
    for (sql, delay) in [(reading, 300), (iterating, 2000)] {
        for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
            let output = signalled(place.start(sql), signal, Duration::from_millis(delay), Duration::from_secs(2));
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{error}");
            assert!(error.contains("SINEW-3006") && error.contains("nothing was published"), "{error}");
            let iterations = text(&output.stdout).lines().count();
            assert_eq!(iterations > 1, sql == iterating, "{iterations} lines");
        }
    }
    assert_eq!(place.models(), Vec::<String>::new());
    place.ok(&quick("m"));
    assert_eq!(place.models(), ["m"]);
}

#[test]
fn a_signal_at_any_moment_leaves_whole_models() {
    let place = Place::new();
    let whole = Instant::now();
    place.ok(&quick("first"));
    let whole = whole.elapsed();
    for step in 0..12 {
        let child = place.start(&quick(&format!("m{step}")));
        let output = signalled(child, "-TERM", whole * step / 10, Duration::from_secs(2));
        // Before the process listens the signal itself ends it; after the last statement it is done.
        assert!(matches!(output.status.code(), None | Some(0 | 143)), "{}", text(&output.stderr));
    }
    for model in place.models() {
        assert!(place.ok(&format!("SELECT PREDICT({model}, *) AS p FROM (SELECT 2 AS x)")).starts_with("p\n"));
    }
}

#[test]
fn processes_that_train_one_name() {
    let place = Place::new();
    let race = |sql: &str| {
        let children: Vec<_> = (0..3).map(|_| place.start(sql)).collect();
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect::<Vec<_>>()
    };
    let mut versions = BTreeSet::new();
    for output in race(&quick("m")) {
        assert!(output.status.success(), "{}", text(&output.stderr));
        versions.insert(text(&output.stdout).lines().last().unwrap().split(',').nth(1).unwrap().to_string());
    }
    assert_eq!(versions, ["1", "2", "3"].map(String::from).into());
    let each = "SELECT PREDICT(m@1, *) AS a, PREDICT(m@2, *) AS b, PREDICT(m@3, *) AS c FROM (SELECT 2 AS x)";
    let line = place.ok(each);
    let values: BTreeSet<&str> = line.lines().nth(1).unwrap().split(',').collect();
    assert_eq!(values.len(), 1, "the same rows give the same model: {line}");

    let create = quick("n").replace("TRAIN MODEL", "CREATE MODEL");
    let outputs = race(&create);
    let (won, lost): (Vec<_>, Vec<_>) = outputs.iter().partition(|o| o.status.success());
    assert_eq!((won.len(), lost.len()), (1, 2));
    for output in lost {
        assert!(text(&output.stderr).contains("SINEW-3104: model 'n' exists"), "{}", text(&output.stderr));
    }
    assert_eq!(place.models(), ["m", "n"]);
}

/// A training that fails over this warehouse; its error.
fn refused(place: &Place, warehouse: &str, sql: &str) -> String {
    let output = place.command(&["--warehouse", warehouse, "-c", sql]).output().unwrap();
    let error = text(&output.stderr);
    assert!(!output.status.success() && error.contains("SINEW-31"), "{warehouse}: {error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn warehouses_that_cannot_be_one() {
    let place = Place::new();
    std::fs::write(place.path().join("file"), "x").unwrap();
    for warehouse in ["file", "file/below"] {
        let error = refused(&place, warehouse, &quick("m"));
        assert!(error.contains("SINEW-3105") && error.contains("file is not a folder"), "{error}");
    }
    if Path::new("/proc/self").exists() {
        let error = refused(&place, "/proc/nowhere", &quick("m"));
        assert!(error.contains("SINEW-3107") && error.contains("'/proc/nowhere/models/m/"), "{error}");
        assert!(error.contains("--warehouse"), "{error}");
    }
}

/// A small file system, taken away at the end.
struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        eprintln!("NOT TESTED: this process may not mount a file system, so none is full or read-only");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn disks_that_are_full_or_read_only() {
    let place = Place::new();
    let wide = "TRAIN MODEL m USING linear_regression PREDICT y SPLIT NONE OPTIONS(max_iter = 2) AS \
         SELECT 'c' || value AS c, value AS y FROM generate_series(1, 10000) t(value)";
    if let Some(_mount) = Mount::new(place.path().join("full"), "size=64k") {
        let error = refused(&place, "full", wide);
        assert!(error.contains("SINEW-3107") && error.contains("No space left"), "{error}");
        assert!(error.contains("disk is not full"), "{error}");
        assert_eq!(place.ok("SHOW MODELS").lines().count(), 1);
        let output = place.command(&["--warehouse", "full", "-c", &quick("small")]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        // Rows that fit neither into memory nor on the disk they spill to.
        let args = ["--spill-dir", "full", "--memory-limit", "1MB", "-c", wide];
        let output = place.command(&args).output().unwrap();
        let error = text(&output.stderr);
        assert!(!output.status.success() && error.contains("SINEW-") && error.lines().count() == 1, "{error}");
        assert!(
            error.contains("--spill-dir") || error.contains("--memory-limit") || error.contains("memory"),
            "{error}"
        );
    }
    if let Some(_mount) = Mount::new(place.path().join("fixed"), "ro") {
        let error = refused(&place, "fixed", &quick("m"));
        assert!(error.contains("SINEW-3107") && error.contains("Read-only"), "{error}");
    }
}

#[test]
fn ctrl_c_ends_the_statement_and_not_the_shell() {
    let place = Place::new();
    let sinew = format!("{} --threads 2 --format csv", env!("CARGO_BIN_EXE_sinew"));
    let mut script = Command::new("script");
    script.args(["-qec", &sinew, "/dev/null"]).current_dir(place.path()).env("HOME", place.path()).env("TERM", "dumb");
    let Ok(mut child) = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn() else {
        eprintln!("NOT TESTED: there is no `script` command to give the shell a terminal");
        return;
    };
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (send, bytes) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = screen.read(&mut buffer) {
            if send.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut seen = String::new();
    let mut wait_for = |what: &str| {
        let end = Instant::now() + Duration::from_secs(10);
        while !seen.contains(what) {
            match bytes.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(more) => seen += &text(&more),
                Err(_) => panic!("no {what:?} in {seen:?}"),
            }
        }
    };
    let sql = "SELECT sum(a.value * b.value % 7) FROM range(1, 100000000) a, range(1, 100000) b;\n";
    keys.write_all(sql.as_bytes()).unwrap();
    wait_for("100000) b;");
    std::thread::sleep(Duration::from_millis(1000));
    keys.write_all(b"\x03").unwrap();
    wait_for("SINEW-3006");
    keys.write_all(b"SELECT 6 * 7 AS answer;\n").unwrap();
    wait_for("\n42");
    keys.write_all(b"\x04").unwrap();
    drop(keys);
    child.wait().unwrap();
}
