//! A work folder on a disk that is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use sinew_integration_tests::cluster::Cluster;
use sinew_integration_tests::run;

use crate::support::{Rows, one, wait_until};

/// A small disk in memory; it is unmounted when it is dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.into())),
            other => {
                eprintln!("SKIPPED: a disk cannot be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_of_its_statement() {
    let rows = Rows::new(20_000, 2).await;
    let files = rows.files("rows");
    let mut cluster = Cluster::start(0);
    let place = cluster.path("small");
    let Some(_disk) = Disk::new(&place, "8m") else { return };
    cluster.add_executor_with(&["--work-dir", &place.display().to_string()]);
    cluster.wait_for(1);
    let session = cluster.session().await;
    let text: Vec<String> = (0..20).map(|salt| format!("md5(concat(id, '-{salt}'))")).collect();
    let wide = format!("SELECT id, concat({}) AS t FROM {files}", text.join(", "));
    let sql = format!("SELECT count(*) FROM ({wide}) l JOIN ({wide}) r ON l.t = r.t AND l.id = r.id");
    let error = run(&session, &sql).await.unwrap_err();
    assert!(error.starts_with("SINEW-3003") && error.to_lowercase().contains("no space left"), "{error}");
    // What it wrote is gone, and others work.
    let used = || {
        let output = Command::new("df").arg("--output=used").arg(&place).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().last().unwrap().trim().parse::<u64>().unwrap()
    };
    wait_until("an empty disk", async || used() < 1024).await;
    assert_eq!(one(&session, &rows.counting()).await, rows.count as f64);
}
