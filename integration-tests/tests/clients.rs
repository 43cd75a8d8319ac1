//! Stock clients against a server: the suite of `clients/`, in a virtual environment that is made once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use sinew_integration_tests::{Engine, Topology, root};

/// A Python with the packages of `requirements.txt`.
fn python() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clients");
    std::fs::create_dir_all(&folder).unwrap();
    // Tests of other processes may want it at the same time.
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let wanted = std::fs::read_to_string(root().join("integration-tests/clients/requirements.txt")).unwrap();
    let (python, made) = (folder.join("venv/bin/python"), folder.join("made"));
    if std::fs::read_to_string(&made).ok().as_ref() != Some(&wanted) {
        let _ = std::fs::remove_dir_all(folder.join("venv"));
        run(Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")));
        let list = root().join("integration-tests/clients/requirements.txt");
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(list));
        std::fs::write(made, wanted).unwrap();
    }
    python
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_of_stock_clients() {
    let engine = Engine::on(Topology::Flight, 4).await;
    let url = engine.url().unwrap().to_string();
    let suite = move || {
        let folder = root().join("integration-tests/clients");
        let mut command = Command::new(python());
        command.args(["-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(folder).env("SINEW_URL", url);
        run(&mut command);
    };
    tokio::task::spawn_blocking(suite).await.unwrap();
}
