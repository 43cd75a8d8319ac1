//! Stock clients against a server and against a cluster: the suite of `clients/`, in virtual environments that are
//! made once, below the target folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sinew_integration_tests::cluster::{Cluster, binary, clean};
use sinew_integration_tests::root;

/// The folder of the suite.
fn suite() -> PathBuf {
    root().join("integration-tests/clients")
}

/// A Python with the packages of a `requirements.txt`; `name` is its folder.
fn python(name: &str, requirements: &Path) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    // Tests of other processes may want it at the same time.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let wanted = std::fs::read_to_string(requirements).unwrap();
    let (python, made) = (folder.join("venv/bin/python"), folder.join("made"));
    if std::fs::read_to_string(&made).ok().as_ref() != Some(&wanted) {
        let _ = std::fs::remove_dir_all(folder.join("venv"));
        let hint =
            "install Python 3.10 or newer with venv (Debian: apt-get install python3-venv) and let it reach PyPI";
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")), hint);
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements), hint);
        std::fs::write(made, wanted).unwrap();
    }
    python
}

/// Runs a program that must succeed; `hint` says what to do where it does not.
fn run(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}; {hint}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed; {hint}\n{text}");
}

/// The tests of a folder against the server at `url`.
fn pytest(python: &Path, tests: &Path, more: &[&str], url: &str) {
    pytest_with(python, tests, more, url, &[]);
}

/// The same, with more in their environment.
fn pytest_with(python: &Path, tests: &Path, more: &[&str], url: &str, told: &[(&str, &str)]) {
    let mut command = Command::new(python);
    command.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(more).arg(tests);
    command.env("SINEW_URL", url).env("SINEW_ROOT", root()).env("IPYTHONDIR", env!("CARGO_TARGET_TMPDIR"));
    command.envs(told.iter().copied());
    run(&mut command, "the suite is in integration-tests/clients");
}

/// `sinew serve` in the root of the repository, over a warehouse of its own.
struct Serve {
    child: Child,
    url: String,
    folder: tempfile::TempDir,
}

impl Serve {
    fn start() -> Self {
        Self::with(&[])
    }

    /// The same, with more flags.
    fn with(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary("sinew"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--warehouse"]).arg(folder.path().join("warehouse"));
        command.args(flags).env("XDG_STATE_HOME", folder.path()).current_dir(root());
        let mut child = clean(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_string();
        assert!(url.starts_with("grpc"), "{line}");
        Self { child, url, folder }
    }

    /// The certificate that the server made for itself.
    fn certificate(&self) -> String {
        self.folder.path().join("sinew/tls/certificate.pem").display().to_string()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn stock_clients_of_a_server() {
    let python = python("clients", &suite().join("requirements.txt"));
    let server = Serve::start();
    pytest(&python, &suite(), &[], &server.url);
}

#[test]
fn stock_clients_of_a_cluster() {
    let python = python("clients", &suite().join("requirements.txt"));
    let cluster = Cluster::start(2);
    pytest(&python, &suite(), &[], &cluster.url());
}

#[test]
fn old_clients_of_a_server_and_a_cluster() {
    let tests = suite().join("old");
    let python = python("clients-old", &tests.join("requirements.txt"));
    pytest(&python, &tests, &["--noconftest"], &Serve::start().url);
    pytest(&python, &tests, &["--noconftest"], &Cluster::start(1).url());
}

/// Files of users and tokens, made as their owner makes them.
struct Accounts {
    folder: tempfile::TempDir,
    token: String,
}

impl Accounts {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut accounts = Self { folder, token: String::new() };
        let add = |name: &str, roles: &str| {
            ["user", "add", name, "--roles", roles, "--users", &accounts.path("users")].map(String::from)
        };
        sinew(&add("reader", "read"), "reads, and no more");
        sinew(&add("trainer", "train"), "träins:models");
        let tokens = accounts.path("tokens");
        let token = ["token", "new", "--for", "robot", "--roles", "read", "--tokens", &tokens].map(String::from);
        accounts.token = sinew(&token, "");
        accounts
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The flags of a server that asks for them.
    fn flags(&self) -> [String; 4] {
        ["--users".into(), self.path("users"), "--tokens".into(), self.path("tokens")]
    }
}

/// What a `sinew` command prints that is told a line.
fn sinew(args: &[String], line: &str) -> String {
    let mut command = Command::new(binary("sinew"));
    clean(command.args(args)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

#[test]
fn clients_that_log_in() {
    let (python, accounts) = (python("clients", &suite().join("requirements.txt")), Accounts::new());
    let flags = accounts.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let tests = suite().join("login");
    let asks = |url: &str, told: &[(&str, &str)]| {
        let told = [&[("SINEW_ROBOT", accounts.token.as_str())][..], told].concat();
        pytest_with(&python, &tests, &["--noconftest"], url, &told);
    };
    asks(&Serve::with(&flags).url, &[]);
    let encrypted = Serve::with(&[&flags[..], &["--tls", "self-signed"]].concat());
    assert!(encrypted.url.starts_with("grpcs://"), "{}", encrypted.url);
    asks(&encrypted.url, &[("SINEW_CA", &encrypted.certificate())]);
    asks(&Cluster::with(1, &flags).url(), &[]);
}
