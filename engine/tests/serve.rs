//! `sinew serve` and `sinew --connect`, as a person or a script uses them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A server process over a warehouse of its own; it is stopped when it is dropped.
struct Server {
    place: tempfile::TempDir,
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn sinew(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
    command.args(args).current_dir(place).env_remove("SINEW_WAREHOUSE").env_remove("RUST_BACKTRACE");
    command.stdin(Stdio::null());
    command
}

fn signal(child: &Child, name: &str) {
    Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

impl Server {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(more: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let args = [&["serve", "--listen", "127.0.0.1:0"], more].concat();
        let mut child = sinew(place.path(), &args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("sinew serve: listening on ").unwrap_or_else(|| panic!("{line}"));
        let url = url.to_string();
        Self { place, child, url }
    }

    fn client(&self, sql: &str) -> Command {
        // Elsewhere than the server: what it reads and writes is there.
        let elsewhere = self.place.path().join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        sinew(&elsewhere, &["--connect", &self.url, "--format", "csv", "-c", sql])
    }

    /// Standard output of statements that must succeed.
    fn ok(&self, sql: &str) -> String {
        let output = self.client(sql).output().unwrap();
        assert!(output.status.success(), "{sql}\n{}", stderr(&output));
        stdout(&output)
    }

    /// Standard error of statements that must fail with exit code 1.
    fn fails(&self, sql: &str) -> String {
        let output = self.client(sql).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{sql}\n{}", stderr(&output));
        stderr(&output)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.place.path().join(name), text).unwrap();
    }

    fn rows(&self, name: &str, rows: u64) {
        let lines: String =
            (0..rows).map(|i| format!("{i},{},{}\n", (i * 7) % 11, 3 * i + 2 * ((i * 7) % 11))).collect();
        self.write(name, &format!("a,b,y\n{lines}"));
    }
}

#[test]
fn statements_run_on_the_server() {
    let server = Server::start();
    server.rows("t.csv", 60);
    assert_eq!(server.ok("SELECT 1 AS a; SELECT 'x' AS b"), "a\n1\nb\nx\n");
    let report = server.ok("TRAIN MODEL line USING linear_regression PREDICT y FROM 't.csv'");
    assert!(report.starts_with("model,version,run,iteration,loss,") && !report.contains("artifact"), "{report}");
    assert!(report.trim_end().lines().last().unwrap().starts_with("line,1,"), "{report}");
    assert!(server.ok("SHOW MODELS").contains("line,1,1,linear_regression,y,60,0,"));
    let close =
        "SELECT max(abs(predicted_y - y)) < 0.001 AS close FROM ML.PREDICT(MODEL line, (SELECT * FROM 't.csv'))";
    assert_eq!(server.ok(close), "close\ntrue\n");
    assert_eq!(server.ok("DROP MODEL line; SHOW MODELS").lines().count(), 1);
    assert!(!server.place.path().join("elsewhere/sinew-warehouse").exists());
}

#[test]
fn errors_arrive_as_they_are() {
    let server = Server::start();
    for sql in [
        "SELECT * FROM nowhere",
        "SELEC 1",
        "SELECT CAST('x' AS INT)",
        "SET sinew.threads = 2",
        "DROP MODEL none",
        "TRAIN MODEL m USING linear_regression PREDICT y OPTIONS (reg_param = -1) AS SELECT 1 AS x, 2 AS y",
        "SELECT 1;\n\n  SELECT nope FROM (SELECT 1 AS b)",
        "SELECT 1;\nSELECT 'open",
    ] {
        let embedded = sinew(server.place.path(), &["--format", "csv", "-c", sql]).output().unwrap();
        assert_eq!((server.fails(sql), embedded.status.code()), (stderr(&embedded), Some(1)), "{sql}");
    }
}

#[test]
fn settings_and_temporary_names_belong_to_a_session() {
    let server = Server::start();
    assert_eq!(server.ok("CREATE VIEW v AS SELECT 7 AS n; SELECT * FROM v"), "n\n7\n");
    assert!(server.fails("SELECT * FROM v").contains("not found"));
    let set = "SET datafusion.execution.batch_size = 17; SHOW datafusion.execution.batch_size";
    assert!(server.ok(set).contains(",17"));
    assert!(!server.ok("SHOW datafusion.execution.batch_size").contains(",17"));
}

#[test]
fn results_of_any_size_and_shape() {
    let server = Server::start();
    assert_eq!(server.ok("SELECT count(*) AS n, sum(value) AS s FROM range(0, 300000)"), "n,s\n300000,44999850000\n");
    assert_eq!(server.ok("SELECT value FROM range(0, 300000)").lines().count(), 300_001);
    assert_eq!(server.ok("SELECT 1 AS a WHERE false"), "a\n");
    assert_eq!(server.ok("SELECT arrow_cast('x', 'Dictionary(Int32, Utf8)') AS a"), "a\nx\n");
    let wide = server.ok("SELECT repeat('x', 5000000) AS a");
    assert_eq!(wide.trim_end().len(), "a\n".len() + 5_000_000);
}

#[test]
fn no_server_is_a_clear_error() {
    let place = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("grpc://{free}");
    let output = sinew(place.path(), &["--connect", &url, "-c", "SELECT 1"]).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("SINEW-3301") && text.contains(&url) && text.contains("sinew serve"), "{text}");
    for wrong in [&["--connect", "here", "-c", "SELECT 1"][..], &["--connect", &url, "--warehouse", "w"]] {
        let output = sinew(place.path(), wrong).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stderr(&output).contains("SINEW-3"), "{}", stderr(&output));
    }
}

#[test]
fn a_port_in_use_is_a_clear_error() {
    let server = Server::start();
    let address = server.url.trim_start_matches("grpc://");
    let output = sinew(server.place.path(), &["serve", "--listen", address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains("SINEW-3308") && text.contains(address) && text.contains("--listen"), "{text}");
}

#[test]
fn other_machines_are_kept_out() {
    let place = tempfile::tempdir().unwrap();
    let output = sinew(place.path(), &["serve", "--listen", "0.0.0.0:0"]).output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("SINEW-3308") && text.contains("--users") && text.contains("--tls-client-ca"), "{text}");
    // Encryption alone lets everybody in, and a login alone is read by everybody.
    add_user(place.path(), "ann", "read", "secret");
    for (more, word) in [(&["--tls", "self-signed"][..], "--users"), (&["--users", "users"], "--insecure-listen")] {
        let args = [&["serve", "--listen", "0.0.0.0:0"], more].concat();
        let output = sinew(place.path(), &args).env("XDG_STATE_HOME", place.path()).output().unwrap();
        let text = stderr(&output);
        assert!(text.contains("SINEW-3308") && text.contains(word), "{text}");
    }
}

/// `sinew user add`, with the password on standard input.
fn add_user(place: &Path, name: &str, roles: &str, password: &str) {
    use std::io::Write;
    let mut command = sinew(place, &["user", "add", name, "--roles", roles, "--users", "users"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{password}").unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn users_log_in_over_a_connection_that_nobody_reads() {
    let place = tempfile::tempdir().unwrap();
    add_user(place.path(), "ann", "read", "old");
    add_user(place.path(), "ann", "read", "pass word");
    let users = std::fs::read_to_string(place.path().join("users")).unwrap();
    assert!(users.lines().count() == 1 && !users.contains("pass word") && users.contains("$argon2id$"), "{users}");
    let made = sinew(place.path(), &["token", "new", "--for", "bi", "--roles", "read,write", "--tokens", "tokens"]);
    let token = stdout(&{ made }.output().unwrap()).trim().to_string();
    assert!(
        token.starts_with("sinew_") && !std::fs::read_to_string(place.path().join("tokens")).unwrap().contains(&token)
    );

    let args = ["serve", "--listen", "127.0.0.1:0", "--users", "users", "--tokens", "tokens", "--tls", "self-signed"];
    let args = [&args[..], &["--audit", "audit.jsonl", "--roots", "."]].concat();
    let mut serve = sinew(place.path(), &args);
    let mut child = serve.env("XDG_STATE_HOME", place.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let (mut line, mut note) = (String::new(), String::new());
    said.read_line(&mut line).unwrap();
    said.read_line(&mut note).unwrap();
    let url = line.trim().strip_prefix("sinew serve: listening on ").unwrap().to_string();
    assert!(url.starts_with("grpcs://127.0.0.1:"), "{url}");
    let certificate = note.split("certificate ").nth(1).unwrap().split(", SHA-256 ").next().unwrap();
    let (server, certificate) = (Server { place, child, url }, certificate.to_string());
    assert!(Path::new(&certificate).exists() && note.trim().rsplit(' ').next().unwrap().len() == 95, "{note}");

    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let args = [&["--connect", &server.url, "--tls-ca", &certificate, "--format", "csv"], args].concat();
        let mut command = sinew(server.place.path(), &args);
        command.env_remove("SINEW_TOKEN").env_remove("SINEW_PASSWORD").envs(variables.iter().copied()).output().unwrap()
    };
    let select = ["-c", "SELECT 1 AS a"];
    let ann = ["--user", "ann", "-c", "SELECT 1 AS a"];
    assert_eq!(stdout(&run(&ann, &[("SINEW_PASSWORD", "pass word")])), "a\n1\n");
    assert_eq!(stdout(&run(&select, &[("SINEW_TOKEN", &token)])), "a\n1\n");
    let files = ["users", "tokens", "audit.jsonl", "sinew/tls/key.pem"];
    let read =
        |file: &str| format!("CREATE EXTERNAL TABLE f{} (a VARCHAR) STORED AS CSV LOCATION '{file}'", file.len());
    for (output, word) in [
        (run(&ann, &[("SINEW_PASSWORD", "wrong")]), "SINEW-3701"),
        (run(&ann, &[]), "SINEW_PASSWORD"),
        (run(&select, &[]), "SINEW-3701"),
        (run(&select, &[("SINEW_TOKEN", "sinew_0")]), "SINEW-3701"),
        (run(&["--user", "ann", "-c", "DROP TABLE t"], &[("SINEW_PASSWORD", "pass word")]), "SINEW-3703"),
    ] {
        assert!(!output.status.success() && stderr(&output).contains(word), "{word}: {}", stderr(&output));
    }
    for file in &files[..3] {
        let output = run(&["-c", &read(file)], &[("SINEW_TOKEN", &token)]);
        assert!(stderr(&output).contains("SINEW-3704"), "{file}: {}", stderr(&output));
    }
    let plain = server.url.replace("grpcs", "grpc");
    let output = sinew(server.place.path(), &["--connect", &plain, "-c", "SELECT 1"]).output().unwrap();
    assert!(!output.status.success());
    let audit = std::fs::read_to_string(server.place.path().join("audit.jsonl")).unwrap();
    assert!(audit.lines().count() >= 6 && !audit.contains("pass word") && !audit.contains(&token), "{audit}");
}

#[test]
fn a_server_touches_its_folder_and_its_warehouse() {
    let server = Server::start();
    server.rows("t.csv", 3);
    assert_eq!(server.ok("SELECT count(*) AS n FROM 't.csv'"), "n\n3\n");
    server.ok("COPY (SELECT 1 AS a) TO 'sub/x.csv'");
    server.ok("CREATE TABLE kept AS SELECT * FROM 't.csv'");
    for sql in
        ["SELECT * FROM '/etc/passwd.csv'", "SELECT * FROM '../x.csv'", "COPY (SELECT 1 AS a) TO '/tmp/sinew-x.csv'"]
    {
        let text = server.fails(sql);
        assert!(text.contains("SINEW-3704") && text.contains("--roots"), "{text}");
    }
    let everywhere = Server::start_with(&["--roots", "any"]);
    let elsewhere = server.place.path().join("t.csv");
    assert_eq!(everywhere.ok(&format!("SELECT count(*) AS n FROM '{}'", elsewhere.display())), "n\n3\n");
}

#[test]
fn a_signal_ends_the_server_when_statements_have() {
    for name in ["-TERM", "-INT"] {
        let mut server = Server::start_with(&["--drain", "120"]);
        // More rows than fit into the buffers between the two, so that the statement runs until they are read.
        let sql = "SELECT value FROM range(0, 3000000)";
        let mut client = server.client(sql).stdout(Stdio::piped()).spawn().unwrap();
        let mut rows = client.stdout.take().unwrap();
        let mut first = [0; 16];
        rows.read_exact(&mut first).unwrap();
        signal(&server.child, name);
        let mut rest = String::new();
        rows.read_to_string(&mut rest).unwrap();
        assert!(client.wait().unwrap().success());
        assert!(rest.ends_with("\n2999999\n"), "{}", rest.len());
        assert_eq!(server.child.wait().unwrap().code(), Some(0));
    }
}

/// A statement that would run for hours.
const ENDLESS: &str = "SELECT sum(a.value * b.value % 7) FROM range(1, 100000000) a, range(1, 100000) b";

/// Seconds of processor time that a process has used.
fn cpu(child: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11..13].iter().map(|f| f.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// Waits until the server computes, or does not.
fn wait_until(server: &Server, computes: bool) {
    let start = Instant::now();
    loop {
        let before = cpu(&server.child);
        std::thread::sleep(Duration::from_millis(500));
        if (cpu(&server.child) - before > 0.05) == computes {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "the server computes: {}", !computes);
    }
}

#[test]
fn a_signal_to_the_client_cancels_on_the_server() {
    let server = Server::start();
    for (name, code) in [("-INT", Some(130)), ("-TERM", Some(143)), ("-KILL", None)] {
        let client = server.client(ENDLESS).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        wait_until(&server, true);
        signal(&client, name);
        let output = client.wait_with_output().unwrap();
        assert_eq!(output.status.code(), code, "{}", stderr(&output));
        assert!(code.is_none() || stderr(&output).contains("SINEW-3006"), "{}", stderr(&output));
        wait_until(&server, false);
    }
    assert_eq!(server.ok("SELECT 1 AS a"), "a\n1\n");
}

#[test]
fn a_server_that_dies_is_told() {
    let mut server = Server::start();
    let client = server.client(ENDLESS).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    wait_until(&server, true);
    server.child.kill().unwrap();
    let output = client.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("SINEW-3302"), "{}", stderr(&output));
}

#[test]
fn a_training_is_followed_row_by_row() {
    let server = Server::start();
    server.rows("t.csv", 20_000);
    let train = "TRAIN MODEL slow USING kmeans OPTIONS (k = 40, max_iter = 10000, tol = 0) FROM 't.csv'";
    let mut client = server.client(train).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 16];
    client.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert!(client.try_wait().unwrap().is_none(), "the first row came with the last");
    signal(&client, "-INT");
    assert_eq!(client.wait_with_output().unwrap().status.code(), Some(130));
    wait_until(&server, false);
    assert_eq!(server.ok("SHOW MODELS").lines().count(), 1, "nothing was published");
}

/// The files below a folder whose names end so.
fn ending(folder: &Path, end: &str) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|e| {
            if e.path().is_dir() {
                ending(&e.path(), end)
            } else {
                usize::from(e.path().to_string_lossy().ends_with(end))
            }
        })
        .sum()
}

#[test]
fn a_server_that_is_stopped_keeps_a_young_training() {
    let mut server = Server::start_with(&["--drain", "2"]);
    server.rows("t.csv", 20_000);
    let train = "TRAIN MODEL slow USING logistic_regression PREDICT c OPTIONS (solver = 'adam', max_iter = 1000000, \
                 tol = 0) AS SELECT a, b, y % 2 AS c FROM 't.csv'";
    let mut client = server.client(train).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut rows = client.stdout.take().unwrap();
    rows.read_exact(&mut [0; 200]).unwrap();
    let warehouse = server.place.path().join("sinew-warehouse");
    assert_eq!(ending(&warehouse, ".ckpt"), 0, "the first one would come after 30 s");
    signal(&server.child, "-TERM");
    rows.read_to_string(&mut String::new()).unwrap();
    let output = client.wait_with_output().unwrap();
    let text = stderr(&output);
    assert!(text.contains("SINEW-3312") && text.contains("RETRAIN MODEL slow RESUME"), "{text}");
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(ending(&warehouse, ".ckpt") > 0, "it can go on");
}

#[test]
fn warnings_of_a_training_come_to_standard_error() {
    let server = Server::start();
    server.rows("t.csv", 60);
    let train = "TRAIN MODEL short USING logistic_regression PREDICT y OPTIONS (max_iter = 1) AS SELECT a, 7 AS c, b % 2 AS y FROM 't.csv'";
    let elsewhere = server.client(train).output().unwrap();
    let here =
        sinew(server.place.path(), &["--warehouse", "memory://", "--format", "csv", "-c", train]).output().unwrap();
    for output in [elsewhere, here] {
        let (text, rows) = (stderr(&output), stdout(&output));
        assert!(output.status.success() && !rows.contains("warning"), "{text}\n{rows}");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"warning: constant in the training rows, hence of no use: c"), "{text}");
        assert!(lines.iter().any(|line| line.starts_with("warning: not converged after 1 iterations")), "{text}");
        assert!(lines.iter().all(|line| lines.iter().filter(|other| *other == line).count() == 1), "{text}");
    }
    let quiet = sinew(server.place.path(), &["--connect", &server.url, "--quiet", "-c", train]).output().unwrap();
    assert_eq!(stderr(&quiet), "");
}
