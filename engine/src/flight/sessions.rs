//! Who a request comes from: one session for each connection, or for each cookie that a client sends back.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::COOKIE;
use super::auth::Identity;
use super::auth::audit::{Audit, Entry, Who};
use super::auth::roles::{Need, Role, unplanned};
use super::auth::secret::{hex, sha256};
use super::connection::Peer;
use super::limits::Limits;
use super::statements::Statements;
use super::status::to_status;
use crate::error::{Result, SinewError};
use crate::session::{Session, Viewer};

/// How long a session lives whose connection closed, for a client that connects again with its cookie.
const ORPHANED: Duration = Duration::from_secs(60);

/// How soon a client asks for the result of what it has begun.
const RETURN: Duration = Duration::from_millis(500);

/// Makes names that nobody can guess.
#[derive(Debug)]
pub struct Names {
    secret: [u8; 32],
    count: AtomicU64,
}

impl Names {
    /// Takes a secret from the system.
    ///
    /// # Errors
    /// When the system gives none.
    pub fn new() -> Result<Self> {
        let mut secret = [0; 32];
        let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut secret));
        read.map_err(|source| SinewError::Io { what: "reading /dev/urandom".into(), source })?;
        Ok(Self { secret, count: AtomicU64::new(0) })
    }

    /// A name no other has: 32 hexadecimal digits.
    pub fn next(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(self.secret);
        digest.update(self.count.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The session of one client.
#[derive(Debug)]
pub struct ClientSession {
    /// Its secret name.
    pub name: String,
    /// Where its statements run.
    pub session: Session,
    /// Its statements and their results.
    pub statements: Statements,
    /// What it may have.
    pub limits: Limits,
    audit: Audit,
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    /// Whose it is; the roles are those of the last call.
    identity: Arc<Identity>,
    address: Option<SocketAddr>,
    last: Instant,
    /// The connection that began it: what comes there without a cookie belongs to it.
    owner: u64,
    /// The connections it is used on.
    connections: Vec<u64>,
    /// Whether the client sends the cookie.
    by_cookie: bool,
}

impl ClientSession {
    /// Leave to plan one more statement and to run it, before it is known what it needs; a refusal is written down.
    ///
    /// # Errors
    /// When the session plans and runs too many.
    pub fn leave(&self, text: &str) -> Result<OwnedSemaphorePermit> {
        match self.statements.begin() {
            Ok(permit) => Ok(permit),
            Err(error) => {
                self.failed(text, &error);
                Err(error)
            }
        }
    }

    /// As [`Self::may`], with leave to run one more statement.
    ///
    /// # Errors
    /// When the user may not, or the session runs too many.
    pub fn begin(&self, need: Need, text: &str) -> Result<(Entry, OwnedSemaphorePermit)> {
        let entry = self.may(need, text)?;
        match self.statements.begin() {
            Ok(permit) => Ok((entry, permit)),
            Err(error) => {
                entry.end(Err(&error.to_string()));
                Err(error)
            }
        }
    }

    /// Whether the user may run a statement that is not run now; only a refusal is written down.
    ///
    /// # Errors
    /// When the user may not.
    pub fn allows(&self, need: Need, text: &str) -> Result<()> {
        let refused = self.usage.lock().identity.may(need).is_err();
        if refused { self.may(need, text).map(drop) } else { Ok(()) }
    }

    /// Writes down a statement that could not be planned. Whether the user may run it was not asked.
    pub fn failed(&self, text: &str, error: &SinewError) {
        self.entry(unplanned(text), text).1.end(Err(&error.to_string()));
    }

    /// Begins a statement that the user may run: its line in the audit.
    ///
    /// # Errors
    /// When the user may not; that is in the audit too.
    pub fn may(&self, need: Need, text: &str) -> Result<Entry> {
        let (identity, entry) = self.entry(need, text);
        match identity.may(need) {
            Ok(()) => Ok(entry),
            Err(error) => {
                entry.end(Err(&error.to_string()));
                Err(error)
            }
        }
    }

    /// Who runs a statement now, and its line in the audit.
    fn entry(&self, need: Need, text: &str) -> (Arc<Identity>, Entry) {
        let (identity, peer) = {
            let usage = self.usage.lock();
            (Arc::clone(&usage.identity), usage.address)
        };
        // The name itself opens the session.
        let session = hex(&sha256(self.name.as_bytes())[..6]);
        let who = Who { identity: Arc::clone(&identity), peer, session };
        (identity, self.audit.begin(who, need, text))
    }
}

/// All sessions of a server.
#[derive(Debug)]
pub struct Sessions {
    template: Session,
    names: Arc<Names>,
    limits: Limits,
    audit: Audit,
    limit: usize,
    idle: Duration,
    all: Mutex<HashMap<String, Arc<ClientSession>>>,
    draining: AtomicBool,
}

impl Sessions {
    /// No sessions; each that comes is a sibling of `template`.
    pub fn new(template: Session, limit: Option<usize>, idle: Duration, audit: Audit) -> Result<Self> {
        let (names, draining) = (Arc::new(Names::new()?), AtomicBool::new(false));
        let limits = Limits::of(template.options());
        let limit = limit.unwrap_or(limits.sessions);
        Ok(Self { template, names, limits, audit, limit, idle, all: Mutex::default(), draining })
    }

    /// What each session may have.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The session of a request; a new one where it names none and its connection has none.
    ///
    /// # Errors
    /// When it names one that is over, or there are too many.
    pub fn of<T>(&self, request: &Request<T>) -> std::result::Result<Arc<ClientSession>, Status> {
        let peer = request.extensions().get::<Peer>().copied().unwrap_or(Peer { number: 0, address: None });
        let unknown = || SinewError::Internal("a call came past the guard".into());
        let identity = request.extensions().get::<Arc<Identity>>().ok_or_else(unknown);
        let found = identity.and_then(|identity| self.find(peer, cookie(request.metadata()), Arc::clone(identity)));
        found.map_err(|error| to_status(&error))
    }

    fn find(&self, peer: Peer, cookie: Option<String>, identity: Arc<Identity>) -> Result<Arc<ClientSession>> {
        let (number, address) = (peer.number, peer.address);
        let mut all = self.all.lock();
        let own = |session: &&Arc<ClientSession>| session.usage.lock().identity.user == identity.user;
        let found = match &cookie {
            // The session of another user is as unknown as one that is over.
            Some(name) => Some(all.get(name).filter(own).ok_or(SinewError::SessionEnded)?),
            None => all.values().filter(own).find(|s| s.usage.lock().owner == number),
        };
        // Without logins nobody's trainings are anybody's.
        let user = identity.proven.then(|| identity.user.clone());
        let viewer = Viewer { user, others: identity.roles.allow(Role::Admin) };
        if let Some(session) = found {
            session.session.act_for(viewer);
            let mut usage = session.usage.lock();
            (usage.last, usage.identity, usage.address) = (Instant::now(), identity, address);
            usage.by_cookie |= cookie.is_some();
            if !usage.connections.contains(&number) {
                usage.connections.push(number);
            }
            drop(usage);
            return Ok(Arc::clone(session));
        }
        if all.len() >= self.limit {
            return Err(SinewError::TooMany {
                what: format!("{} sessions (flight_sessions)", self.limit),
                hint: "close connections that are not used".into(),
            });
        }
        if identity.proven && all.values().filter(own).count() >= self.limits.user_sessions {
            return Err(SinewError::TooMany {
                what: format!("{} sessions of one user (flight_user_sessions)", self.limits.user_sessions),
                hint: "close connections that are not used".into(),
            });
        }
        let name = self.names.next();
        let session = self.template.sibling_within(self.limits.memory)?;
        session.act_for(viewer);
        let session = Arc::new(ClientSession {
            name: name.clone(),
            session,
            statements: Statements::new(Arc::clone(&self.names), self.limits),
            limits: self.limits,
            audit: self.audit.clone(),
            usage: Mutex::new(Usage {
                identity,
                address,
                last: Instant::now(),
                owner: number,
                connections: vec![number],
                by_cookie: false,
            }),
        });
        all.insert(name, Arc::clone(&session));
        Ok(session)
    }

    /// A connection has closed: sessions that only it used end now, or soon if the client may come back.
    pub fn disconnected(&self, peer: Peer) {
        self.all.lock().retain(|_, session| {
            let mut usage = session.usage.lock();
            let before = usage.connections.len();
            usage.connections.retain(|number| *number != peer.number);
            if usage.connections.len() < before {
                usage.last = Instant::now();
            }
            usage.by_cookie || !usage.connections.is_empty()
        });
    }

    /// Ends a session; its statements stop when the last call that uses it has.
    pub fn close(&self, session: &ClientSession) {
        self.all.lock().remove(&session.name);
        session.statements.close();
    }

    /// Ends the sessions that nobody used for too long, and drops results that have expired.
    pub fn sweep(&self) {
        let ended: Vec<_> = {
            let mut all = self.all.lock();
            let over = |session: &Arc<ClientSession>| {
                let usage = session.usage.lock();
                match usage.connections.is_empty() {
                    // Nobody waits for what runs there.
                    true => usage.last.elapsed() > ORPHANED,
                    false => usage.last.elapsed() > self.idle && !session.statements.busy(),
                }
            };
            all.extract_if(|_, session| over(session)).map(|(_, session)| session).collect()
        };
        ended.iter().for_each(|session| session.statements.close());
        let kept: Vec<_> = self.all.lock().values().cloned().collect();
        kept.iter().for_each(|session| session.statements.expire());
    }

    /// From now on no statement is begun; results can still be fetched.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether statements are no longer begun.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whether nothing runs and no client has just asked for something that it will come back for.
    pub fn quiet(&self) -> bool {
        let recent = |session: &Arc<ClientSession>| session.usage.lock().last.elapsed() < RETURN;
        !self.all.lock().values().any(|session| session.statements.busy() || recent(session))
    }

    /// Ends all sessions and stops their statements.
    pub fn close_all(&self) {
        let all: Vec<_> = self.all.lock().drain().map(|(_, session)| session).collect();
        all.iter().for_each(|session| session.statements.stop());
    }
}

/// The session that a request names, in any of its cookies.
fn cookie(metadata: &MetadataMap) -> Option<String> {
    let headers = metadata.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = headers.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.trim_matches('"').to_string())
}
