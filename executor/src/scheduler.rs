//! Finding the scheduler: waiting for one that does not answer yet, refusing one of another version.

use std::time::Duration;

use sinew::{Result, SinewError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

/// Between two attempts, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// An answer is there sooner.
const PATIENCE: Duration = Duration::from_secs(5);
/// The version is a line.
const LONGEST: u64 = 4096;

/// Waits until the scheduler answers, and compares versions.
///
/// # Errors
/// When it does not answer in time, or is of another version.
pub async fn find(host: &str, port: u16, wait: Duration) -> Result<()> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut said = false;
    loop {
        let error = match timeout(PATIENCE, version(host, port)).await {
            Ok(Ok(version)) => return compare(host, port, &version),
            Ok(Err(error)) => error,
            Err(_) => std::io::Error::from(std::io::ErrorKind::TimedOut),
        };
        if started.elapsed() >= wait {
            return Err(SinewError::Io {
                what: format!(
                    "looking for a scheduler at {host}:{port} for {} s; start sinew-scheduler, or name its cluster \
                     address with --scheduler",
                    wait.as_secs()
                ),
                source: error,
            });
        }
        if !said {
            log::warn!("no scheduler answers at {host}:{port} yet ({error}); waiting for it");
            said = true;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Says when the scheduler that was found no longer answers, and when it does again, one line each. It is asked as often
/// as it is sent a sign of life.
pub async fn watch(host: String, port: u16, every: Duration) {
    let mut silent: Option<Instant> = None;
    loop {
        sleep(every).await;
        let answer = timeout(PATIENCE, TcpStream::connect((&*host, port))).await;
        let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        match (answer, silent) {
            (Err(error), None) => {
                let every = every.as_secs_f64();
                log::warn!("the scheduler at {host}:{port} is gone ({error}); it is tried again every {every} s");
                silent = Some(Instant::now());
            }
            (Ok(_), Some(since)) => {
                let seconds = since.elapsed().as_secs();
                log::info!("the scheduler at {host}:{port} answers again, after {seconds} s");
                silent = None;
            }
            _ => {}
        }
    }
}

/// The scheduler's version, asked for by the plainest request there is.
async fn version(host: &str, port: u16) -> std::io::Result<String> {
    ask(host, port, "GET", "/sinew/version", "").await
}

/// The public half of the key by which the scheduler signs leave to read results.
///
/// # Errors
/// When it does not answer.
pub async fn results_key(host: &str, port: u16) -> Result<String> {
    told(host, port, timeout(PATIENCE, ask(host, port, "GET", "/sinew/results-key", "")).await)
}

/// Tells the scheduler where an executor serves results.
///
/// # Errors
/// When it does not answer.
pub async fn serves_results(host: &str, port: u16, executor: &str, address: &str) -> Result<()> {
    let path = format!("/sinew/results/{executor}");
    told(host, port, timeout(PATIENCE, ask(host, port, "PUT", &path, address)).await).map(drop)
}

fn told(host: &str, port: u16, answer: std::result::Result<std::io::Result<String>, Elapsed>) -> Result<String> {
    let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
    answer.map_err(|source| SinewError::Io { what: format!("asking the scheduler at {host}:{port}"), source })
}

/// The body of an answer.
async fn ask(host: &str, port: u16, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    let request = format!("{head}Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.trim().to_string()),
        _ => Err(std::io::Error::other("what answers there is no Sinew scheduler")),
    }
}

fn compare(host: &str, port: u16, version: &str) -> Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    if version == own {
        return Ok(());
    }
    Err(SinewError::Version {
        what: format!("the scheduler at {host}:{port}"),
        theirs: version.into(),
        ours: own.into(),
    })
}
