//! Keeps the checkpoints of a training while it runs, beside its loop.
//!
//! ```text
//! loop ──offer──> the newest that waits ──> warehouse, one write at a time
//!                                      └──> a sign of life now and then
//! ```
//! A slow store never holds up the loop: a newer checkpoint takes the place of one that waits. A checkpoint that
//! cannot be written is a warning, not the end of the training.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Session;
use crate::error::Result;
use crate::warehouse::runs::{RunFolder, RunRecord};

/// A process counts as alive for so many signs of life that were missed.
const SIGNS: u32 = 3;
/// Between two signs of life.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(30);
/// What a training that has ended waits for the removal of its checkpoints.
const REMOVAL: Duration = Duration::from_secs(5);

/// The keepers of a process.
#[derive(Debug)]
pub struct Keepers {
    /// Whether trainings that are dropped keep their checkpoints.
    keep: AtomicBool,
    count: watch::Sender<usize>,
}

impl Default for Keepers {
    fn default() -> Self {
        Self { keep: AtomicBool::new(false), count: watch::channel(0).0 }
    }
}

impl Keepers {
    /// From now on a training that is dropped keeps its checkpoints.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::SeqCst);
    }

    /// Waits until no training is being kept or cleaned up after, at most so long.
    pub async fn settle(&self, most: Duration) {
        let mut count = self.count.subscribe();
        // What is left after that time is left for later.
        let _ = timeout(most, count.wait_for(|count| *count == 0)).await;
    }
}

/// Where a training stores its checkpoints.
#[derive(Debug)]
pub struct Place {
    /// The folder.
    pub folder: RunFolder,
    /// The number of the newest checkpoint there; `None` before the run was made known.
    pub newest: Option<u64>,
    /// The model's name.
    pub model: String,
    /// The statement as written.
    pub statement: String,
    /// Seconds between two checkpoints.
    pub every: u64,
}

impl Place {
    /// Between two signs of life.
    fn rhythm(&self) -> Duration {
        Duration::from_secs(self.every).clamp(SHORTEST, LONGEST)
    }

    /// How long the process counts as alive after one.
    pub fn lease(&self) -> Duration {
        self.rhythm() * SIGNS
    }
}

const RUNNING: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

/// Keeps the checkpoints of one training. Dropping it means that the training was cancelled.
#[derive(Debug)]
pub struct Keeper {
    newest: Option<watch::Sender<Arc<Vec<u8>>>>,
    end: Arc<AtomicU8>,
    task: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts keeping.
    pub fn start(session: &Session, place: Place) -> Self {
        let (sender, newest) = watch::channel(Arc::default());
        let end = Arc::new(AtomicU8::new(RUNNING));
        let keepers = Arc::clone(session.keepers());
        keepers.count.send_modify(|count| *count += 1);
        let resumed = place.newest.is_some();
        let work = Work {
            session: session.clone(),
            place,
            newest,
            end: Arc::clone(&end),
            resumed,
            _counted: Counted(keepers),
        };
        Self { newest: Some(sender), end, task: Some(tokio::spawn(work.run())) }
    }

    /// Takes a checkpoint; it takes the place of one that waits.
    pub fn offer(&self, bytes: Vec<u8>) {
        if let Some(newest) = &self.newest {
            newest.send_replace(Arc::new(bytes));
        }
    }

    /// The model is published: nothing is left to go on from.
    pub async fn done(self) {
        self.finish(DONE).await;
    }

    /// The training failed. One that was resumed can be resumed once more; it began well.
    pub async fn failed(self) {
        self.finish(FAILED).await;
    }

    async fn finish(mut self, end: u8) {
        self.end.store(end, Ordering::SeqCst);
        self.newest = None;
        if let Some(task) = self.task.take() {
            let _ = timeout(REMOVAL, task).await;
        }
    }
}

/// One keeper fewer, however its task ends.
#[derive(Debug)]
struct Counted(Arc<Keepers>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

/// The task beside the loop.
struct Work {
    session: Session,
    place: Place,
    newest: watch::Receiver<Arc<Vec<u8>>>,
    end: Arc<AtomicU8>,
    /// Whether the run was there before this training.
    resumed: bool,
    _counted: Counted,
}

impl Work {
    async fn run(mut self) {
        let mut signs = interval(self.place.rhythm());
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stored = tokio::select! {
                changed = self.newest.changed() => match changed {
                    Ok(()) if !self.removes() => self.store().await,
                    _ => break,
                },
                _ = signs.tick(), if self.place.newest.is_some() => self.place.folder.beat(self.place.lease()).await,
            };
            if let Err(error) = stored {
                log::warn!("the training of model '{}' goes on without a checkpoint: {error}", self.place.model);
            }
        }
        if self.place.newest.is_none() {
            return;
        }
        if self.removes() {
            self.place.folder.remove().await;
        } else {
            self.place.folder.release().await;
        }
    }

    /// Whether the run has ended in a way that leaves nothing.
    fn removes(&self) -> bool {
        match self.end.load(Ordering::SeqCst) {
            DONE => true,
            FAILED => !self.resumed,
            // Dropped: cancelled, or the process is about to end.
            _ => self.newest.has_changed().is_err() && !self.session.keepers().keep.load(Ordering::SeqCst),
        }
    }

    async fn store(&mut self) -> Result<()> {
        let bytes = Arc::clone(&self.newest.borrow_and_update());
        let folder = &self.place.folder;
        let number = match self.place.newest {
            Some(newest) => newest + 1,
            None => {
                let model = self.session.models().find(&self.place.model).await?;
                folder.begin(&RunRecord::new(&self.place.model, &self.place.statement, model.as_ref())).await?;
                1
            }
        };
        // Whatever is there from now on has to be removed.
        self.place.newest.get_or_insert(0);
        if number == 1 {
            folder.beat(self.place.lease()).await?;
        }
        self.place.newest = Some(folder.put_checkpoint(number, &bytes).await?);
        Ok(())
    }
}
