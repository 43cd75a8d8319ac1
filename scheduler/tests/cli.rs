//! Starting and stopping `sinew-scheduler`, as a person or a supervisor does it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

fn command(place: &tempfile::TempDir, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinew-scheduler"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SINEW_")) {
        command.env_remove(name);
    }
    command.args(args).current_dir(place.path()).stdin(Stdio::null());
    command
}

/// What it says when it does not start; one line, and the exit code.
fn refused(args: &[&str]) -> (String, Option<i32>) {
    let place = tempfile::tempdir().unwrap();
    let Output { status, stderr, .. } = command(&place, args).output().unwrap();
    (String::from_utf8(stderr).unwrap(), status.code())
}

/// A scheduler that runs, with its door and its address for executors.
fn start(place: &tempfile::TempDir, args: &[&str]) -> (Child, String, String) {
    let mut child = command(place, args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let addresses = line.trim().split_once(" at grpc://").and_then(|(_, rest)| rest.split_once(", cluster at "));
    let (door, cluster) = addresses.unwrap_or_else(|| panic!("{line}"));
    (child, door.into(), cluster.into())
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

const FREE: [&str; 4] = ["--listen", "127.0.0.1:0", "--cluster", "127.0.0.1:0"];

#[test]
fn help_and_version() {
    let place = tempfile::tempdir().unwrap();
    let help = command(&place, &["--help"]).output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for flag in ["--listen", "--cluster", "--executor-timeout", "--grace", "--warehouse", "--config"] {
        assert!(text.contains(flag), "{flag}: {text}");
    }
    let version = command(&place, &["--version"]).output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn it_says_where_it_listens_and_ends_with_0() {
    let place = tempfile::tempdir().unwrap();
    let (mut child, door, cluster) = start(&place, &FREE);
    assert!(get(&cluster, "/healthz").ends_with("ok"));
    assert!(get(&cluster, "/sinew/version").ends_with(env!("CARGO_PKG_VERSION")));
    assert!(get(&cluster, "/readyz").starts_with("HTTP/1.1 503"), "there is no executor");
    assert!(get(&cluster, "/metrics").contains("\nsinew_executors 0\n"));
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    for address in [door, cluster] {
        TcpListener::bind(&address).unwrap_or_else(|e| panic!("{address} is not free: {e}"));
    }
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (args, flag) in [
        (["--listen", &address, "--cluster", "127.0.0.1:0"], "--listen"),
        (["--listen", "127.0.0.1:0", "--cluster", &address], "--cluster"),
    ] {
        let (text, code) = refused(&args);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("SINEW-") && text.contains(&address) && text.contains(flag), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
}

#[test]
fn usage() {
    let (text, code) = refused(&["--lisen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--lisen") && text.contains("--listen"), "{text}");
    let (text, code) = refused(&["--grace", "soon"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("SINEW-3007") && text.contains("--grace") && text.contains("soon"), "{text}");
    let (text, code) = refused(&["--listen", "50051"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("--listen") && text.contains("50051"), "{text}");
    let (text, code) = refused(&["--log", "loud"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("--log") && text.contains("debug"), "{text}");
    let (text, code) = refused(&[&FREE[..], &["--warehouse", "memory:"]].concat());
    assert_eq!(code, Some(1));
    assert!(text.contains("--warehouse") && text.contains("shared folder"), "{text}");
}

#[test]
fn a_file_of_options() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("scheduler.conf");
    let path = file.display().to_string();
    let with = |text: &str| {
        std::fs::write(&file, text).unwrap();
        refused(&["--config", &path])
    };
    for (text, words) in [
        ("# ours\nlisen = 127.0.0.1:0\n", ["line 2", "lisen"]),
        ("listen\n", ["line 1", "name = value"]),
        ("grace = -1\n", ["line 1", "-1"]),
    ] {
        let (said, code) = with(text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&path) && words.iter().all(|word| said.contains(word)), "{text}: {said}");
    }
    let (said, code) = refused(&["--config", "/no/such/file"]);
    assert_eq!(code, Some(2));
    assert!(said.contains("/no/such/file"), "{said}");
    // One that is right is used.
    std::fs::write(&file, "listen = 127.0.0.1:0\ncluster = 127.0.0.1:0 # free ones\n").unwrap();
    let (mut child, ..) = start(&place, &["--config", &path]);
    child.kill().unwrap();
    child.wait().unwrap();
}
