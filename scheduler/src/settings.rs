//! The options of `sinew-scheduler`.

use sinew::config::{OptionKind, OptionSpec};
use sinew::daemon::{DaemonSpec, joined};
use sinew::flight::DOOR;

/// The daemon.
pub const DAEMON: DaemonSpec = DaemonSpec {
    name: "sinew-scheduler",
    about: "Plans the statements of a Sinew cluster and hosts its Flight SQL door",
    prefix: "SINEW_SCHEDULER_",
    options: &OPTIONS,
};

static OPTIONS: [OptionSpec; OWN.len() + DOOR.len()] = joined(OWN, DOOR);

const OWN: [OptionSpec; 12] = [
    OptionSpec {
        name: "listen",
        kind: OptionKind::Text,
        default: "127.0.0.1:50051",
        at_start: true,
        doc: "The address of Flight SQL, for clients; port 0 takes a free one",
    },
    OptionSpec {
        name: "insecure_listen",
        kind: OptionKind::Switch,
        default: "false",
        at_start: true,
        doc: "Whether --listen may be an address that other machines reach without encryption",
    },
    OptionSpec {
        name: "cluster",
        kind: OptionKind::Text,
        default: "127.0.0.1:50060",
        at_start: true,
        doc: "The address for executors, and of the REST interface and metrics; keep it private, it has no \
              authentication",
    },
    OptionSpec {
        name: "advertise",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "The host name by which executors reach this scheduler, if it is not the one of --cluster",
    },
    OptionSpec {
        name: "executor_timeout",
        kind: OptionKind::Count(2, 3600),
        default: "15",
        at_start: true,
        doc: "Seconds without a sign of life after which an executor counts as lost; a connection that breaks is \
              noticed at once",
    },
    OptionSpec {
        name: "grace",
        kind: OptionKind::Count(0, 3600),
        default: "30",
        at_start: true,
        doc: "Seconds that statements wait for an executor when there is none",
    },
    OptionSpec {
        name: "merge_bytes",
        kind: OptionKind::Bytes,
        default: "67108864",
        at_start: true,
        doc: "Results of a training step that are larger together are merged on executors before the scheduler \
              reads them",
    },
    OptionSpec {
        name: "local_bytes",
        kind: OptionKind::Count(0, 1 << 40),
        default: "4194304",
        at_start: true,
        doc: "A query without joins that reads at most so many bytes of files runs in the scheduler, which takes \
              less time than a job; 0 means never",
    },
    OptionSpec {
        name: "hash_join_bytes",
        kind: OptionKind::Bytes,
        default: "268435456",
        at_start: true,
        doc: "A join hashes the smaller of its sides when that is estimated to have at most so many bytes in each \
              task; else both sides are sorted, which can go to disk",
    },
    OptionSpec {
        name: "drain",
        kind: OptionKind::Count(0, 3600),
        default: "10",
        at_start: true,
        doc: "Seconds that statements are given when the scheduler is asked to stop",
    },
    OptionSpec {
        name: "resume",
        kind: OptionKind::Switch,
        default: "true",
        at_start: true,
        doc: "Whether trainings that a scheduler's death interrupted go on at the start, once an executor is there",
    },
    OptionSpec {
        name: "log",
        kind: OptionKind::Text,
        default: "info",
        at_start: true,
        doc: "What is written to standard error: error, warn, info, debug or trace",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_stands_in_the_manual() -> std::io::Result<()> {
        let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cluster.md"))?;
        for option in &OPTIONS {
            assert!(manual.contains(&format!("| `{}` |", option.flag())), "{} is missing", option.flag());
        }
        Ok(())
    }
}
