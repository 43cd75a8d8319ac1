//! Free ports: Ballista wants to know them before it listens.

use std::net::TcpListener;

use sinew::{Result, SinewError};

/// A listener on the port, or on a free one for 0.
///
/// # Errors
/// When the port is taken or the address is not this machine's.
pub fn listen(host: &str, port: u16, flag: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind((host, port)).map_err(|source| SinewError::Io {
        what: format!("listening on {host}:{port} (choose another port with {flag}, or 0 for a free one)"),
        source,
    })?;
    let failed = |source| SinewError::Io { what: format!("listening on {host}:{port}"), source };
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// The port of a listener.
pub fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().map_or(0, |address| address.port())
}
