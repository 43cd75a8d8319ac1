//! `sinew serve`: the embedded engine behind Flight SQL, until a signal.

use std::io::Write;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::args::{Serve, Settings};
use super::run::Outcome;
use super::signals::Signals;
use crate::error::{Result, SinewError};
use crate::flight::{Door, ServeOptions, listen, serve};
use crate::session::Session;

/// Serves. Clients are talked to on a thread of their own, so that they are answered while all
/// threads of `workers` run statements.
///
/// # Errors
/// When an option or the address cannot be used.
pub fn run(workers: &Runtime, serve_settings: &Serve, settings: &Settings) -> Result<Outcome> {
    let Serve { address, unencrypted, drain, door } = serve_settings;
    let mut signals = Signals::listen_for_server();
    let door = Door::open(|name| door.get(name).map(String::as_str), false)?;
    let session = {
        let _inside = workers.enter();
        Session::embedded(door.confine(settings.options.clone())?)?
    };
    let clients = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("sinew-clients")
        .thread_stack_size(crate::daemon::STACK)
        .enable_all()
        .build()
        .map_err(|source| SinewError::Io { what: "starting threads".into(), source })?;
    let options = ServeOptions {
        workers: Some(workers.handle().clone()),
        drain: *drain,
        guard: Some(Arc::clone(&door.guard)),
        tls: door.tls.clone(),
        ..ServeOptions::default()
    };
    clients.block_on(async {
        let listener = listen(address, &door, *unencrypted).await?;
        let unknown = |source| SinewError::Io { what: "reading the address of a socket".into(), source };
        let bound = listener.local_addr().map_err(unknown)?;
        let mut stdout = std::io::stdout();
        // Nobody has to read this.
        let mut said = format!("sinew serve: listening on {}://{bound}", door.scheme());
        if let Some(tls) = door.tls.as_ref().filter(|tls| !tls.note.is_empty()) {
            said += &format!("\nsinew serve: {}", tls.note);
        }
        let _ = writeln!(stdout, "{said}").and_then(|()| stdout.flush());
        let ending = session.clone();
        let stop = async move {
            signals.next().await;
            // Nobody cancelled the trainings that end now.
            ending.keep_checkpoints();
        };
        serve(session, listener, options, stop).await
    })?;
    clients.shutdown_background();
    Ok(Outcome::Done)
}
