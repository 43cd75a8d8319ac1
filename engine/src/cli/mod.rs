//! The `sinew` command line. `main` only calls [`main`]; each part here has one concern.

mod accounts;
mod args;
mod complete;
mod demo;
mod output;
mod progress;
mod run;
mod serve;
mod shell;
mod signals;

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use args::{Action, Settings};
use run::Outcome;

use crate::error::{Result, SinewError};
use crate::session::Session;

/// A statement failed.
const FAILED: u8 = 1;
/// The command line itself is wrong.
const USAGE: u8 = 2;

/// Reads the command line and does what it says.
pub fn main() -> ExitCode {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        // A panic becomes the error of its statement, in one line.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let settings = match args::parse(std::env::args_os()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let script = match read_script(&settings.action) {
        Ok(script) => script,
        Err(error) => return complain(&error, FAILED),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(settings.options.threads())
        .thread_name("sinew")
        .thread_stack_size(crate::daemon::STACK)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(source) => return complain(&SinewError::Io { what: "starting threads".into(), source }, FAILED),
    };
    let outcome = act(&runtime, settings, script);
    // Reads that were cancelled may still hold a thread; the process does not wait for them.
    runtime.shutdown_background();
    match outcome {
        Ok(Outcome::Done | Outcome::Closed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(FAILED),
        Ok(Outcome::Signalled(code)) => ExitCode::from(code),
        Err(error @ (SinewError::Unreachable { .. } | SinewError::Listen { .. })) => complain(&error, FAILED),
        Err(error) => complain(&error, USAGE),
    }
}

fn act(runtime: &tokio::runtime::Runtime, settings: Settings, script: Option<String>) -> Result<Outcome> {
    match &settings.action {
        Action::Demo => return runtime.block_on(demo::run(&settings)),
        Action::Serve(serve) => return serve::run(runtime, serve, &settings),
        Action::AddUser(account) => return accounts::add_user(account),
        Action::NewToken(account) => return accounts::new_token(account),
        _ => {}
    }
    let session = match &settings.connect {
        Some(url) => {
            let mut login = settings.login.clone();
            if let Some(user) = &login.user
                && login.password.is_none()
                && login.token.is_none()
            {
                login.password = Some(accounts::password_of(user, url)?);
            }
            runtime.block_on(Session::connect_with(url, login))?
        }
        None => {
            let _inside = runtime.enter();
            Session::embedded(settings.options.clone())?
        }
    };
    match script {
        Some(script) => Ok(runtime.block_on(run::script(&session, &script, &settings))),
        None => shell::run(runtime, &session, settings),
    }
}

/// The script to run; `None` for the shell.
fn read_script(action: &Action) -> Result<Option<String>> {
    let file = match action {
        Action::Text(text) => return Ok(Some(text.clone())),
        Action::File(name) if name != "-" => name,
        Action::Shell if std::io::stdin().is_terminal() => return Ok(None),
        Action::Demo | Action::Serve(_) | Action::AddUser(_) | Action::NewToken(_) => return Ok(None),
        Action::File(_) | Action::Shell => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|source| SinewError::Io { what: "reading standard input".into(), source })?;
            return utf8("standard input", bytes).map(Some);
        }
    };
    let bytes = std::fs::read(file).map_err(|source| SinewError::Io { what: format!("reading '{file}'"), source })?;
    utf8(file, bytes).map(Some)
}

fn utf8(name: &str, bytes: Vec<u8>) -> Result<String> {
    let text = String::from_utf8(bytes).map_err(|e| SinewError::File {
        path: name.into(),
        reason: format!("byte {} is not UTF-8 text; save it as UTF-8", e.utf8_error().valid_up_to() + 1),
        source: None,
    })?;
    // Editors on Windows begin a file with a mark that is no part of the text.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn complain(error: &SinewError, code: u8) -> ExitCode {
    eprintln!("sinew: {error}");
    ExitCode::from(code)
}
