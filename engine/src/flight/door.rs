//! The door of a server: the options that say who may come in, for `sinew serve` and for a cluster's scheduler.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::auth::audit::Audit;
use super::auth::{Guard, GuardOptions};
use super::tls::{Tls, state_folder};
use crate::config::{OptionKind, OptionSpec, SessionOptions};
use crate::error::{Result, SinewError};
use crate::storage::Roots;

/// The only value of `--tls`.
const SELF_SIGNED: &str = "self-signed";

/// The options of a door.
pub const DOOR: [OptionSpec; 9] = [
    text("users", "A file of users and their roles; 'sinew user add' makes its lines. Who connects has to log in then"),
    text("tokens", "A file of tokens and their roles; 'sinew token new' makes its lines"),
    OptionSpec {
        name: "token_hours",
        kind: OptionKind::Count(1, 8_760),
        default: "12",
        at_start: true,
        doc: "Hours that the token of a login is worth something",
    },
    OptionSpec {
        name: "token_renewal",
        kind: OptionKind::Switch,
        default: "true",
        at_start: true,
        doc: "Whether the hours of a token begin anew each time it is used",
    },
    text("tls", "self-signed: encrypt, with a certificate that the server makes for itself"),
    text("tls_cert", "The server's certificate, a PEM file; connections are encrypted then"),
    text("tls_key", "The key of that certificate, a PEM file"),
    text("tls_client_ca", "An authority, a PEM file: only clients connect whose certificate it has signed"),
    text("audit", "A file to which a line of JSON is added for each statement and each login"),
];

const fn text(name: &'static str, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind: OptionKind::Text, default: "", at_start: true, doc }
}

/// Who may come in, and how connections are protected.
#[derive(Debug)]
pub struct Door {
    /// Finds out who makes a call.
    pub guard: Arc<Guard>,
    /// The server's certificate; `None` means without encryption.
    pub tls: Option<Tls>,
    /// The files that make up the door, which no statement may touch.
    files: Vec<PathBuf>,
}

impl Door {
    /// The door that options describe: `get` gives the value of an option of [`DOOR`] by name. Statements are
    /// written to the log where no audit is named and `log` says so.
    ///
    /// # Errors
    /// When an option contradicts another, or a file cannot be used.
    pub fn open<'a>(get: impl Fn(&str) -> Option<&'a str>, log: bool) -> Result<Self> {
        let path = |name: &str| get(name).map(PathBuf::from);
        let wrong = |name: &str, value: &str, expected: &str| SinewError::Config {
            name: format!("--{name}"),
            value: value.into(),
            expected: expected.into(),
        };
        let (certificate, key, authority) = (path("tls_cert"), path("tls_key"), path("tls_client_ca"));
        let tls = match (get("tls"), &certificate, &key) {
            (Some(SELF_SIGNED), None, None) => Some(Tls::self_signed(authority.as_deref())?),
            (Some(SELF_SIGNED), ..) => {
                return Err(wrong("tls", SELF_SIGNED, "it goes without --tls-cert and --tls-key"));
            }
            (Some(other), ..) => {
                return Err(wrong("tls", other, "write self-signed, or give --tls-cert and --tls-key"));
            }
            (None, Some(certificate), Some(key)) => Some(Tls::from_files(certificate, key, authority.as_deref())?),
            (None, Some(path), None) => {
                return Err(wrong("tls-cert", &path.display().to_string(), "it goes with --tls-key"));
            }
            (None, None, Some(path)) => {
                return Err(wrong("tls-key", &path.display().to_string(), "it goes with --tls-cert"));
            }
            (None, None, None) => match &authority {
                Some(path) => {
                    let expected = "it goes with --tls-cert and --tls-key, or with --tls self-signed";
                    return Err(wrong("tls-client-ca", &path.display().to_string(), expected));
                }
                None => None,
            },
        };
        let (users, tokens, audit) = (path("users"), path("tokens"), path("audit"));
        let written = match &audit {
            Some(path) => Audit::file(path)?,
            None if log => Audit::log(),
            None => Audit::default(),
        };
        let hours = get("token_hours").and_then(|text| text.parse().ok()).unwrap_or(12);
        let guard = Guard::new(GuardOptions {
            users: users.clone(),
            tokens: tokens.clone(),
            token_life: Duration::from_secs(hours * 3600),
            token_renewal: get("token_renewal") != Some("false"),
            certificates: tls.as_ref().is_some_and(Tls::asks_for_certificates),
            audit: written,
        })?;
        let own = get("tls").and_then(|_| state_folder());
        let files = [users, tokens, audit, certificate, key, authority, own].into_iter().flatten().collect();
        Ok(Self { guard: Arc::new(guard), tls, files })
    }

    /// Whether a client has to prove who it is.
    pub fn is_guarded(&self) -> bool {
        self.guard.asks() || self.tls.as_ref().is_some_and(Tls::asks_for_certificates)
    }

    /// How an address begins.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "grpcs" } else { "grpc" }
    }

    /// The options of the sessions behind this door, which may not touch everything: where no option says what,
    /// it is the warehouse and, if nobody has to log in, the folder that the server was started in. Never the files
    /// of the door itself.
    ///
    /// # Errors
    /// When a root is none.
    pub fn confine(&self, mut options: SessionOptions) -> Result<SessionOptions> {
        let here = std::env::current_dir().ok().filter(|here| here.as_path() != Path::new("/"));
        let mut roots = match (options.roots(), here) {
            (Some(roots), _) => roots.to_string(),
            (None, Some(here)) if !self.is_guarded() => {
                Roots::parse("warehouse", &here.display().to_string())?.to_string()
            }
            (None, _) => "warehouse".into(),
        };
        let account = options.get("gcs_service_account").map(PathBuf::from);
        let account = account.or_else(|| std::env::var_os("GOOGLE_APPLICATION_CREDENTIALS").map(PathBuf::from));
        for file in self.files.iter().chain(&account) {
            // Written as lists are: a comma in a name does not end it.
            roots += &format!(",!{}", Roots::parse("warehouse", &file.display().to_string())?);
        }
        options.set("roots", "--roots", &Roots::parse(&roots, options.warehouse())?.to_string())?;
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(given: &[(&str, &str)]) -> String {
        let get = |name: &str| given.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        Door::open(get, false).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        for (given, word) in [
            (&[("tls_cert", "c.pem")][..], "--tls-key"),
            (&[("tls_key", "k.pem")], "--tls-cert"),
            (&[("tls_client_ca", "a.pem")], "--tls-cert"),
            (&[("tls", "yes")], "self-signed"),
            (&[("tls", "self-signed"), ("tls_cert", "c.pem")], "without"),
            (&[("users", "/nowhere/users")], "/nowhere/users"),
        ] {
            let text = refused(given);
            assert!(text.contains(word), "{given:?}: {text}");
        }
        assert_eq!(refused(&[]), "");
    }

    #[test]
    fn the_files_of_the_door_are_out_of_reach() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let users = place.path().join("users, all");
        std::fs::write(&users, "# nobody\n")?;
        let text = users.display().to_string();
        let door = Door::open(|name| (name == "users").then_some(text.as_str()), false)?;
        let mut options = SessionOptions::in_memory();
        assert_eq!(door.confine(options.clone())?.roots().map(|roots| roots.split(',').count()), Some(2));
        options.set("roots", "roots", &place.path().display().to_string())?;
        let roots = Roots::of(&door.confine(options)?)?;
        assert!(roots.admit_path(&place.path().join("data.csv")).is_ok() && roots.admit_path(&users).is_err());
        Ok(())
    }
}
