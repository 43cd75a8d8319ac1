//! Who a request comes from: one session for each connection, or for each cookie that a client sends back.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::COOKIE;
use super::connection::Peer;
use super::statements::Statements;
use super::status::to_status;
use crate::error::{Result, SinewError};
use crate::session::Session;

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
    usage: Mutex<Usage>,
}

#[derive(Debug)]
struct Usage {
    last: Instant,
    /// The connection that began it: what comes there without a cookie belongs to it.
    owner: u64,
    /// The connections it is used on.
    connections: Vec<u64>,
    /// Whether the client sends the cookie.
    by_cookie: bool,
}

/// All sessions of a server.
#[derive(Debug)]
pub struct Sessions {
    template: Session,
    names: Arc<Names>,
    limit: usize,
    idle: Duration,
    all: Mutex<HashMap<String, Arc<ClientSession>>>,
    draining: AtomicBool,
}

impl Sessions {
    /// No sessions; each that comes is a sibling of `template`.
    pub fn new(template: Session, limit: usize, idle: Duration) -> Result<Self> {
        let (names, draining) = (Arc::new(Names::new()?), AtomicBool::new(false));
        Ok(Self { template, names, limit, idle, all: Mutex::default(), draining })
    }

    /// The session of a request; a new one where it names none and its connection has none.
    ///
    /// # Errors
    /// When it names one that is over, or there are too many.
    pub fn of<T>(&self, request: &Request<T>) -> std::result::Result<Arc<ClientSession>, Status> {
        let peer = request.extensions().get::<Peer>().map_or(0, |peer| peer.number);
        self.find(peer, cookie(request.metadata())).map_err(|error| to_status(&error))
    }

    fn find(&self, peer: u64, cookie: Option<String>) -> Result<Arc<ClientSession>> {
        let mut all = self.all.lock();
        let found = match &cookie {
            Some(name) => Some(all.get(name).ok_or(SinewError::SessionEnded)?),
            None => all.values().find(|s| s.usage.lock().owner == peer),
        };
        if let Some(session) = found {
            let mut usage = session.usage.lock();
            usage.last = Instant::now();
            usage.by_cookie |= cookie.is_some();
            if !usage.connections.contains(&peer) {
                usage.connections.push(peer);
            }
            drop(usage);
            return Ok(Arc::clone(session));
        }
        if all.len() >= self.limit {
            return Err(SinewError::TooMany {
                what: format!("{} sessions", self.limit),
                hint: "close connections that are not used".into(),
            });
        }
        let name = self.names.next();
        let session = Arc::new(ClientSession {
            name: name.clone(),
            session: self.template.sibling(),
            statements: Statements::new(Arc::clone(&self.names)),
            usage: Mutex::new(Usage { last: Instant::now(), owner: peer, connections: vec![peer], by_cookie: false }),
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
        all.iter().for_each(|session| session.statements.close());
    }
}

/// The session that a request names, in any of its cookies.
fn cookie(metadata: &MetadataMap) -> Option<String> {
    let headers = metadata.get_all("cookie").into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = headers.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value.trim_matches('"').to_string())
}
