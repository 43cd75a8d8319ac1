//! The scripts of `examples/` and the SQL of the manual run as they stand, from the root of the repository.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sinew_integration_tests::{Engine, file, root};

#[tokio::test(flavor = "multi_thread")]
async fn every_script_runs() {
    let mut scripts: Vec<_> = std::fs::read_dir(root().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "sql"))
        .collect();
    scripts.sort();
    assert!(scripts.len() >= 5, "{scripts:?}");
    for script in scripts {
        let text = std::fs::read_to_string(&script).unwrap();
        // Scripts name their data from the root; tests run in another folder.
        let text = text.replace("'examples/data", &format!("'{}", file("examples/data")));
        let batches = Engine::new(2).try_run(&text).await.unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        assert!(batches.iter().any(|b| b.num_rows() > 0), "{} ends without rows", script.display());
    }
}

/// What stands between "```sql" and "```".
fn fenced(text: &str) -> String {
    let blocks = text.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manual_runs() {
    for page in ["docs/sql.md", "README.md"] {
        let sql = fenced(&std::fs::read_to_string(root().join(page)).unwrap());
        let sql = sql.replace("'examples/data", &format!("'{}", file("examples/data")));
        assert!(!sql.is_empty(), "{page} has no SQL");
        if let Err(error) = Engine::new(2).try_run(&sql).await {
            panic!("{page}: {error}");
        }
    }
}
