//! The socket of a server, and who may reach it.

use tokio::net::TcpListener;

use crate::error::{Result, SinewError};

/// Listens at `address`, `host:port` with port 0 for any that is free. There is no authentication in this
/// version, so an address that other machines reach is refused unless `anyone` says that they may.
///
/// # Errors
/// When the address is not one of this machine, is in use, or is refused.
pub async fn listen(address: &str, anyone: bool) -> Result<TcpListener> {
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
    match bound.ip().is_loopback() || anyone {
        true => Ok(listener),
        false => Err(refused(
            "it can be reached from other machines, and there is no authentication: whoever connects reads every file \
             and drops every model this process can; listen at 127.0.0.1, or allow it with --insecure-listen"
                .into(),
        )),
    }
}
