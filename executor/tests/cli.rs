//! Starting and stopping `sinew-executor`, as a person or a supervisor does it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinew-executor"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SINEW_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// What it says when it does not start, and the exit code.
fn refused(args: &[&str]) -> (String, Option<i32>) {
    let work = tempfile::tempdir().unwrap();
    let work = work.path().display().to_string();
    let args = if args.contains(&"--work-dir") { args.to_vec() } else { [args, &["--work-dir", &work]].concat() };
    let Output { status, stderr, .. } = command(&args).output().unwrap();
    (String::from_utf8(stderr).unwrap(), status.code())
}

/// Answers every request with the same text.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// The address of a port that nothing listens on.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn help_and_version() {
    let help = command(&["--help"]).output().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    for flag in ["--scheduler", "--cores", "--work-dir", "--grpc-port", "--memory-limit", "--warehouse", "--config"] {
        assert!(text.contains(flag), "{flag}: {text}");
    }
    let version = command(&["--version"]).output().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for flag in ["--port", "--grpc-port"] {
        let (text, code) = refused(&["--scheduler", &nobody(), flag, &port]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("SINEW-") && text.contains(&port) && text.contains(&format!("with {flag}")), "{text}");
    }
}

#[test]
fn a_work_folder_that_cannot_be_written() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let path = file.display().to_string();
    let (text, code) = refused(&["--scheduler", &nobody(), "--work-dir", &path]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("SINEW-") && text.contains(&path) && text.contains("--work-dir"), "{text}");
}

#[test]
fn no_scheduler() {
    let address = nobody();
    let (text, code) = refused(&["--scheduler", &address, "--wait", "0"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("SINEW-") && text.contains(&address) && text.contains("--scheduler"), "{text}");
    // Something else answers there.
    let other = answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let (text, code) = refused(&["--scheduler", &other, "--wait", "0"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no Sinew scheduler"), "{text}");
}

#[test]
fn a_scheduler_of_another_version() {
    let other = answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n99.1.0");
    let (text, code) = refused(&["--scheduler", &other]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("SINEW-3402") && text.contains("99.1.0"), "{text}");
    assert!(text.contains(env!("CARGO_PKG_VERSION")) && text.contains(&other), "{text}");
}

#[test]
fn it_waits_for_a_scheduler_and_ends_with_0() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().display().to_string();
    let mut waiting = command(&["--scheduler", &nobody(), "--work-dir", &path]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting for it") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
    }
    Command::new("kill").args(["-TERM", &waiting.id().to_string()]).status().unwrap();
    assert_eq!(waiting.wait().unwrap().code(), Some(0));
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 0, "its work folder is gone");
}

#[test]
fn usage() {
    let (text, code) = refused(&["--sheduler", "127.0.0.1:1"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--sheduler") && text.contains("--scheduler"), "{text}");
    let (text, code) = refused(&["--cores", "0"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("SINEW-3007") && text.contains("--cores"), "{text}");
    let (text, code) = refused(&["--scheduler", "somewhere"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("--scheduler") && text.contains("somewhere"), "{text}");
}

#[test]
fn a_file_of_options() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("executor.conf");
    let path = file.display().to_string();
    for (text, words) in [("cores = 2\ncoers = 2\n", ["line 2", "coers"]), ("cores 2\n", ["line 1", "name = value"])] {
        std::fs::write(&file, text).unwrap();
        let (said, code) = refused(&["--config", &path]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&path) && words.iter().all(|word| said.contains(word)), "{text}: {said}");
    }
    std::fs::write(&file, format!("scheduler = \"{}\"\nwait = 0\n", nobody())).unwrap();
    let (said, code) = refused(&["--config", &path]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("looking for a scheduler"), "{said}");
}
