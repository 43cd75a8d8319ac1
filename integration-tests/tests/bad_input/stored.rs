//! A warehouse whose files are damaged, and one that cannot be written.

use std::path::{Path, PathBuf};

use sinew_integration_tests::{Engine, number};

use super::{assert_close, predicted, refused};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn damage_is_noticed_and_stays_where_it_is() {
    let engine = Engine::new(2);
    let train = |name: &str, slope: f64| {
        format!(
            "TRAIN MODEL {name} USING linear_regression PREDICT y SPLIT NONE AS \
             SELECT x, x * {slope} AS y FROM (VALUES (1.0), (2.0), (3.0)) t(x)"
        )
    };
    for (name, slope) in [("good", 2.0), ("bad", 3.0)] {
        engine.run(&train(name, slope)).await;
    }
    let predict = "SELECT PREDICT(bad, *) FROM (VALUES (1.0)) t(x)";
    let damaged = files(&engine.warehouse().join("models/bad"));
    assert_eq!(damaged.len(), 3, "{damaged:?}");
    for path in damaged {
        let whole = std::fs::read(&path).unwrap();
        let is_record = path.parent().unwrap().ends_with("versions");
        let flip = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        };
        let n = whole.len();
        for bytes in [
            Vec::new(),
            whole[..n / 2].to_vec(),
            whole[..n - 1].to_vec(),
            flip(0),
            flip(n / 3),
            flip(n / 2),
            flip(n - 1),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let shown = path.display().to_string();
            refused(&engine, &[(predict, &["SINEW-3108: ", &shown, "restore"])]).await;
            assert_close(&predicted(&engine, "good", "x", "(1.0)").await, &[2.0]);
            let listed = engine.run("SHOW MODELS").await;
            assert_eq!(listed[0].num_rows(), 2, "{shown}");
            // the damaged model has nothing beside its name
            let rows = (
                number(listed[0].column_by_name("rows").unwrap(), 0),
                number(listed[0].column_by_name("rows").unwrap(), 1),
            );
            assert_eq!((rows.0.is_nan(), rows.1), (is_record, 3.0));
        }
        std::fs::remove_file(&path).unwrap();
        let error = engine.error(predict).await;
        assert!(error.starts_with(if is_record { "SINEW-3102: " } else { "SINEW-3108: " }), "{error}");
        std::fs::write(&path, whole).unwrap();
        assert_close(&predicted(&engine, "bad", "x", "(1.0)").await, &[3.0]);
    }
    // another version is not harmed by a damaged record beside it, and training goes on
    let first = engine.warehouse().join("models/bad/versions/00000001.json");
    engine.run(&train("bad", 5.0)).await;
    std::fs::write(&first, b"{").unwrap();
    assert_close(&predicted(&engine, "bad@2", "x", "(1.0)").await, &[5.0]);
    engine.run("DROP MODEL bad VERSION 1").await;
    assert_close(&predicted(&engine, "bad", "x", "(1.0)").await, &[5.0]);
}
