//! The report of a training: its iterations so far, and the rows that tell of them.

use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use tokio::sync::mpsc::Sender;

use super::TrainSpec;
use super::checkpoint::{Checkpoint, Clock, Origin};
use super::devices::Learnt;
use super::report::{self, ReportRow};
use crate::error::{MlError, Result};
use crate::model::IterationRecord;
use crate::optimizer::Iteration;

/// The iterations so far, and where their rows go. The latest row waits, since the last carries the model.
pub(super) struct History {
    pub rows: Sender<datafusion::error::Result<RecordBatch>>,
    pub last: Option<ReportRow>,
    pub since: Instant,
    pub iterations: Vec<IterationRecord>,
    pub run: ReportRow,
    pub clock: Clock,
}

impl History {
    /// Goes on where a checkpoint was taken.
    pub fn go_on(&mut self, checkpoint: Checkpoint) {
        let duration_ms = checkpoint.iterations.last().map_or(0.0, |record| record.duration_ms);
        self.last = checkpoint.last.map(|iteration| ReportRow { iteration, duration_ms, ..self.run.clone() });
        self.iterations = checkpoint.iterations;
    }

    /// The loss of the held-out rows at the last point, where the iteration did not tell.
    pub fn held_out(&mut self, loss: f64) {
        if let (Some(row), Some(record)) = (&mut self.last, self.iterations.last_mut()) {
            row.iteration.eval_loss.get_or_insert(loss);
            record.eval_loss.get_or_insert(loss);
        }
    }

    /// Sends a checkpoint, in a row of its own.
    pub async fn checkpoint(
        &self,
        spec: &TrainSpec,
        origin: &Origin,
        (devices, state): (&Learnt, Vec<u8>),
    ) -> Result<()> {
        let checkpoint = Checkpoint {
            engine_version: spec.engine_version.clone(),
            origin: origin.clone(),
            iterations: self.iterations.clone(),
            last: self.last.as_ref().map(|row| row.iteration.clone()),
            devices: devices.clone(),
            state,
        };
        self.give(report::checkpoint(&checkpoint.encode()?)?).await
    }

    pub async fn add(&mut self, iteration: Iteration) -> Result<()> {
        let duration_ms = self.since.elapsed().as_micros() as f64 / 1e3;
        self.since = Instant::now();
        self.iterations.push(IterationRecord {
            iteration: iteration.number,
            loss: iteration.objective,
            eval_loss: iteration.eval_loss,
            learning_rate: iteration.learning_rate,
            gradient_norm: iteration.gradient_norm,
            duration_ms,
        });
        let row = ReportRow { iteration, duration_ms, ..self.run.clone() };
        match self.last.replace(row) {
            Some(row) => self.send(row).await,
            None => Ok(()),
        }
    }

    pub async fn finish(&mut self, artifact: Vec<u8>) -> Result<()> {
        let row = self.last.take().unwrap_or_else(|| self.run.clone());
        self.send(ReportRow { artifact: Some(artifact), ..row }).await
    }

    async fn send(&self, row: ReportRow) -> Result<()> {
        self.give(row.batch()?).await
    }

    async fn give(&self, batch: RecordBatch) -> Result<()> {
        // A closed channel means that nobody wants the model any more: the run ends as cancelled.
        self.rows.send(Ok(batch)).await.map_err(|_| MlError::Numeric { reason: "the statement was cancelled".into() })
    }
}
