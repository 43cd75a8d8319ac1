//! Two processes write versions of one model into one warehouse.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use sinew::warehouse::conformance::sample;
use sinew::warehouse::{Location, ModelCatalog, ModelRef, PublishMode, StoreCatalog};

const FOLDER: &str = "SINEW_TEST_WAREHOUSE";
const EACH: usize = 20;

/// Does nothing unless the test below started this process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let catalog = StoreCatalog::new(&Location::parse(&folder).unwrap());
    for n in 0..EACH {
        let run = format!("p{}-{n}", std::process::id());
        let version = catalog.publish("m", &sample(&run).unwrap(), PublishMode::default()).await.unwrap().version;
        println!("published {version} {run}");
    }
}

#[tokio::test]
async fn two_processes_get_distinct_versions() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["a_writer", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let writers = [start(), start()];
    let catalog = StoreCatalog::new(&Location::parse(folder.path().to_str().unwrap()).unwrap());
    let mut versions = BTreeSet::new();
    for writer in writers {
        let output = writer.wait_with_output().unwrap();
        assert!(output.status.success());
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let Some((_, told)) = line.split_once("published ") else { continue };
            let (version, run) = told.split_once(' ').unwrap();
            let version: u64 = version.parse().unwrap();
            assert!(versions.insert(version), "version {version} was given twice");
            let (_, artifact) = catalog.load(&ModelRef::version("m", version)).await.unwrap();
            assert_eq!(artifact, sample(run).unwrap());
        }
    }
    assert_eq!(versions, (1..=2 * EACH as u64).collect());
}
