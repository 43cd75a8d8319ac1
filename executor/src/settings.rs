//! The options of `sinew-executor`.

use sinew::config::{OptionKind, OptionSpec};
use sinew::daemon::DaemonSpec;

/// The daemon.
pub const DAEMON: DaemonSpec = DaemonSpec {
    name: "sinew-executor",
    about: "Runs the tasks of a Sinew cluster: queries, writes, and the steps of trainings",
    prefix: "SINEW_EXECUTOR_",
    options: &OPTIONS,
};

static OPTIONS: [OptionSpec; 15] = [
    OptionSpec {
        name: "scheduler",
        kind: OptionKind::Text,
        default: "127.0.0.1:50060",
        at_start: true,
        doc: "The cluster address of the scheduler",
    },
    OptionSpec {
        name: "host",
        kind: OptionKind::Text,
        default: "127.0.0.1",
        at_start: true,
        doc: "The address to listen on; the scheduler and other executors connect to it",
    },
    OptionSpec {
        name: "advertise",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "The host name that others use to reach this executor, if it is not the one it listens on",
    },
    OptionSpec {
        name: "port",
        kind: OptionKind::Count(0, 65_535),
        default: "0",
        at_start: true,
        doc: "The port for data; 0 takes a free one",
    },
    OptionSpec {
        name: "grpc_port",
        kind: OptionKind::Count(0, 65_535),
        default: "0",
        at_start: true,
        doc: "The port for tasks; 0 takes a free one",
    },
    OptionSpec {
        name: "results",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "An address at which clients fetch large results from this executor, with tickets that the scheduler \
              signs; without it results come through the scheduler",
    },
    OptionSpec {
        name: "results_advertise",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "The host name by which clients reach --results, if it is not the one it listens on",
    },
    OptionSpec {
        name: "results_tls_cert",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "The certificate of --results, a PEM file; what clients fetch there is encrypted then",
    },
    OptionSpec {
        name: "results_tls_key",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "The key of that certificate, a PEM file",
    },
    OptionSpec {
        name: "cores",
        kind: OptionKind::Count(1, 1024),
        default: "",
        at_start: true,
        doc: "Tasks at a time, one for each core; all cores of the machine if it is not given",
    },
    OptionSpec {
        name: "work_dir",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "The folder for results between stages and for rows that do not fit into memory; \
              sinew-executor in the system's folder for temporary files if it is not given",
    },
    OptionSpec {
        name: "heartbeat",
        kind: OptionKind::Count(1, 60),
        default: "2",
        at_start: true,
        doc: "Seconds between two signs of life to the scheduler",
    },
    OptionSpec {
        name: "wait",
        kind: OptionKind::Count(0, 86_400),
        default: "300",
        at_start: true,
        doc: "Seconds to wait for a scheduler that does not answer yet",
    },
    OptionSpec {
        name: "drain",
        kind: OptionKind::Count(0, 3600),
        default: "30",
        at_start: true,
        doc: "Seconds that running tasks are given when the executor is asked to stop",
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
