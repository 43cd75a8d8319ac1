//! The invariants of ARCHITECTURE.md that can be read off the source tree.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

fn is_product(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_string_lossy().to_string();
    !name.ends_with("tests") && name != "testing"
}

/// The crates of ours that a crate may import.
fn line() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("ml-ops", &[] as &[_]),
        ("sql", &["sinew-ml"] as &[_]),
        ("engine", &["sinew-ml", "sinew-sql"] as &[_]),
        ("scheduler", &["sinew-ml", "sinew-sql", "sinew"] as &[_]),
        ("executor", &["sinew-ml", "sinew-sql", "sinew"] as &[_]),
    ])
}

#[test]
fn imports_follow_the_line() {
    for (folder, allowed) in line() {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
        for name in ["sinew-ml", "sinew-sql", "sinew", "sinew-scheduler", "sinew-executor"] {
            let used =
                dependencies.lines().any(|l| l.starts_with(&format!("{name}.")) || l.starts_with(&format!("{name} ")));
            assert!(!used || allowed.contains(&name), "{folder} may not import {name}");
        }
        let ballista = dependencies.contains("ballista");
        // The tests know it for the benchmark beside a stock one.
        let may = matches!(folder, "scheduler" | "executor" | "integration-tests");
        assert!(!ballista || may, "{folder} may not know Ballista");
    }
}

#[test]
fn ml_ops_opens_nothing_and_knows_no_session() {
    for (path, text) in sources("ml-ops/src").into_iter().filter(|(path, _)| is_product(path)) {
        let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        let product = code.split("#[cfg(test)]").next().unwrap();
        for word in ["SessionContext", "tokio::net", "std::net", "DFParser", "sqlparser"] {
            assert!(!product.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for folder in ["ml-ops/src", "sql/src", "engine/src", "scheduler/src", "executor/src"] {
        for (path, text) in sources(folder).into_iter().filter(|(path, _)| is_product(path)) {
            assert!(text.starts_with("//!"), "{} has no module documentation", path.display());
        }
    }
}
