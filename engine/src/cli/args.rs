//! What the command line says.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

use super::output::Format;
use crate::config::{OPTIONS, OptionSpec, SessionOptions};
use crate::error::SinewError;
use crate::flight::auth::roles::Roles;
use crate::flight::{ConnectOptions, DOOR};

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
    Serve(Serve),
    /// Make a line of a file of users.
    AddUser(Account),
    /// Make a token, and a line of a file of tokens.
    NewToken(Account),
}

/// How to serve.
#[derive(Debug)]
pub struct Serve {
    /// Host and port.
    pub address: String,
    /// Whether other machines may reach it without encryption.
    pub unencrypted: bool,
    /// How long statements may go on after a signal.
    pub drain: Duration,
    /// Who may come in: options of [`DOOR`] by name.
    pub door: BTreeMap<&'static str, String>,
}

/// A user, or the owner of a token.
#[derive(Debug)]
pub struct Account {
    /// The name.
    pub name: String,
    /// What this user may do.
    pub roles: Roles,
    /// The file that gets the line; `None` means standard output.
    pub file: Option<PathBuf>,
    /// Days after which a token is worth nothing.
    pub days: Option<u64>,
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
    /// Who asks there, and whom to trust.
    pub login: ConnectOptions,
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
  sinew user add ann --roles read,train --users users   a user of sinew serve --users users
  sinew --connect grpc://127.0.0.1:50051             a shell whose statements run there

Exit codes: 0 all statements ran, 1 a statement failed, 2 the command line is wrong.";

/// The options that have flags, with the flags' names.
fn flags() -> impl Iterator<Item = (&'static OptionSpec, &'static str)> {
    static NAMES: LazyLock<Vec<String>> =
        LazyLock::new(|| OPTIONS.iter().map(|spec| spec.flag().trim_start_matches("--").to_string()).collect());
    OPTIONS.iter().zip(NAMES.iter().map(String::as_str)).filter(|(spec, _)| spec.has_flag())
}

/// The options of a door, with the names of their flags.
fn door_flags() -> impl Iterator<Item = (&'static OptionSpec, &'static str)> {
    static SPECS: [OptionSpec; DOOR.len()] = DOOR;
    static NAMES: LazyLock<Vec<String>> =
        LazyLock::new(|| SPECS.iter().map(|spec| spec.name.replace('_', "-")).collect());
    SPECS.iter().zip(NAMES.iter().map(String::as_str))
}

/// Flags of a connection: name, what stands for its value, and help.
const LOGIN: [(&str, &str, &str); 5] = [
    ("user", "NAME", "Log in with --connect as this user; the password is in SINEW_PASSWORD, or asked for"),
    ("token", "TOKEN", "Log in with --connect by a token; SINEW_TOKEN does not show it to others on this machine"),
    ("tls-ca", "FILE", "The authority, or the certificate, that a server at grpcs:// is trusted by"),
    ("tls-client-cert", "FILE", "A certificate for servers that ask for one"),
    ("tls-client-key", "FILE", "The key of that certificate"),
];

/// A subcommand that makes a line of a file.
fn account(command: Command) -> Command {
    command.subcommand_required(true).arg_required_else_help(true)
}

fn roles() -> Arg {
    Arg::new("roles")
        .long("roles")
        .value_name("ROLES")
        .default_value("read")
        .value_parser(Roles::parse)
        .help("What the user may do: read, write, train, admin, with commas between")
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
                        .help("Allow an address that other machines reach, although connections are not encrypted"),
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
    command = command
        .subcommand(
            account(Command::new("user").about("Make a line of the file that serve --users reads")).subcommand(
                Command::new("add")
                    .about("A user; the password is asked for, or read from standard input")
                    .arg(Arg::new("name").value_name("NAME").required(true).help("The user's name"))
                    .arg(roles())
                    .arg(file(
                        "users",
                        "Add the line to this file, in place of one of the same name; else it is printed",
                    )),
            ),
        )
        .subcommand(
            account(Command::new("token").about("Make a line of the file that serve --tokens reads")).subcommand(
                Command::new("new")
                    .about("A token, which is printed once, and the line for it")
                    .arg(Arg::new("name").long("for").value_name("NAME").required(true).help("Whose it is"))
                    .arg(roles())
                    .arg(
                        Arg::new("days")
                            .long("days")
                            .value_name("DAYS")
                            .value_parser(clap::value_parser!(u64).range(1..=36_500))
                            .help("Days that it is worth something; without it there is no end"),
                    )
                    .arg(file("tokens", "Add the line to this file; else it is printed")),
            ),
        );
    for (name, value, help) in LOGIN {
        command = command.arg(Arg::new(name).long(name).value_name(value).help(help));
    }
    command = command.arg(
        Arg::new("allow-plaintext")
            .long("allow-plaintext")
            .action(ArgAction::SetTrue)
            .help("Allow a password or token to another machine without encryption"),
    );
    command = command.mut_subcommand("serve", |serve| {
        door_flags().fold(serve, |serve, (spec, flag)| {
            let default = if spec.default.is_empty() { String::new() } else { format!(" [default: {}]", spec.default) };
            serve.arg(Arg::new(spec.name).long(flag).value_name("VALUE").help(format!("{}{default}", spec.doc)))
        })
    });
    for (spec, flag) in flags() {
        command = command.arg(global(Arg::new(spec.name).long(flag).value_name("VALUE").help(spec.doc)));
    }
    command
}

fn file(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("FILE").help(help)
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
        (Some(("serve", serve)), ..) => {
            let mut door = BTreeMap::new();
            for (spec, _) in door_flags() {
                if let Some(value) = serve.get_one::<String>(spec.name) {
                    door.insert(spec.name, spec.check(&spec.flag(), value).map_err(refuse)?);
                }
            }
            Action::Serve(Serve {
                address: serve.get_one::<String>("listen").cloned().unwrap_or_else(|| LISTEN.into()),
                unencrypted: serve.get_flag("insecure-listen"),
                drain: Duration::from_secs(serve.get_one::<u64>("drain").copied().unwrap_or_default()),
                door,
            })
        }
        (Some((kind @ ("user" | "token"), made)), ..) => {
            let made = made.subcommand().map_or(made, |(_, made)| made);
            let text = |name: &str| made.try_get_one::<String>(name).ok().flatten().cloned();
            let account = Account {
                name: text("name").unwrap_or_default(),
                roles: made.get_one::<Roles>("roles").copied().unwrap_or_default(),
                file: text("users").or_else(|| text("tokens")).map(PathBuf::from),
                days: made.try_get_one::<u64>("days").ok().flatten().copied(),
            };
            if kind == "user" { Action::AddUser(account) } else { Action::NewToken(account) }
        }
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
    if let (Some(url), Action::Serve(_) | Action::Demo | Action::AddUser(_) | Action::NewToken(_)) = (&connect, &action)
    {
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
    let login = login(&matches, connect.is_some()).map_err(refuse)?;
    Ok(Settings { action, format, quiet: matches.get_flag("quiet"), options, connect, login })
}

/// What the command line and the environment say about a connection.
fn login(matches: &clap::ArgMatches, connects: bool) -> Result<ConnectOptions, SinewError> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let secret = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let wrong = |name: &str, expected: &str| SinewError::Config {
        name: format!("--{name}"),
        value: if name == "token" { "***".into() } else { text(name).unwrap_or_default() },
        expected: expected.into(),
    };
    if let Some((name, ..)) = LOGIN.iter().find(|(name, ..)| !connects && text(name).is_some()) {
        return Err(wrong(name, "it goes with --connect"));
    }
    let client = match (text("tls-client-cert"), text("tls-client-key")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        (Some(_), None) => return Err(wrong("tls-client-cert", "it goes with --tls-client-key")),
        (None, Some(_)) => return Err(wrong("tls-client-key", "it goes with --tls-client-cert")),
    };
    let user = text("user");
    Ok(ConnectOptions {
        // A user who is named on the command line is meant, whatever the environment says.
        token: text("token").or_else(|| secret("SINEW_TOKEN").filter(|_| user.is_none())),
        password: secret("SINEW_PASSWORD").filter(|_| user.is_some()),
        user,
        tls_ca: text("tls-ca").map(PathBuf::from),
        tls_client: client,
        allow_plaintext: matches.get_flag("allow-plaintext"),
    })
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
