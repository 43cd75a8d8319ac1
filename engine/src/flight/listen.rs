//! The socket of a server, and who may reach it.

use tokio::net::TcpListener;

use super::door::Door;
use crate::error::{Result, SinewError};

/// Listens at `address`, `host:port` with port 0 for any that is free. An address that other machines reach is
/// refused where nobody has to log in, and where connections are not encrypted, unless `unencrypted` allows that.
///
/// # Errors
/// When the address is not one of this machine, is in use, or is refused.
pub async fn listen(address: &str, door: &Door, unencrypted: bool) -> Result<TcpListener> {
    let refused = |reason: String| SinewError::Listen { address: address.into(), reason };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let next = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "another server listens there: stop it, or choose another port with --listen 127.0.0.1:PORT (0 is any)"
            }
            std::io::ErrorKind::PermissionDenied => "choose a port from 1024 on with --listen",
            std::io::ErrorKind::InvalidInput => "write it as 127.0.0.1:50051",
            _ => "choose an address of this machine with --listen",
        };
        refused(format!("{error}; {next}"))
    })?;
    let bound = listener.local_addr().map_err(|error| refused(error.to_string()))?;
    if bound.ip().is_loopback() {
        return Ok(listener);
    }
    if !door.is_guarded() {
        return Err(refused(
            "other machines reach it, and nobody would have to log in: name the users with --users FILE ('sinew user \
             add NAME' makes its lines), or --tokens FILE, or ask for certificates with --tls-client-ca; or listen at \
             127.0.0.1"
                .into(),
        ));
    }
    if door.tls.is_none() && !unencrypted {
        return Err(refused(
            "other machines reach it, and passwords and rows would not be encrypted: give --tls-cert and --tls-key, or \
             --tls self-signed; or allow it with --insecure-listen, where something in front of the server encrypts"
                .into(),
        ));
    }
    Ok(listener)
}
