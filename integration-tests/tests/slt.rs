//! Behaviour in SQL: the files of `slt/`, each with an engine of its own, in every topology.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use sinew_integration_tests::{Topology, root, slt};

macro_rules! topology {
    ($module:ident, $topology:expr, $($name:ident)*) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let file = root().join(concat!("integration-tests/slt/", stringify!($name), ".slt"));
                    slt::run(&file, $topology).await;
                }
            )*
        }
    };
}

macro_rules! files {
    ($($name:ident)*) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];
        topology! { embedded, Topology::Embedded, $($name)* }
        topology! { flight, Topology::Flight, $($name)* }
        topology! { cluster_of_1, Topology::Cluster(1), $($name)* }
        topology! { cluster_of_3, Topology::Cluster(3), $($name)* }
    };
}

files! { train trainings retrain predict evaluate weights training_info networks catalog refused tables delimiters summarize missing write copy }

/// Plans say where they run, so a cluster has others.
const PLANS: &str = "explain";
topology! { embedded_plans, Topology::Embedded, explain }
topology! { flight_plans, Topology::Flight, explain }

#[test]
fn every_file_is_run() {
    for entry in std::fs::read_dir(root().join("integration-tests/slt")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().to_string();
        assert!(name == PLANS || FILES.contains(&name.as_str()), "{name}.slt stands in no list");
    }
}
