//! `sinew user add`, `sinew token new`, and asking for passwords.

use std::fs::OpenOptions;
use std::io::{BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::args::Account;
use super::run::Outcome;
use crate::error::{Result, SinewError};
use crate::flight::auth::{tokens, users};

/// Prints a line for the file of users, or puts it there.
///
/// # Errors
/// When the name or password cannot be one, or the file cannot be written.
pub fn add_user(account: &Account) -> Result<Outcome> {
    // Before somebody types a password for nothing.
    users::check_name(&account.name).map_err(|reason| SinewError::Accounts { place: "NAME".into(), reason })?;
    let password = new_password(&account.name)?;
    put(account.file.as_deref(), &users::line(&account.name, account.roles, &password)?, Some(&account.name))?;
    Ok(Outcome::Done)
}

/// Prints a token, and its line for the file of tokens, or puts that there.
///
/// # Errors
/// As for [`add_user`].
pub fn new_token(account: &Account) -> Result<Outcome> {
    users::check_name(&account.name).map_err(|reason| SinewError::Accounts { place: "--for".into(), reason })?;
    let (token, digest) = tokens::new()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let end = account.days.map(|days| format!(":{}", now + days * 86_400)).unwrap_or_default();
    let line = format!("{}:{}:{digest}{end}", account.name, account.roles);
    put(account.file.as_deref(), &line, None)?;
    match &account.file {
        Some(_) => println!("{token}"),
        None => eprintln!("the token, which is shown only now: {token}"),
    }
    Ok(Outcome::Done)
}

/// The password of a user for a server.
///
/// # Errors
/// When there is no terminal to ask on.
pub fn password_of(user: &str, url: &str) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(SinewError::Config {
            name: "--user".into(),
            value: user.into(),
            expected: "without a terminal the password is taken from SINEW_PASSWORD".into(),
        });
    }
    hidden(&format!("password of {user} at {url}: "))
}

fn new_password(name: &str) -> Result<String> {
    if std::io::stdin().is_terminal() {
        let first = hidden(&format!("password for {name}: "))?;
        if hidden("the same again: ")? != first {
            let reason = "the two are not the same; try again".into();
            return Err(SinewError::Accounts { place: "the password".into(), reason });
        }
        return Ok(first);
    }
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    read.map_err(|source| SinewError::Io { what: "reading the password from standard input".into(), source })?;
    Ok(line.trim_end_matches(['\n', '\r']).into())
}

/// A line from the terminal, which does not show it meanwhile.
fn hidden(prompt: &str) -> Result<String> {
    let failed = |source| SinewError::Io { what: "asking for a password".into(), source };
    eprint!("{prompt}");
    std::io::stderr().flush().map_err(failed)?;
    let echo = Echo::off();
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    drop(echo);
    eprintln!();
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\n', '\r']).into())
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Echo;

impl Echo {
    fn off() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        stty("echo");
    }
}

/// Sets the terminal that is our standard input; where that cannot be done, what is typed is seen.
fn stty(mode: &str) {
    let done = std::process::Command::new("stty").arg(mode).stderr(std::process::Stdio::null()).status();
    if !done.is_ok_and(|status| status.success()) && mode == "-echo" {
        eprintln!("(what you type can be seen)");
    }
}

/// Prints a line, or writes it to a file that only its owner can read: in place of the line of `name`, or at the end.
fn put(file: Option<&Path>, line: &str, name: Option<&str>) -> Result<()> {
    let Some(path) = file else {
        println!("{line}");
        return Ok(());
    };
    let failed = |source| SinewError::Io { what: format!("writing '{}'", path.display()), source };
    let there = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let mine = |other: &&str| name.is_none_or(|name| other.trim().split(':').next() != Some(name));
    let mut text: String = there.lines().filter(mine).map(|other| format!("{other}\n")).collect();
    text += &format!("{line}\n");
    let mut part = path.as_os_str().to_os_string();
    part.push(format!(".{}", std::process::id()));
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| std::fs::rename(&part, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_the_place_of_that_of_the_same_name() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let path = place.path().join("users");
        for (line, name) in [("ann:read:1", "ann"), ("annie:read:2", "annie"), ("ann:write:3", "ann")] {
            put(Some(&path), line, Some(name))?;
        }
        assert_eq!(std::fs::read_to_string(&path)?, "annie:read:2\nann:write:3\n");
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&path.metadata()?.permissions()) & 0o777, 0o600);
        Ok(())
    }
}
