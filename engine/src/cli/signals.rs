//! Ctrl-C and SIGTERM.
//!
//! A thread of its own waits for signals: the threads that run statements may all be busy for longer than
//! a person waits.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// What a script has after a signal to stop its statement and say so. A write to a reader that does not
/// read blocks its thread, and nothing else would end the process then.
const GRACE: Duration = Duration::from_millis(1200);

/// What a signal ends.
static MODE: AtomicU8 = AtomicU8::new(SHELL);
/// Ctrl-C ends one statement.
const SHELL: u8 = 0;
/// Ctrl-C ends the process.
const SCRIPT: u8 = 1;
/// Both signals end the process when its clients are served.
const SERVER: u8 = 2;

/// Exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;
/// Exit code after SIGTERM.
pub const TERMINATED: u8 = 143;

/// Both signals, from now on kept from ending the process at once.
#[derive(Debug)]
pub struct Signals(Option<Receiver<u8>>);

impl Signals {
    /// Starts listening; signals that came earlier are not seen.
    pub fn listen() -> Self {
        static SIGNALS: OnceLock<Option<Sender<u8>>> = OnceLock::new();
        Self(SIGNALS.get_or_init(watch).as_ref().map(Sender::subscribe))
    }

    /// As [`Self::listen`], for a script: it ends soon after a signal, whatever holds it up.
    pub fn listen_for_script() -> Self {
        MODE.store(SCRIPT, Ordering::Relaxed);
        Self::listen()
    }

    /// As [`Self::listen`], for a server: it decides itself when it ends.
    pub fn listen_for_server() -> Self {
        MODE.store(SERVER, Ordering::Relaxed);
        Self::listen()
    }

    /// Waits for the next signal and returns the exit code that belongs to it.
    pub async fn next(&mut self) -> u8 {
        loop {
            match &mut self.0 {
                None => return std::future::pending().await,
                Some(signals) => match signals.recv().await {
                    Ok(code) => return code,
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => self.0 = None,
                },
            }
        }
    }
}

/// Starts the thread; `None` where the system has none to give, and signals end the process then.
fn watch() -> Option<Sender<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let (interrupt, terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt()).ok()?, signal(SignalKind::terminate()).ok()?)
    };
    let (sender, _) = channel(4);
    let heard = sender.clone();
    let run = move || runtime.block_on(tell(interrupt, terminate, heard));
    std::thread::Builder::new().name("sinew-signals".into()).spawn(run).ok()?;
    Some(sender)
}

async fn tell(mut interrupt: Signal, mut terminate: Signal, to: Sender<u8>) {
    loop {
        let code = tokio::select! {
            Some(()) = interrupt.recv() => INTERRUPTED,
            Some(()) = terminate.recv() => TERMINATED,
            else => return,
        };
        let mode = MODE.load(Ordering::Relaxed);
        if mode == SCRIPT || (mode == SHELL && code == TERMINATED) {
            tokio::spawn(async move {
                tokio::time::sleep(GRACE).await;
                std::process::exit(i32::from(code));
            });
        }
        // Between two statements of the shell nobody listens: SIGTERM ends it, Ctrl-C is the prompt's.
        if to.send(code).is_err() && code == TERMINATED {
            std::process::exit(i32::from(TERMINATED));
        }
    }
}
