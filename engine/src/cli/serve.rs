//! `sinew serve`: the embedded engine behind Flight SQL, until a signal.

use std::io::Write;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::args::Settings;
use super::run::Outcome;
use super::signals::Signals;
use crate::error::{Result, SinewError};
use crate::flight::{ServeOptions, serve};
use crate::session::Session;

/// Serves at `address`. Clients are talked to on a thread of their own, so that they are answered while all
/// threads of `workers` run statements.
///
/// # Errors
/// When an option or the address cannot be used.
pub fn run(workers: &Runtime, address: &str, settings: &Settings) -> Result<Outcome> {
    let mut signals = Signals::listen_for_server();
    let session = {
        let _inside = workers.enter();
        Session::embedded(settings.options.clone())?
    };
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("sinew-clients")
        .enable_all()
        .build()
        .map_err(|source| SinewError::Io { what: "starting threads".into(), source })?;
    let options = ServeOptions { workers: Some(workers.handle().clone()), ..ServeOptions::default() };
    clients.block_on(async {
        let listener = listen(address).await?;
        let bound = listener.local_addr().map_err(|e| refused(address, &e.to_string()))?;
        let mut stdout = std::io::stdout();
        // Nobody has to read this.
        let _ = writeln!(stdout, "sinew serve: listening on grpc://{bound}").and_then(|()| stdout.flush());
        let stop = async move {
            signals.next().await;
        };
        serve(session, listener, options, stop).await
    })?;
    clients.shutdown_background();
    Ok(Outcome::Done)
}

fn refused(address: &str, reason: &str) -> SinewError {
    SinewError::Listen { address: address.into(), reason: reason.into() }
}

async fn listen(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let next = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another server listens there: stop it, or choose another port with --listen 127.0.0.1:PORT (0 is any)"
            }
            std::io::ErrorKind::PermissionDenied => "; choose a port from 1024 on with --listen",
            std::io::ErrorKind::InvalidInput => "; write it as 127.0.0.1:50051",
            _ => "; choose an address of this machine with --listen",
        };
        refused(address, &format!("{error}{next}"))
    })
}
