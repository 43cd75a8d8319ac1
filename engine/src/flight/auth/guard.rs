//! Finds out who makes a call: by password, by token, or by certificate.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Semaphore;

use super::audit::Audit;
use super::backoff::Backoff;
use super::roles::{Need, Roles};
use super::secret::{Fingerprint, digest, from_base64, hex, random, sha256};
use super::tokens::{IssuedTokens, LastingTokens};
use super::users::{LONGEST_PASSWORD, Users, verify};
use crate::error::{Result, SinewError};

/// The name of those who need not say theirs.
const ANYONE: &str = "anyone";
/// The longest header that says who makes a call, in bytes.
const LONGEST_HEADER: usize = 8 << 10;
/// Passwords that are verified at the same time, and those that may wait for it: each takes 19 MiB.
const VERIFYING: usize = 2;
const WAITING: usize = 64;
/// How long a password that was right is known to be: some clients send it with every call.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Passwords that are remembered.
const MOST_REMEMBERED: usize = 1_000;

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub user: String,
    /// What this user may do.
    pub roles: Roles,
    /// Whether the user had to prove anything.
    pub proven: bool,
}

impl Identity {
    /// Those who need not say who they are may do everything.
    pub fn anyone() -> Self {
        Self { user: ANYONE.into(), roles: Roles::ALL, proven: false }
    }

    /// Whether this user may do something.
    ///
    /// # Errors
    /// When a role is missing; the text names it.
    pub fn may(&self, need: Need) -> Result<()> {
        if self.roles.allow(need.role) {
            return Ok(());
        }
        let (role, roles) = (need.role.name(), self.roles.to_string());
        Err(SinewError::Role { what: need.kind, role, user: self.user.clone(), roles })
    }
}

/// How a server finds out who its clients are. The default asks nobody.
#[derive(Debug)]
pub struct GuardOptions {
    /// The file of users.
    pub users: Option<PathBuf>,
    /// The file of tokens.
    pub tokens: Option<PathBuf>,
    /// How long a token of a login lives.
    pub token_life: Duration,
    /// Whether each use of a token begins its life anew.
    pub token_renewal: bool,
    /// Whether clients have certificates, which TLS has checked.
    pub certificates: bool,
    /// Where statements and logins are written down.
    pub audit: Audit,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            users: None,
            tokens: None,
            token_life: Duration::from_secs(12 * 3600),
            token_renewal: true,
            certificates: false,
            audit: Audit::default(),
        }
    }
}

/// What the files say, and when they were written.
#[derive(Debug, Default)]
struct Accounts {
    users: Users,
    tokens: LastingTokens,
    written: Vec<Option<(SystemTime, u64)>>,
}

/// Lets calls in, or not.
pub struct Guard {
    options: GuardOptions,
    accounts: RwLock<Accounts>,
    issued: IssuedTokens,
    backoff: Backoff,
    /// Passwords that were right, by a digest with a secret of this process, and the token given for each.
    right: Mutex<HashMap<Fingerprint, (String, Instant)>>,
    secret: [u8; 32],
    verifying: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What a call says about who makes it.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The header `authorization`.
    pub header: Option<&'a [u8]>,
    /// Where the call comes from.
    pub peer: Option<SocketAddr>,
    /// The certificate that TLS has checked.
    pub certificate: Option<&'a [u8]>,
}

impl Guard {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read, or one of its lines is none.
    pub fn new(options: GuardOptions) -> Result<Self> {
        let issued = IssuedTokens::new(options.token_life, options.token_renewal);
        let accounts = RwLock::new(Accounts::read(&options)?);
        Ok(Self {
            options,
            accounts,
            issued,
            backoff: Backoff::default(),
            right: Mutex::default(),
            secret: random()?,
            verifying: Arc::new(Semaphore::new(VERIFYING)),
            waiting: Arc::new(Semaphore::new(WAITING)),
        })
    }

    /// Where statements and logins are written down.
    pub fn audit(&self) -> &Audit {
        &self.options.audit
    }

    /// Whether somebody has to log in.
    pub fn asks(&self) -> bool {
        self.options.users.is_some() || self.options.tokens.is_some()
    }

    /// Who makes a call, and the token with which the next may be made.
    ///
    /// # Errors
    /// When it does not say, or not truly.
    pub async fn identify(&self, claim: Claim<'_>) -> Result<(Identity, Option<String>)> {
        let header = claim.header.map(|header| Header::read(header, self.asks())).transpose()?;
        if !self.asks() {
            // Clients that were given a name want an answer to it.
            let answer = matches!(header, Some(Header::Basic(..))).then(|| ANYONE.to_string());
            let certificate = claim.certificate.filter(|_| self.options.certificates);
            let named = certificate.map(|certificate| Identity {
                user: format!("certificate-{}", &hex(&sha256(certificate))[..16]),
                roles: Roles::ALL,
                proven: true,
            });
            return Ok((named.unwrap_or_else(Identity::anyone), answer));
        }
        match header {
            None => Err(login(
                "this server asks who you are: give a user and a password (sinew --user NAME; username and password in \
                 other clients), or a token (SINEW_TOKEN; the header 'authorization: Bearer ..')",
            )),
            Some(Header::Bearer(token)) => self.by_token(token).map(|identity| (identity, None)),
            Some(Header::Basic(user, password)) => {
                let done = self.by_password(&user, &password, claim.peer).await;
                if let Err(error) = &done {
                    self.audit().login(&user, claim.peer, Some(error));
                }
                done
            }
            Some(Header::Other) => Err(login("the header 'authorization' begins with Basic or Bearer")),
        }
    }

    fn by_token(&self, token: &str) -> Result<Identity> {
        let accounts = self.accounts.read();
        if let Some(found) = accounts.tokens.find(token) {
            return Ok(Identity { user: found.user.clone(), roles: found.roles, proven: true });
        }
        let user = self.issued.user(token);
        // A user whose line was removed is none any more, and one whose roles were changed has those.
        let found = user.and_then(|user| accounts.users.get(&user).map(|found| (user, found.roles)));
        let (user, roles) = found.ok_or_else(|| login("the token is not valid, or not any more; log in again"))?;
        Ok(Identity { user, roles, proven: true })
    }

    async fn by_password(
        &self,
        user: &str,
        password: &[u8],
        peer: Option<SocketAddr>,
    ) -> Result<(Identity, Option<String>)> {
        let key = digest(&[&self.secret, user.as_bytes(), password]);
        if let Some(token) = self.remembered(&key)
            && let Ok(identity) = self.by_token(&token)
        {
            return Ok((identity, Some(token)));
        }
        let who = (user.chars().take(64).collect::<String>(), peer.map(|peer| peer.ip()));
        if let Some(wait) = self.backoff.wait(&who) {
            return Err(SinewError::LoginLater { user: who.0, seconds: wait.as_secs() + 1 });
        }
        if !self.check(user, password).await? {
            self.backoff.failed(&who);
            return Err(login("the user or the password is wrong"));
        }
        self.backoff.succeeded(&who);
        let token = self.issued.issue(user)?;
        let identity = self.by_token(&token)?;
        let mut right = self.right.lock();
        right.retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        if right.len() < MOST_REMEMBERED {
            right.insert(key, (token.clone(), Instant::now()));
        }
        drop(right);
        self.audit().login(user, peer, None);
        Ok((identity, Some(token)))
    }

    fn remembered(&self, key: &Fingerprint) -> Option<String> {
        let right = self.right.lock();
        right.get(key).filter(|(_, since)| since.elapsed() < REMEMBERED).map(|(token, _)| token.clone())
    }

    /// Whether a password is the user's; as much work for a name that there is not.
    async fn check(&self, user: &str, password: &[u8]) -> Result<bool> {
        let Some((hash, known)) = self.accounts.read().users.hash_for(user) else { return Ok(false) };
        if password.len() > LONGEST_PASSWORD {
            return Ok(false);
        }
        let Ok(waiting) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return Err(SinewError::TooMany {
                what: format!("{WAITING} logins at the same time"),
                hint: "try again in a moment".into(),
            });
        };
        let verifying = Arc::clone(&self.verifying).acquire_owned().await.map_err(|_| SinewError::ShuttingDown)?;
        let password = password.to_vec();
        let verified = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when the client has gone away before.
            let _held = (waiting, verifying);
            verify(&hash, &password)
        })
        .await;
        Ok(verified.map_err(|e| SinewError::Internal(e.to_string()))? && known)
    }

    /// Forgets what has expired, and reads files again that have changed.
    pub fn sweep(&self) {
        self.issued.sweep();
        self.backoff.sweep();
        self.right.lock().retain(|_, (_, since)| since.elapsed() < REMEMBERED);
        if self.accounts.read().written == written(&self.options) {
            return;
        }
        match Accounts::read(&self.options) {
            Ok(accounts) => {
                *self.accounts.write() = accounts;
                // A password may have been changed.
                self.right.lock().clear();
                log::info!("users and tokens were read again");
            }
            Err(error) => {
                log::error!("users and tokens stay as they were: {error}");
                self.accounts.write().written = written(&self.options);
            }
        }
    }
}

impl Accounts {
    fn read(options: &GuardOptions) -> Result<Self> {
        let written = written(options);
        let users = options.users.as_deref().map(Users::read).transpose()?.unwrap_or_default();
        let tokens = options.tokens.as_deref().map(LastingTokens::read).transpose()?.unwrap_or_default();
        Ok(Self { users, tokens, written })
    }
}

/// When the files were written last, and their sizes.
fn written(options: &GuardOptions) -> Vec<Option<(SystemTime, u64)>> {
    let look = |path: &Path| path.metadata().and_then(|meta| Ok((meta.modified()?, meta.len()))).ok();
    [&options.users, &options.tokens].into_iter().map(|path| path.as_deref().and_then(look)).collect()
}

fn login(reason: &str) -> SinewError {
    SinewError::Login { reason: reason.into() }
}

/// The header `authorization`.
enum Header<'a> {
    Basic(String, Vec<u8>),
    Bearer(&'a str),
    Other,
}

impl<'a> Header<'a> {
    /// # Errors
    /// When it is not one that `strict` servers read.
    fn read(header: &'a [u8], strict: bool) -> Result<Self> {
        let text = std::str::from_utf8(header).ok().filter(|text| text.len() <= LONGEST_HEADER);
        let (scheme, value) = match text.and_then(|text| text.trim().split_once(' ')) {
            Some((scheme, value)) => (scheme, value.trim()),
            None => return Ok(Self::Other),
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Self::Bearer(value));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Ok(Self::Other);
        }
        let decoded = from_base64(value).unwrap_or_default();
        let at = decoded.iter().position(|byte| *byte == b':');
        let parts =
            at.and_then(|at| Some((String::from_utf8(decoded[..at].to_vec()).ok()?, decoded[at + 1..].to_vec())));
        match parts {
            Some((user, password)) => Ok(Self::Basic(user, password)),
            None if strict => {
                Err(login("what follows Basic in the header 'authorization' is no base64 of user:password"))
            }
            None => Ok(Self::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::auth::roles::QUERY;
    use crate::flight::auth::secret::to_base64;
    use crate::flight::auth::{tokens, users};

    type Done = std::result::Result<(), Box<dyn std::error::Error>>;

    fn claim(header: &str) -> Claim<'_> {
        Claim { header: Some(header.as_bytes()), peer: None, certificate: None }
    }

    fn basic(user: &str, password: &str) -> String {
        format!("Basic {}", to_base64(format!("{user}:{password}").as_bytes()))
    }

    async fn refused(guard: &Guard, header: &str) -> String {
        guard.identify(claim(header)).await.err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn passwords_and_tokens_let_in_and_nothing_else_does() -> Done {
        let place = tempfile::tempdir()?;
        let (file, lasting) = (place.path().join("users"), place.path().join("tokens"));
        std::fs::write(&file, users::line("ann", Roles::parse("read")?, "secret:1")?)?;
        let (token, digest) = tokens::new()?;
        std::fs::write(&lasting, format!("bi:read,write:{digest}\n"))?;
        let options = GuardOptions { users: Some(file.clone()), tokens: Some(lasting), ..GuardOptions::default() };
        let guard = Guard::new(options)?;

        let (ann, issued) = guard.identify(claim(&basic("ann", "secret:1"))).await?;
        assert_eq!((ann.user.as_str(), ann.roles.to_string().as_str()), ("ann", "read"));
        assert!(ann.may(QUERY).is_ok());
        let issued = format!("bearer {}", issued.ok_or("no token")?);
        assert_eq!(guard.identify(claim(&issued)).await?.0, ann);
        assert_eq!(guard.identify(claim(&format!("Bearer {token}"))).await?.0.user, "bi");

        let (wrong, nobody) =
            (refused(&guard, &basic("ann", "secret:2")).await, refused(&guard, &basic("eve", "secret:1")).await);
        assert_eq!(wrong, nobody, "the text does not tell whether there is such a user");
        let long = format!("Bearer {}", "x".repeat(100_000));
        for header in
            ["", "Bearer None", "Bearer ", "Basic", "Basic *", "Basic YWI", "Digest x", &long, "Bearer sinew_00"]
        {
            let text = refused(&guard, header).await;
            assert!(text.starts_with("SINEW-3701"), "{}: {text}", &header[..header.len().min(40)]);
        }
        let none = guard.identify(Claim { header: None, peer: None, certificate: None }).await;
        assert!(none.is_err_and(|e| e.to_string().contains("--user")));

        // A user who is removed is out at once, with the tokens of before too.
        std::fs::write(&file, "# nobody\n")?;
        guard.sweep();
        assert!(refused(&guard, &issued).await.contains("log in again"));
        assert!(refused(&guard, &basic("ann", "secret:1")).await.contains("wrong"));
        // A file that is damaged changes nothing.
        std::fs::write(&file, "nonsense")?;
        guard.sweep();
        assert_eq!(guard.identify(claim(&format!("Bearer {token}"))).await?.0.user, "bi");
        Ok(())
    }

    #[tokio::test]
    async fn guessing_is_slowed_down() -> Done {
        let place = tempfile::tempdir()?;
        let file = place.path().join("users");
        std::fs::write(&file, users::line("ann", Roles::parse("read")?, "right")?)?;
        let guard = Guard::new(GuardOptions { users: Some(file), ..GuardOptions::default() })?;
        for _ in 0..5 {
            assert!(refused(&guard, &basic("ann", "guess")).await.starts_with("SINEW-3701"));
        }
        assert!(refused(&guard, &basic("ann", "guess")).await.starts_with("SINEW-3702"));
        let (header, from) = (basic("ann", "right"), Some(SocketAddr::from(([10, 0, 0, 9], 1))));
        let elsewhere = Claim { header: Some(header.as_bytes()), peer: from, certificate: None };
        assert_eq!(guard.identify(elsewhere).await?.0.user, "ann", "who comes from elsewhere is not kept out");
        Ok(())
    }

    #[tokio::test]
    async fn where_nobody_is_asked_everybody_may_come_with_anything() -> Done {
        let guard = Guard::new(GuardOptions::default())?;
        for header in ["Bearer None", "Bearer x", "nonsense", "Basic *"] {
            assert_eq!(guard.identify(claim(header)).await?, (Identity::anyone(), None));
        }
        assert_eq!(guard.identify(claim(&basic("a", "b"))).await?, (Identity::anyone(), Some("anyone".into())));
        let guard = Guard::new(GuardOptions { certificates: true, ..GuardOptions::default() })?;
        let certificate = Claim { header: None, peer: None, certificate: Some(b"der") };
        let (identity, _) = guard.identify(certificate).await?;
        assert!(identity.user.starts_with("certificate-") && identity.proven);
        Ok(())
    }
}
