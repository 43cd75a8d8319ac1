//! After a restart: trainings that were interrupted go on, without anybody asking.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use sinew::{Interrupted, Result, Session};
use tokio::time::sleep;

use crate::members::Members;

/// Between two looks whether an executor is there.
const PAUSE: Duration = Duration::from_millis(200);

/// Goes on with every interrupted training of the warehouse once an executor has joined; returns when all of them
/// have ended.
pub async fn resume(session: Session, members: Arc<Members>) {
    let found = match session.interrupted().await {
        Ok(found) => found,
        Err(error) => return log::error!("interrupted trainings are not resumed: {error}"),
    };
    if found.is_empty() {
        return;
    }
    while members.slots() == 0 {
        sleep(PAUSE).await;
    }
    futures::future::join_all(found.into_iter().map(|training| one(session.sibling(), training))).await;
}

async fn one(session: Session, training: Interrupted) {
    let model = &training.model;
    if let Some(holder) = &training.holder {
        log::info!("the training of model '{model}' may still run in {}; looked at again later", holder.process);
        sleep(holder.lease + PAUSE).await;
    }
    log::info!("the training of model '{model}' was interrupted and goes on");
    match run(&session, &training.resume()).await {
        Ok(()) => log::info!("the training of model '{model}' that was interrupted has ended well"),
        Err(error) => log::error!("the training of model '{model}' that was interrupted: {error}"),
    }
}

async fn run(session: &Session, sql: &str) -> Result<()> {
    let mut statements = session.sql(sql);
    while let Some(execution) = statements.next().await {
        let mut execution = execution?;
        while let Some(batch) = execution.next().await {
            batch?;
        }
    }
    Ok(())
}
