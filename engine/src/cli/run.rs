//! Running a script, and one statement of it.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::time::MissedTickBehavior;

use super::args::Settings;
use super::output::{Format, Writer};
use super::progress::Progress;
use super::signals::{INTERRUPTED, Signals};
use crate::error::{Result, SinewError};
use crate::session::{Execution, ExecutionKind, Piece, Session};

/// How often the line about a training changes where it has nothing new to say.
const TICK: Duration = Duration::from_secs(1);
/// What a cancelled training has to remove its checkpoints.
const SETTLE: Duration = Duration::from_millis(500);

/// How a script ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every statement ran.
    Done,
    /// A statement failed; the error is written.
    Failed,
    /// The reader of our output went away.
    Closed,
    /// A signal came; the exit code that belongs to it.
    Signalled(u8),
}

/// What one statement wrote.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// What kind of statement it was.
    pub kind: ExecutionKind,
    /// From the start of planning to the last row.
    pub time: Duration,
}

/// Runs every statement of a script, up to the first that fails or a signal.
pub async fn script(session: &Session, script: &str, settings: &Settings) -> Outcome {
    let mut signals = Signals::listen_for_script();
    let mut statements = session.sql(script);
    while let Some(piece) = statements.skip().cloned() {
        let result = tokio::select! {
            result = statement(session, &piece, settings.format, settings.quiet) => result,
            code = signals.next() => {
                // The training was dropped with its statement, and leaves nothing.
                session.settle(SETTLE).await;
                let signal = if code == INTERRUPTED { "interrupted" } else { "terminated" };
                eprintln!("sinew: statement {} (line {}): {signal}: {}", piece.number, piece.line, SinewError::Cancelled);
                return Outcome::Signalled(code);
            }
        };
        match result {
            Ok(_) => {}
            Err(Failure::Closed) => return Outcome::Closed,
            Err(Failure::Statement(error)) => {
                eprintln!("sinew: statement {} (line {}): {error}", piece.number, piece.line);
                return Outcome::Failed;
            }
        }
    }
    Outcome::Done
}

/// Why a statement did not end.
#[derive(Debug)]
pub enum Failure {
    /// It failed.
    Statement(SinewError),
    /// The reader of our output went away.
    Closed,
}

impl From<SinewError> for Failure {
    fn from(error: SinewError) -> Self {
        match &error {
            SinewError::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Statement(error),
        }
    }
}

/// Runs one statement and writes its result to standard output.
pub async fn statement(
    session: &Session,
    piece: &Piece,
    format: Format,
    quiet: bool,
) -> std::result::Result<Written, Failure> {
    let start = Instant::now();
    let execution = session.run(piece).await?;
    let kind = execution.kind();
    write(execution, format, quiet).await?;
    Ok(Written { kind, time: start.elapsed() })
}

/// Writes a result to standard output as it comes, and then what a training warns of to standard error.
///
/// # Errors
/// When the statement fails or standard output cannot be written.
pub async fn write(mut execution: Execution, format: Format, quiet: bool) -> Result<()> {
    let training = execution.kind() == ExecutionKind::Training;
    let mut progress = Progress::new(training && !quiet);
    let stdout = std::io::stdout();
    let terminal = stdout.is_terminal();
    let schema = execution.schema();
    let mut writer = match training {
        true => Writer::of_training(format, schema, terminal, !quiet),
        false => Writer::new(format, schema, terminal, !quiet),
    };
    // A training reads its rows before it has anything to report, and an iteration may take long.
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let batch = tokio::select! {
            batch = execution.next() => batch,
            _ = ticks.tick(), if training => {
                progress.tick();
                continue;
            }
        };
        let Some(batch) = batch else { break };
        let batch = batch.inspect_err(|_| progress.clear())?;
        if training {
            progress.report(&batch);
        }
        let ready = writer.batch(&batch)?;
        if !ready.is_empty() {
            progress.clear();
            put(&ready)?;
        }
    }
    progress.clear();
    put(&writer.end()?)?;
    if !quiet {
        for warning in execution.warnings() {
            eprintln!("warning: {}", warning.replace('\n', " "));
        }
    }
    Ok(())
}

/// Writes bytes to standard output at once.
fn put(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(bytes).and_then(|()| stdout.flush());
    written.map_err(|source| SinewError::Io { what: "writing the result".into(), source })
}
