//! RETRAIN and RESUME: the statement that trained a model once more, or the rest of one that was interrupted.

use std::time::Duration;

use sinew_ml::training::checkpoint::Checkpoint;
use sinew_sql::{ModelRef, Spelling, Statement, TrainStatement};

use super::Session;
use super::execution::Execution;
use super::keeper::Place;
use super::models::load_model;
use super::train;
use crate::error::{Result, SinewError};
use crate::run::new_run;
use crate::warehouse::runs::{Holder, Unfinished, unfinished};

/// A training that was interrupted, in this warehouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// The model's name.
    pub model: String,
    /// The statement as written.
    pub statement: String,
    /// The process that works on it, where one is known to live.
    pub holder: Option<Holder>,
}

impl Interrupted {
    /// The statement that goes on with it.
    pub fn resume(&self) -> String {
        Statement::Retrain { name: self.model.clone(), resume: true }.to_string()
    }
}

/// What a resumed training goes on from.
#[derive(Debug)]
pub struct Resumed {
    /// The name of the training that goes on.
    pub attempt: String,
    /// The newest checkpoint that is whole.
    pub checkpoint: Vec<u8>,
    /// Where later ones go.
    pub place: Place,
}

/// `RETRAIN MODEL name [RESUME]`.
pub async fn retrain(session: &Session, name: &str, resume: bool) -> Result<Execution> {
    if !resume {
        return train::run(session, &statement(session, name, false).await?).await;
    }
    let (found, train) = interrupted(session, name).await?;
    let resumed = take_over(session, found).await?;
    train::go_on(session, &train, Some(resumed)).await
}

/// The statement that `RETRAIN MODEL name [RESUME]` runs.
pub async fn statement(session: &Session, name: &str, resume: bool) -> Result<TrainStatement> {
    if resume {
        return Ok(interrupted(session, name).await?.1);
    }
    let (info, model) = load_model(session, &ModelRef { name: name.into(), version: None }).await?;
    let mut train = parse(&model.manifest.statement, &format!("version {} of model '{name}'", info.version))?;
    train.name = name.into();
    // The model exists; this adds a version.
    train.spelling = Spelling::Train;
    (train.resume, train.background) = (false, false);
    Ok(train)
}

/// The interrupted run of the same statement, if there is one that can go on.
pub async fn same(session: &Session, train: &TrainStatement) -> Result<Option<Resumed>> {
    let wanted = canonical(train);
    let mut found = None;
    for run in of_model(session, &train.name).await? {
        if parse(&run.record.statement, run.folder.run()).is_ok_and(|train| canonical(&train) == wanted) {
            found = Some(run);
            break;
        }
    }
    let Some(run) = found else { return Ok(None) };
    match take_over(session, run).await {
        Err(error @ SinewError::Damaged { .. }) => {
            log::warn!("model '{}' is trained from the start: {error}", train.name);
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// All trainings of this warehouse that were interrupted and can go on, one for each model.
pub async fn all(session: &Session) -> Result<Vec<Interrupted>> {
    let mut found: Vec<Interrupted> = Vec::new();
    for run in unfinished(session.location()).await? {
        let known = found.iter().any(|other| other.model == run.record.model);
        if known || ended(session, &run).await? {
            continue;
        }
        let holder = run.folder.holder().await?;
        found.push(Interrupted { model: run.record.model, statement: run.record.statement, holder });
    }
    Ok(found)
}

async fn interrupted(session: &Session, name: &str) -> Result<(Unfinished, TrainStatement)> {
    let run = of_model(session, name).await?.into_iter().next();
    let run = run.ok_or_else(|| SinewError::NothingToResume { model: name.into() })?;
    let train = parse(&run.record.statement, &format!("run {}", run.folder.run()))?;
    Ok((run, train))
}

/// The interrupted runs of a model, the newest first.
async fn of_model(session: &Session, name: &str) -> Result<Vec<Unfinished>> {
    let mut runs = Vec::new();
    for run in unfinished(session.location()).await? {
        if run.record.model == name && !ended(session, &run).await? {
            runs.push(run);
        }
    }
    Ok(runs)
}

/// Whether a run has nothing to go on for: the model got another version since. What it left is removed.
async fn ended(session: &Session, run: &Unfinished) -> Result<bool> {
    let model = session.models().find(&run.record.model).await?;
    if !run.record.is_overtaken(model.as_ref()) {
        return Ok(false);
    }
    if run.folder.holder().await?.is_none() {
        run.folder.remove().await;
    }
    Ok(true)
}

async fn take_over(session: &Session, run: Unfinished) -> Result<Resumed> {
    let Unfinished { folder, record } = run;
    let held = |holder: Option<Holder>| {
        let process = holder.as_ref().map_or("another process".into(), |holder| holder.process.clone());
        let lease = holder.map_or(Duration::ZERO, |holder| holder.lease);
        SinewError::StillRunning { model: record.model.clone(), process, seconds: lease.as_secs() + 1 }
    };
    if let Some(holder) = folder.holder().await? {
        return Err(held(Some(holder)));
    }
    let check = |bytes: &[u8]| Checkpoint::decode(bytes).map(|_| ()).map_err(|e| e.to_string());
    let (checkpoint, newest) = folder.newest(check).await?;
    let attempt = new_run();
    if !folder.take_over(&attempt).await? {
        return Err(held(None));
    }
    let every = train::checkpoint_interval(session);
    let place = Place { folder, newest: Some(newest), model: record.model, statement: record.statement, every };
    place.folder.beat(place.lease()).await?;
    Ok(Resumed { attempt, checkpoint, place })
}

fn parse(text: &str, whose: &str) -> Result<TrainStatement> {
    match sinew_sql::parse(text)?.pop() {
        Some(Statement::Train(train)) => Ok(*train),
        _ => Err(SinewError::Internal(format!("the statement of {whose} trains nothing"))),
    }
}

/// The statement without what does not change its model.
fn canonical(train: &TrainStatement) -> String {
    TrainStatement { resume: false, ..train.clone() }.to_string()
}
