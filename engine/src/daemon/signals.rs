//! The signals that end a daemon.

use crate::error::{Result, SinewError};

/// Waits for SIGTERM or Ctrl-C.
///
/// # Errors
/// When the process cannot listen for signals.
pub async fn asked_to_stop() -> Result<()> {
    let failed = |source| SinewError::Io { what: "listening for signals".into(), source };
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(failed)?;
    tokio::select! {
        _ = term.recv() => Ok(()),
        pressed = tokio::signal::ctrl_c() => pressed.map_err(failed),
    }
}
