//! What the command line says.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use super::output::Format;
use crate::config::{OPTIONS, OptionSpec, SessionOptions};
use crate::error::SinewError;

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Read statements from a person, or from a pipe.
    Shell,
    /// Run this text.
    Text(String),
    /// Run this file; `-` is standard input.
    File(String),
    /// Show what sinew does.
    Demo,
    /// Serve Flight SQL.
    Serve {
        /// Host and port.
        address: String,
        /// Whether other machines may reach it.
        anyone: bool,
        /// How long statements may go on after a signal.
        drain: Duration,
    },
}

/// The command line.
#[derive(Debug)]
pub struct Settings {
    /// What to do.
    pub action: Action,
    /// How results are written.
    pub format: Format,
    /// Whether only results are written.
    pub quiet: bool,
    /// How the session is opened.
    pub options: SessionOptions,
    /// The server that runs statements; `None` means this process.
    pub connect: Option<String>,
}

/// Where `sinew serve` listens if it is not told.
const LISTEN: &str = "127.0.0.1:50051";

const ABOUT: &str = "SQL and machine learning in one dataflow engine";
const EXAMPLES: &str = "\
Examples:
  sinew                                              a shell; \\? in it shows help
  sinew -c \"SELECT * FROM 'data/*.parquet' LIMIT 5\"   run statements and leave
  sinew -f report.sql --format csv > report.csv      run a file
  sinew demo                                         train and score on data that comes with sinew
  sinew serve                                        serve this engine to other programs
  sinew --connect grpc://127.0.0.1:50051             a shell whose statements run there

Exit codes: 0 all statements ran, 1 a statement failed, 2 the command line is wrong.";

/// The options that have flags, with the flags' names.
fn flags() -> impl Iterator<Item = (&'static OptionSpec, &'static str)> {
    static NAMES: LazyLock<Vec<String>> =
        LazyLock::new(|| OPTIONS.iter().map(|spec| spec.flag().trim_start_matches("--").to_string()).collect());
    OPTIONS.iter().zip(NAMES.iter().map(String::as_str)).filter(|(spec, _)| spec.has_flag())
}

fn command() -> Command {
    let global = |arg: Arg| arg.global(true);
    let mut command = Command::new("sinew")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .about(ABOUT)
        .after_help(EXAMPLES)
        .arg(Arg::new("version").short('V').long("version").action(ArgAction::Version).help("Print the version"))
        .arg(Arg::new("command").short('c').long("command").value_name("SQL").help("Run these statements and leave"))
        .arg(
            Arg::new("file")
                .short('f')
                .long("file")
                .value_name("FILE")
                .conflicts_with("command")
                .help("Run the statements of a file and leave; - is standard input"),
        )
        .arg(global(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(Format::NAMES)
                .default_value("table")
                .help("How results are written"),
        ))
        .arg(global(
            Arg::new("quiet")
                .short('q')
                .long("quiet")
                .action(ArgAction::SetTrue)
                .help("Results only: no progress, notes or timing"),
        ))
        .arg(
            Arg::new("connect")
                .long("connect")
                .value_name("URL")
                .help("Run statements on a server, such as grpc://127.0.0.1:50051"),
        )
        .subcommand(
            Command::new("demo").about("Train and score on data that comes with sinew, and show what to try next"),
        )
        .subcommand(
            Command::new("serve")
                .about("Serve Flight SQL, for sinew --connect and other clients")
                .arg(
                    Arg::new("listen")
                        .long("listen")
                        .value_name("ADDRESS")
                        .default_value(LISTEN)
                        .help("Address and port to listen at; port 0 is any that is free"),
                )
                .arg(
                    Arg::new("insecure-listen")
                        .long("insecure-listen")
                        .action(ArgAction::SetTrue)
                        .help("Allow an address that other machines reach, although nobody has to log in"),
                )
                .arg(
                    Arg::new("drain")
                        .long("drain")
                        .value_name("SECONDS")
                        .value_parser(clap::value_parser!(u64).range(0..=86_400))
                        .default_value("10")
                        .help("How long statements may go on after SIGTERM or Ctrl-C, before they are cancelled"),
                ),
        );
    for (spec, flag) in flags() {
        command = command.arg(global(Arg::new(spec.name).long(flag).value_name("VALUE").help(spec.doc)));
    }
    command
}

/// Reads the command line; `Err` is the exit code where that ends the program.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Settings, ExitCode> {
    let matches = command().try_get_matches_from(arguments).map_err(|error| {
        let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
        let _ = error.print();
        if asked { ExitCode::SUCCESS } else { ExitCode::from(super::USAGE) }
    })?;
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let refuse = |error: SinewError| super::complain(&error, super::USAGE);
    let action = match (matches.subcommand(), text("command"), text("file")) {
        (Some(("serve", serve)), ..) => Action::Serve {
            address: serve.get_one::<String>("listen").cloned().unwrap_or_else(|| LISTEN.into()),
            anyone: serve.get_flag("insecure-listen"),
            drain: Duration::from_secs(serve.get_one::<u64>("drain").copied().unwrap_or_default()),
        },
        (Some(_), ..) => Action::Demo,
        (None, Some(text), _) => Action::Text(text),
        (None, _, Some(file)) => Action::File(file),
        _ => Action::Shell,
    };
    let connect = text("connect");
    let elsewhere = |spec: &OptionSpec, value: &str| SinewError::Config {
        name: spec.flag(),
        value: value.into(),
        expected: "with --connect the server's own options hold; give it where the server starts".into(),
    };
    if let (Some(url), Action::Serve { .. } | Action::Demo) = (&connect, &action) {
        let expected = "it goes with -c, -f or the shell".into();
        return Err(refuse(SinewError::Config { name: "--connect".into(), value: url.clone(), expected }));
    }
    let mut options = SessionOptions::from_env().map_err(refuse)?;
    for (spec, _) in flags() {
        if let Some(value) = text(spec.name) {
            if connect.is_some() {
                return Err(refuse(elsewhere(spec, &value)));
            }
            options.set(spec.name, &spec.flag(), &value).map_err(refuse)?;
        }
    }
    let format = text("format").and_then(|name| Format::named(&name)).unwrap_or_default();
    Ok(Settings { action, format, quiet: matches.get_flag("quiet"), options, connect })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Settings, ExitCode> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn flags_become_options() {
        let settings = parsed("sinew --threads 3 --memory-limit 2GB -c SELECT --format csv -q");
        let settings = settings.ok().filter(|s| matches!(&s.action, Action::Text(t) if t == "SELECT") && s.quiet);
        let options = settings.map(|s| (s.options.threads(), s.options.memory_limit(), s.format));
        assert_eq!(options, Some((3, 2 << 30, Format::Csv)));
        assert!(parsed("sinew --threads none").is_err());
        assert!(parsed("sinew --nonsense").is_err());
    }
}
