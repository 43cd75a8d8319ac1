//! Behaviour in SQL: the files of `slt/`, each with an engine of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sinew_integration_tests::{root, slt};

macro_rules! files {
    ($($name:ident)*) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                slt::run(&root().join(concat!("integration-tests/slt/", stringify!($name), ".slt"))).await;
            }
        )*
    };
}

files! { train predict evaluate weights training_info catalog explain refused tables missing write copy }

#[test]
fn every_file_is_run() {
    for entry in std::fs::read_dir(root().join("integration-tests/slt")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().to_string();
        assert!(FILES.contains(&name.as_str()), "{name}.slt stands in no list");
    }
}
