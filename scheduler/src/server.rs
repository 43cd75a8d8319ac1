//! The process: settings, the cluster, the sessions, two listeners, and an orderly end.

use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ballista_core::extension::SessionConfigExt;
use ballista_core::optimizer::NotInSubqueryRewrite;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use sinew::daemon::{Settings, log, signals};
use sinew::flight::{Door, ServeOptions, Signer, serve};
use sinew::warehouse::Location;
use sinew::{Host, Result, Session, SinewError};

use crate::assembly::{Ballista, assemble};
use crate::direct::Direct;
use crate::jobs::internal;
use crate::joins::Joins;
use crate::metrics::Metrics;
use crate::private::{self, Private};
use crate::query::Distribute;
use crate::resume::resume;
use crate::settings::DAEMON;
use crate::steps::Cluster;
use crate::watch::Watch;

/// Ballista's scheduler for DataFusion's plans.
pub type Server = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// Something went wrong.
const FAILED: u8 = 1;

/// Reads the command line and runs the scheduler.
pub fn main() -> ExitCode {
    let settings = match DAEMON.parse(std::env::args_os()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    match log(&settings).and_then(|()| run(&settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", DAEMON.name);
            ExitCode::from(FAILED)
        }
    }
}

fn run(settings: &Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("sinew-scheduler")
        .thread_stack_size(sinew::daemon::STACK)
        .enable_all()
        .build()
        .map_err(|source| SinewError::Io { what: "starting threads".into(), source })?;
    let done = runtime.block_on(host(settings));
    runtime.shutdown_timeout(Duration::from_millis(500));
    done
}

/// A listener at the address of an option, and its port.
fn listen(settings: &Settings, option: &str) -> Result<(tokio::net::TcpListener, String, u16)> {
    let (host, port) = settings.address(option)?;
    let failed =
        |source| SinewError::Io { what: format!("listening on {host}:{port} (--{option} chooses another)"), source };
    let listener = TcpListener::bind((host.as_str(), port)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    Ok((tokio::net::TcpListener::from_std(listener).map_err(failed)?, host, port))
}

async fn host(settings: &Settings) -> Result<()> {
    let door = Door::open(|name| settings.text(name), true)?;
    let options = door.confine(settings.session.clone())?;
    if options.warehouse().starts_with("memory:") {
        return Err(SinewError::Config {
            name: "--warehouse".into(),
            value: options.warehouse().into(),
            expected: "a cluster needs a warehouse that every process reaches: a shared folder, s3://, az:// or gs://"
                .into(),
        });
    }
    let (door_host, door_port) = settings.address("listen")?;
    let unencrypted = settings.text("insecure_listen") == Some("true");
    let clients = sinew::flight::listen(&format!("{door_host}:{door_port}"), &door, unencrypted).await?;
    let door_port = clients.local_addr().map_or(door_port, |address| address.port());
    let (cluster, cluster_host, cluster_port) = listen(settings, "cluster")?;
    let advertised = settings.text("advertise").unwrap_or(&cluster_host).to_string();
    let endpoint = format!("{advertised}:{cluster_port}");

    let grace = Duration::from_secs(settings.number("grace", 30));
    let codec = sinew::codec(Arc::new(BallistaPhysicalExtensionCodec::default()));
    let timeout = settings.number("executor_timeout", 15);
    let ballista = assemble(&endpoint, &codec, timeout, grace).await?;
    let (jobs, members) = (Arc::clone(&ballista.jobs), Arc::clone(&ballista.members));
    let stores = sinew::storage::registry(&options)?;
    let warehouse = Location::open(options.warehouse(), stores.as_ref())?;
    let metrics = Arc::new(Metrics::default());
    let signer = Arc::new(Signer::new()?);
    let hash_join = usize::try_from(settings.number("hash_join_bytes", 256 << 20)).unwrap_or(usize::MAX);
    let local = settings.number("local_bytes", 4 << 20);
    let host = Host {
        // Which hash joins become sorts is for `joins.rs` to say.
        config: SessionConfig::new_with_ballista().set_bool("datafusion.optimizer.prefer_hash_join", true),
        runner: Arc::new(Cluster::new(
            Arc::clone(&jobs),
            warehouse.clone(),
            settings.number("merge_bytes", 64 << 20),
            Arc::clone(&metrics),
        )),
        logical_rules: vec![Arc::new(NotInSubqueryRewrite::new())],
        join_rules: vec![Arc::new(Joins::new(hash_join))],
        place: Some(Arc::new(Direct::new(Arc::clone(&jobs), Arc::clone(&signer)))),
        rules: vec![Arc::new(Distribute::new(Arc::clone(&jobs), Arc::clone(&codec), local))],
    };
    let session = Session::hosted(options, host)?;

    let Ballista { server, theirs, .. } = ballista;
    let key = signer.public();
    let watch = Watch { server: Arc::clone(&server), jobs, warehouse, session: session.sibling() };
    if settings.text("resume") != Some("false") {
        tokio::spawn(resume(session.sibling(), Arc::clone(&members)));
    }
    let ending = session.clone();
    let door_options = ServeOptions {
        drain: Duration::from_secs(settings.number("drain", 10)),
        guard: Some(Arc::clone(&door.guard)),
        tls: door.tls.clone(),
        ..ServeOptions::default()
    };
    let scheme = door.scheme();
    println!(
        "sinew-scheduler: Flight SQL at {scheme}://{door_host}:{door_port}, cluster at {cluster_host}:{cluster_port}"
    );
    if let Some(tls) = door.tls.as_ref().filter(|tls| !tls.note.is_empty()) {
        println!("sinew-scheduler: {}", tls.note);
    }
    tokio::select! {
        served = serve(session, clients, door_options, async {
            match signals::asked_to_stop().await {
                Ok(()) => ::log::info!("asked to stop"),
                Err(error) => ::log::error!("{error}"),
            }
            // Nobody cancelled the trainings that end now.
            ending.keep_checkpoints();
        }) => served,
        served = private::serve(cluster, Private { server, members, key, metrics, theirs }) => served,
        watched = watch.run() => watched.map_err(|e| SinewError::from(internal(e))),
    }
}
