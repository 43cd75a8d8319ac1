//! Tokens: those of a file, which live until their day, and those given out at a login, which live for some hours.
//!
//! Only digests are kept. A token has 256 random bits, so its digest tells nothing about it, and looking a digest
//! up tells nothing either.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::roles::Roles;
use super::secret::{Fingerprint, from_hex, hex, random, same, sha256};
use super::users::{check_name, lines};
use crate::error::{Result, SinewError};

/// Tokens that one user may hold from logins; the one that was not used for longest makes room.
const MOST_OF_A_USER: usize = 100;
/// What every token begins with, so that scanners for secrets can find it.
const MARK: &str = "sinew_";
/// The longest token, in bytes.
const LONGEST: usize = 4_096;

/// A token of a file.
#[derive(Clone, Debug)]
pub struct Lasting {
    /// Whose it is.
    pub user: String,
    /// What it allows.
    pub roles: Roles,
    digest: Fingerprint,
    /// Seconds since 1970 after which it is worth nothing.
    until: Option<u64>,
}

/// The tokens of a file, by digest.
#[derive(Clone, Debug, Default)]
pub struct LastingTokens(HashMap<Fingerprint, Lasting>);

impl LastingTokens {
    /// The tokens of a file: `user:role,role:sha256[:seconds since 1970]` in each line.
    ///
    /// # Errors
    /// When it cannot be read, or a line is none; the text names the line.
    pub fn read(path: &Path) -> Result<Self> {
        let mut tokens = HashMap::new();
        for (place, line) in lines(path)? {
            let refuse = |reason: String| SinewError::Accounts { place: place.clone(), reason };
            let form =
                "write user:role,role:sha256 of the token, as 'sinew token new --for NAME --roles read' makes it";
            let parts: Vec<&str> = line.split(':').map(str::trim).collect();
            let [user, roles, digest, until @ ..] = parts.as_slice() else { return Err(refuse(form.into())) };
            check_name(user).map_err(refuse)?;
            let roles = Roles::parse(roles).map_err(refuse)?;
            let digest = from_hex(digest).ok_or_else(|| refuse(form.into()))?;
            let until = match until {
                [] => None,
                [seconds] => Some(seconds.parse().map_err(|_| refuse("its end is no number of seconds".into()))?),
                _ => return Err(refuse(form.into())),
            };
            tokens.insert(digest, Lasting { user: user.to_string(), roles, digest, until });
        }
        Ok(Self(tokens))
    }

    /// The token that a client has sent, while it is worth something.
    pub fn find(&self, token: &str) -> Option<&Lasting> {
        let digest = sha256(token.as_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let found = self.0.get(&digest).filter(|found| same(&found.digest, &digest));
        found.filter(|_| token.len() <= LONGEST).filter(|found| found.until.is_none_or(|until| now < until))
    }
}

/// A new token, and its digest as files have it.
///
/// # Errors
/// When the system gives no random numbers.
pub fn new() -> Result<(String, String)> {
    let token = format!("{MARK}{}", hex(&random::<32>()?));
    let digest = hex(&sha256(token.as_bytes()));
    Ok((token, digest))
}

/// A token given out at a login.
#[derive(Debug)]
struct Issued {
    user: String,
    until: Instant,
}

/// The tokens given out at logins.
#[derive(Debug)]
pub struct IssuedTokens {
    life: Duration,
    /// Whether each use begins the life anew.
    renewed: bool,
    all: Mutex<HashMap<Fingerprint, Issued>>,
}

impl IssuedTokens {
    /// None yet; each lives so long, after it was given out or after it was last used.
    pub fn new(life: Duration, renewed: bool) -> Self {
        Self { life, renewed, all: Mutex::default() }
    }

    /// A new token for a user.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn issue(&self, user: &str) -> Result<String> {
        let (token, _) = new()?;
        let mut all = self.all.lock();
        let own = all.iter().filter(|(_, issued)| issued.user == user);
        let (count, oldest) = own.fold((0, None::<(&Fingerprint, Instant)>), |(count, oldest), (digest, issued)| {
            let older = oldest.is_none_or(|(_, until)| issued.until < until);
            (count + 1, if older { Some((digest, issued.until)) } else { oldest })
        });
        if let Some(oldest) = oldest.map(|(digest, _)| *digest).filter(|_| count >= MOST_OF_A_USER) {
            all.remove(&oldest);
        }
        all.insert(sha256(token.as_bytes()), Issued { user: user.into(), until: Instant::now() + self.life });
        Ok(token)
    }

    /// Whose a token is, while it lives.
    pub fn user(&self, token: &str) -> Option<String> {
        if token.len() > LONGEST {
            return None;
        }
        let mut all = self.all.lock();
        let issued = all.get_mut(&sha256(token.as_bytes())).filter(|issued| Instant::now() < issued.until)?;
        if self.renewed {
            issued.until = Instant::now() + self.life;
        }
        Some(issued.user.clone())
    }

    /// Forgets those whose life is over.
    pub fn sweep(&self) {
        self.all.lock().retain(|_, issued| Instant::now() < issued.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_as_long_as_it_says() -> Result<()> {
        for (renewed, later) in [(true, Some("ann".to_string())), (false, None)] {
            let tokens = IssuedTokens::new(Duration::from_millis(400), renewed);
            let token = tokens.issue("ann")?;
            std::thread::sleep(Duration::from_millis(250));
            assert_eq!(tokens.user(&token).as_deref(), Some("ann"));
            std::thread::sleep(Duration::from_millis(250));
            assert_eq!(tokens.user(&token), later);
            std::thread::sleep(Duration::from_millis(450));
            assert_eq!(tokens.user(&token), None);
            tokens.sweep();
            assert!(tokens.all.lock().is_empty());
        }
        Ok(())
    }

    #[test]
    fn many_logins_of_one_user_cost_nobody_else_a_token() -> Result<()> {
        let tokens = IssuedTokens::new(Duration::from_secs(60), false);
        let other = tokens.issue("bob")?;
        let first = tokens.issue("ann")?;
        for _ in 0..MOST_OF_A_USER {
            tokens.issue("ann")?;
        }
        assert_eq!((tokens.user(&first), tokens.user(&other).as_deref()), (None, Some("bob")));
        assert_eq!(tokens.all.lock().len(), MOST_OF_A_USER + 1);
        Ok(())
    }

    #[test]
    fn tokens_of_a_file_end_on_their_day() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let path = place.path().join("tokens");
        let ((token, digest), (past, ended)) = (new()?, new()?);
        std::fs::write(&path, format!("# robots\nbi:read:{digest}\nbi:read:{ended}:1700000000\n"))?;
        let tokens = LastingTokens::read(&path)?;
        assert_eq!(tokens.find(&token).map(|found| found.user.as_str()), Some("bi"));
        assert!(tokens.find(&past).is_none() && tokens.find("").is_none() && tokens.find("sinew_x").is_none());
        for wrong in ["bi:read", "bi:read:abc", &format!("bi:read:{digest}:soon"), &format!("bi::{digest}")] {
            std::fs::write(&path, wrong)?;
            let error = LastingTokens::read(&path).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with("SINEW-3705: line 1"), "{wrong}: {error}");
        }
        Ok(())
    }
}
