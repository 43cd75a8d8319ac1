//! Stock clients against a server and against a cluster: the suite of `clients/`, in virtual environments that are
//! made once, below the target folder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::io::{BufRead, BufReader};
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
    let mut command = Command::new(python);
    command.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(more).arg(tests);
    command.env("SINEW_URL", url).env("SINEW_ROOT", root()).env("IPYTHONDIR", env!("CARGO_TARGET_TMPDIR"));
    run(&mut command, "the suite is in integration-tests/clients");
}

/// `sinew serve` in the root of the repository, over a warehouse of its own.
struct Serve {
    child: Child,
    url: String,
    _warehouse: tempfile::TempDir,
}

impl Serve {
    fn start() -> Self {
        let warehouse = tempfile::tempdir().unwrap();
        let mut command = Command::new(binary("sinew"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--warehouse"]).arg(warehouse.path()).current_dir(root());
        let mut child = clean(&mut command).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().rsplit(' ').next().unwrap().to_string();
        assert!(url.starts_with("grpc://"), "{line}");
        Self { child, url, _warehouse: warehouse }
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
