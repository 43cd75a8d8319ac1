//! Ctrl-C and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code after Ctrl-C.
pub const INTERRUPTED: u8 = 130;
/// Exit code after SIGTERM.
pub const TERMINATED: u8 = 143;

/// Both signals, from now on kept from ending the process at once.
#[derive(Debug)]
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Signals {
    /// Starts listening; must be called inside the runtime.
    pub fn listen() -> Self {
        Self { interrupt: signal(SignalKind::interrupt()).ok(), terminate: signal(SignalKind::terminate()).ok() }
    }

    /// Waits for the next signal and returns the exit code that belongs to it.
    pub async fn next(&mut self) -> u8 {
        async fn wait(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = wait(&mut self.interrupt) => INTERRUPTED,
            () = wait(&mut self.terminate) => TERMINATED,
        }
    }
}
