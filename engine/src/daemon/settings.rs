//! Options of a daemon: flags, environment and a file, in one scheme.
//!
//! An option `work_dir` of `sinew-executor` is the flag `--work-dir`, the variable `SINEW_EXECUTOR_WORK_DIR`
//! and the line `work_dir = /data` of the file that `--config` names; a flag wins over the environment, the
//! environment over the file. The options of a session (`sinew --help`) are options of a daemon too, with the
//! names they have there.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use crate::config::{OPTIONS, OptionKind, OptionSpec, SessionOptions};
use crate::error::{Result, SinewError};

/// The command line is wrong.
const USAGE: u8 = 2;

/// A daemon: its name, and the options it has beside those of a session.
#[derive(Clone, Copy, Debug)]
pub struct DaemonSpec {
    /// The command, such as `sinew-executor`.
    pub name: &'static str,
    /// One line for `--help`.
    pub about: &'static str,
    /// Before the names of its variables: `SINEW_EXECUTOR_`.
    pub prefix: &'static str,
    /// Its own options.
    pub options: &'static [OptionSpec],
}

/// The options of a daemon as given.
#[derive(Clone, Debug)]
pub struct Settings {
    spec: DaemonSpec,
    values: BTreeMap<&'static str, String>,
    /// The options of its sessions.
    pub session: SessionOptions,
}

/// The options of two tables, in one.
pub const fn joined<const A: usize, const B: usize, const C: usize>(
    first: [OptionSpec; A],
    second: [OptionSpec; B],
) -> [OptionSpec; C] {
    let mut all = [first[0]; C];
    let mut at = 0;
    while at < C {
        all[at] = if at < A { first[at] } else { second[at - A] };
        at += 1;
    }
    all
}

impl DaemonSpec {
    fn env(&self, option: &OptionSpec) -> String {
        format!("{}{}", self.prefix, option.name.to_uppercase())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.name)
            .version(env!("CARGO_PKG_VERSION"))
            .disable_version_flag(true)
            .about(self.about)
            .after_help(
                "Every option is a variable too, and a line of the file that --config names; see docs/cluster.md.",
            )
            .arg(Arg::new("version").short('V').long("version").action(ArgAction::Version).help("Print the version"))
            .arg(
                Arg::new("config").long("config").value_name("FILE").help("A file with lines such as work_dir = /data"),
            );
        for option in self.options {
            let default =
                if option.default.is_empty() { String::new() } else { format!(" [default: {}]", option.default) };
            command = command.arg(
                Arg::new(option.name)
                    .long(flag_of(option.name))
                    .value_name("VALUE")
                    .help(format!("{}{default}", option.doc)),
            );
        }
        for option in self.flags() {
            let arg = Arg::new(option.name).long(flag_of(option.name));
            command = command.arg(arg.value_name("VALUE").help(option.doc));
        }
        command
    }

    /// Options of sessions that have a flag: secrets have none, because others can read command lines.
    fn flags(&self) -> impl Iterator<Item = &'static OptionSpec> {
        let secret = |option: &&OptionSpec| option.kind == OptionKind::Secret;
        OPTIONS.iter().filter(move |option| self.own(option.name).is_none() && !secret(option))
    }

    fn own(&self, name: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|option| option.name == name)
    }

    /// Reads the command line; `Err` is the exit code where that ends the program.
    ///
    /// # Errors
    /// When help was asked for, or something is wrong; it has been printed then.
    pub fn parse(&self, arguments: impl IntoIterator<Item = OsString>) -> Result<Settings, ExitCode> {
        let matches = self.command().try_get_matches_from(arguments).map_err(|error| {
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = error.print();
            if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
        })?;
        let flag = |name: &str| matches.get_one::<String>(name).cloned();
        self.settle(flag("config"), flag).map_err(|error| {
            eprintln!("{}: {error}", self.name);
            ExitCode::from(USAGE)
        })
    }

    fn settle(&self, file: Option<String>, flag: impl Fn(&str) -> Option<String>) -> Result<Settings> {
        let mut settings = Settings { spec: *self, values: BTreeMap::new(), session: SessionOptions::from_env()? };
        let lines = file.map(|path| read_file(&path)).transpose()?.unwrap_or_default();
        for (name, value, written) in &lines {
            match self.own(name) {
                Some(option) => settings.put(option, written, value)?,
                None if OPTIONS.iter().all(|option| option.name != name) => {
                    let names = self.options.iter().chain(&OPTIONS).map(|option| option.name);
                    return Err(SinewError::Config {
                        name: written.clone(),
                        value: name.clone(),
                        expected: format!(
                            "there is no such option; the options are {}",
                            names.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
                        ),
                    });
                }
                // The environment, which is read already, wins over the file.
                None if std::env::var_os(format!("SINEW_{}", name.to_uppercase())).is_some() => {}
                None => settings.session.set(name, written, value)?,
            }
        }
        for option in self.options {
            let variable = self.env(option);
            if let Ok(value) = std::env::var(&variable) {
                settings.put(option, &variable, &value)?;
            }
            if let Some(value) = flag(option.name) {
                settings.put(option, &option.flag(), &value)?;
            }
        }
        for option in self.flags() {
            if let Some(value) = flag(option.name) {
                settings.session.set(option.name, &option.flag(), &value)?;
            }
        }
        Ok(settings)
    }
}

impl Settings {
    fn put(&mut self, option: &'static OptionSpec, written: &str, value: &str) -> Result<()> {
        self.values.insert(option.name, option.check(written, value)?);
        Ok(())
    }

    /// An option's value, or its default; `None` where it has neither.
    pub fn text(&self, name: &str) -> Option<&str> {
        let default = || self.spec.own(name).map(|option| option.default).filter(|value| !value.is_empty());
        self.values.get(name).map(String::as_str).or_else(default)
    }

    /// A count or a size; `otherwise` where it was not given and has no default.
    pub fn number(&self, name: &str, otherwise: u64) -> u64 {
        self.text(name).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    }

    /// An address, as in `127.0.0.1:50060`.
    ///
    /// # Errors
    /// When it is no address with a port.
    pub fn address(&self, name: &str) -> Result<(String, u16)> {
        let value = self.text(name).unwrap_or_default();
        let bare = value.trim_start_matches("grpc://").trim_start_matches("http://");
        let parts = bare.rsplit_once(':').map(|(host, port)| (host.trim_matches(['[', ']']), port.parse::<u16>()));
        match parts {
            Some((host, Ok(port))) if !host.is_empty() => Ok((host.to_string(), port)),
            _ => Err(SinewError::Config {
                name: format!("--{}", name.replace('_', "-")),
                value: value.into(),
                expected: "write a host and a port, as in 127.0.0.1:50060".into(),
            }),
        }
    }
}

/// `--work-dir` without its dashes. The command line wants names that live as long as the program.
fn flag_of(name: &'static str) -> &'static str {
    match name.contains('_') {
        false => name,
        true => Box::leak(name.replace('_', "-").into_boxed_str()),
    }
}

/// The lines `name = value` of a file, each with how it is called in messages.
fn read_file(path: &str) -> Result<Vec<(String, String, String)>> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SinewError::Io { what: format!("reading the configuration '{path}'"), source })?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split_once('#').map_or(line, |(before, _)| before).trim();
        if line.is_empty() {
            continue;
        }
        let written = format!("line {number} of {path}");
        let Some((name, value)) = line.split_once('=') else {
            return Err(SinewError::Config {
                name: written,
                value: line.into(),
                expected: "write name = value".into(),
            });
        };
        lines.push((name.trim().replace('-', "_"), value.trim().trim_matches('"').to_string(), written));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    static OWN: [OptionSpec; 2] = [
        OptionSpec { name: "listen", kind: OptionKind::Text, default: "127.0.0.1:1", at_start: true, doc: "Where." },
        OptionSpec { name: "cores", kind: OptionKind::Count(1, 9), default: "", at_start: true, doc: "How many." },
    ];
    const DAEMON: DaemonSpec =
        DaemonSpec { name: "sinew-test", about: "A test", prefix: "SINEW_TEST_DAEMON_", options: &OWN };

    #[test]
    fn a_flag_wins_over_a_file() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("sinew-settings-{}", std::process::id()));
        std::fs::write(&folder, "# a cluster\ncores = 3\nlisten = \"h:7\"\nmemory_limit = 1GB\n").ok();
        let file = Some(folder.display().to_string());
        let settings = DAEMON.settle(file.clone(), |name| (name == "cores").then(|| "4".into()))?;
        assert_eq!(settings.number("cores", 1), 4);
        assert_eq!(settings.address("listen")?, ("h".to_string(), 7));
        assert_eq!(settings.session.memory_limit(), 1 << 30);
        std::fs::write(&folder, "coers = 3\n").ok();
        let wrong = DAEMON.settle(file, |_| None).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(wrong.contains("coers"), "{wrong}");
        std::fs::remove_file(&folder).ok();
        Ok(())
    }

    #[test]
    fn defaults_and_wrong_addresses() -> Result<()> {
        let settings = DAEMON.settle(None, |_| None)?;
        assert_eq!(settings.address("listen")?, ("127.0.0.1".to_string(), 1));
        let wrong = DAEMON.settle(None, |name| (name == "listen").then(|| "50060".into()))?;
        let text = wrong.address("listen").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("--listen") && text.contains("127.0.0.1:50060"), "{text}");
        DAEMON.command().debug_assert();
        let secret = DAEMON.command().try_get_matches_from(["sinew-test", "--azure-key", "x"]);
        assert!(secret.is_err_and(|error| error.kind() == ErrorKind::UnknownArgument));
        Ok(())
    }
}
