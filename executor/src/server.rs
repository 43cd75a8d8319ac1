//! The process: settings, folder, ports, scheduler, and Ballista's executor until a signal comes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::error::BallistaError;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use ballista_core::utils::create_grpc_server;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_executor::flight_service::BallistaFlightService;
use datafusion::execution::SessionStateBuilder;
use sinew::daemon::{Settings, log, signals};
use sinew::flight::Tls;
use sinew::{Result, SinewError};
use tonic::transport::server::TcpIncoming;

use crate::clients::Clients;
use crate::engine::Engine;
use crate::folder::Folder;
use crate::resources::Resources;
use crate::settings::DAEMON;
use crate::{ports, results, scheduler};

/// Something went wrong.
const FAILED: u8 = 1;
/// The largest message between scheduler and executors.
const MESSAGE_BYTES: u32 = 64 << 20;
/// Results that nobody fetched go after so many seconds.
const KEPT_SECONDS: u64 = 6 * 3600;
/// Rows that no training asked for since so long go, and how often that is looked at.
const IDLE_ROWS: Duration = Duration::from_secs(600);
const SWEEP: Duration = Duration::from_secs(30);

/// Reads the command line and runs the executor.
pub fn main() -> ExitCode {
    let settings = match DAEMON.parse(std::env::args_os()) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let done = log(&settings).and_then(|()| run(&settings));
    match done {
        Ok(End::Asked) => ExitCode::SUCCESS,
        Ok(End::Lost) => again(),
        Err(error) => {
            eprintln!("{}: {error}", DAEMON.name);
            ExitCode::from(FAILED)
        }
    }
}

/// How the process ended.
enum End {
    /// A person or a supervisor asked for it.
    Asked,
    /// The scheduler went away, or took this executor for dead.
    Lost,
}

/// Begins again as the same process: Ballista's own state of a process that ended cannot be reset.
fn again() -> ExitCode {
    ::log::warn!("the scheduler is gone or has given this executor up; beginning again");
    let program = std::env::current_exe();
    let error = match program {
        Ok(program) => {
            let mut command = std::process::Command::new(program);
            std::os::unix::process::CommandExt::exec(command.args(std::env::args_os().skip(1)))
        }
        Err(error) => error,
    };
    eprintln!("{}: cannot begin again: {error}", DAEMON.name);
    ExitCode::from(FAILED)
}

fn run(settings: &Settings) -> Result<End> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let cores = usize::try_from(settings.number("cores", cores)).unwrap_or(1);
    // Tasks have threads of their own; these serve the network.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("sinew-executor")
        .thread_stack_size(sinew::daemon::STACK)
        .enable_all()
        .build()
        .map_err(|source| SinewError::Io { what: "starting threads".into(), source })?;
    let root = settings.text("work_dir").map_or_else(|| std::env::temp_dir().join("sinew-executor"), PathBuf::from);
    let id = format!("{:08x}-{}", std::process::id(), uuid());
    let folder = Folder::new(&root, &id)?;
    let end = runtime.block_on(serve(settings, &folder, &id, cores));
    runtime.shutdown_timeout(Duration::from_millis(200));
    folder.remove();
    end
}

/// A name no other executor has.
fn uuid() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let random = std::hash::BuildHasher::hash_one(&std::collections::hash_map::RandomState::new(), now);
    format!("{:012x}{:08x}", now.as_millis(), random as u32)
}

/// All functions of DataFusion: Ballista's own list lacks those over lists, structures and maps.
fn functions() -> BallistaFunctionRegistry {
    BallistaFunctionRegistry::from(&SessionStateBuilder::new_with_default_features().build())
}

async fn serve(settings: &Settings, folder: &Folder, id: &str, cores: usize) -> Result<End> {
    let host = settings.text("host").unwrap_or("127.0.0.1").to_string();
    let data = ports::listen(&host, settings.number("port", 0) as u16, "--port")?;
    let tasks = ports::listen(&host, settings.number("grpc_port", 0) as u16, "--grpc-port")?;
    let (port, grpc_port) = (ports::port_of(&data), ports::port_of(&tasks));
    let (scheduler_host, scheduler_port) = settings.address("scheduler")?;

    let asked = Arc::new(AtomicBool::new(false));
    let wait = Duration::from_secs(settings.number("wait", 300));
    tokio::select! {
        found = scheduler::find(&scheduler_host, scheduler_port, wait) => found?,
        stop = signals::asked_to_stop() => return stop.map(|()| End::Asked),
    }
    // Ballista takes the port by its number.
    drop(tasks);
    if let Some(address) = settings.text("results") {
        let advertised = settings.text("results_advertise");
        let tls = match (settings.text("results_tls_cert"), settings.text("results_tls_key")) {
            (Some(certificate), Some(key)) => Some(Tls::from_files(certificate.as_ref(), key.as_ref(), None)?),
            (None, None) => None,
            (Some(path), None) | (None, Some(path)) => {
                return Err(SinewError::Tls {
                    what: format!("'{path}'"),
                    reason: "--results-tls-cert and --results-tls-key go together".into(),
                });
            }
        };
        results::serve(address, advertised, (&scheduler_host, scheduler_port), id, folder.path(), tls).await?;
    }
    let peer = (scheduler_host.clone(), scheduler_port);
    let resources = Resources::new(&settings.session, folder.path())?;
    let work_dir = folder.path().display().to_string();
    let listener = parking_lot::Mutex::new(Some(data));
    let config = ExecutorProcessConfig {
        executor_id: id.into(),
        bind_host: host.clone(),
        external_host: Some(settings.text("advertise").unwrap_or(&host).to_string()),
        port,
        grpc_port,
        scheduler_host,
        scheduler_port,
        vcores: cores,
        work_dir: Some(work_dir),
        job_data_ttl_seconds: KEPT_SECONDS,
        job_data_clean_up_interval_seconds: 300,
        grpc_max_decoding_message_size: MESSAGE_BYTES,
        grpc_max_encoding_message_size: MESSAGE_BYTES,
        executor_heartbeat_interval_seconds: settings.number("heartbeat", 2),
        memory_pool_size: Some(resources.query_bytes),
        override_execution_engine: Some(Arc::new(Engine::new(Arc::new(Clients::default())))),
        override_config_producer: Some(Arc::clone(&resources.config)),
        override_runtime_producer: Some(Arc::clone(&resources.runtime)),
        override_function_registry: Some(Arc::new(functions())),
        override_physical_codec: Some(sinew::codec(Arc::new(BallistaPhysicalExtensionCodec::default()))),
        override_arrow_flight_service: Some(Arc::new(move |work_dir, _, mut shutdown, grpc| {
            let listener = listener.lock().take();
            tokio::spawn(async move {
                let failed = |e: std::io::Error| BallistaError::General(format!("the port for data: {e}"));
                let listener = listener.ok_or_else(|| failed(std::io::Error::other("it is served already")))?;
                let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
                let service = FlightServiceServer::new(BallistaFlightService::new(work_dir))
                    .max_decoding_message_size(MESSAGE_BYTES as usize)
                    .max_encoding_message_size(MESSAGE_BYTES as usize);
                create_grpc_server(&grpc)
                    .add_service(service)
                    .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), shutdown.recv())
                    .await
                    .map_err(BallistaError::TonicError)
            })
        })),
        ..ExecutorProcessConfig::default()
    };
    ::log::info!("executor {id}: {cores} cores, data at {host}:{port}, tasks at {host}:{grpc_port}");
    let store = Arc::clone(&resources.store);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            store.sweep(IDLE_ROWS);
        }
    });
    let beat = Duration::from_secs(settings.number("heartbeat", 2));
    tokio::spawn(scheduler::watch(peer.0, peer.1, beat));
    let flag = Arc::clone(&asked);
    let drain = Duration::from_secs(settings.number("drain", 30));
    let overdue = async move {
        let heard = signals::asked_to_stop().await;
        flag.store(true, Ordering::Release);
        ::log::info!("asked to stop; running tasks have {} s", drain.as_secs());
        tokio::time::sleep(drain).await;
        heard
    };
    tokio::select! {
        ended = start_executor_process(Arc::new(config)) => {
            let asked = asked.load(Ordering::Acquire);
            match ended {
                Ok(()) if asked => Ok(End::Asked),
                Ok(()) => Ok(End::Lost),
                Err(error) => Err(SinewError::Cluster {
                    reason: format!("the executor could not start: {error}"),
                    hint: "look at the scheduler's log; ports and work folder can be chosen with flags".into(),
                }),
            }
        }
        heard = overdue => {
            heard?;
            ::log::warn!("tasks still ran when the time to drain was over");
            Ok(End::Asked)
        }
    }
}
