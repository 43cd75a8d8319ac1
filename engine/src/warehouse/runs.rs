//! Trainings that have not ended: what they leave in the warehouse, so that another process can go on.
//!
//! ```text
//! runs/<run>/run.json                    which statement; written with the first checkpoint
//! runs/<run>/owners/00000002.json        who works on it; highest number wins
//! runs/<run>/alive.json                  until when the owner counts as alive; replaced again and again
//! runs/<run>/checkpoints/00000007.ckpt   where it stood; highest number that is whole wins
//! ```
//! All of it is removed when the training has ended in any way but the death of its process. Whoever creates the
//! next record of `owners` may go on; that `alive.json` has no conditional write does no harm, because two
//! owners would come to the same model.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::location::Location;
use super::process::Process;
use super::records::{Records, create, read_error, read_object, seal, shown, unseal, write_error};
use super::{FORMAT, ModelInfo};
use crate::error::{Result, SinewError};

/// Checkpoints that are kept: the newest, and one before it in case that is damaged.
const KEPT: u64 = 2;

/// What is trained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Format version of the record.
    pub format: u32,
    /// The model's name.
    pub model: String,
    /// The statement as written.
    pub statement: String,
    /// The newest version of the model at that time; 0 when it had none.
    pub version: u64,
    /// Milliseconds since 1970, UTC.
    pub started_ms: i64,
    /// Version of the engine.
    pub engine_version: String,
}

impl RunRecord {
    /// The record of a training that begins.
    pub fn new(model: &str, statement: &str, versions: Option<&ModelInfo>) -> Self {
        Self {
            format: FORMAT,
            model: model.into(),
            statement: statement.into(),
            version: newest(versions),
            started_ms: now_ms(),
            engine_version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// Whether the model got another version since, or was dropped: going on would undo that.
    pub fn is_overtaken(&self, versions: Option<&ModelInfo>) -> bool {
        let now = newest(versions);
        now > self.version || (now == 0 && self.version > 0)
    }
}

fn newest(model: Option<&ModelInfo>) -> u64 {
    model.and_then(|model| model.versions.last()).map_or(0, |version| version.version)
}

/// Who works on a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Owner {
    format: u32,
    /// The training; its rows may lie in folders of this name.
    attempt: String,
    process: Process,
}

/// A sign of life.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Alive {
    format: u32,
    /// Milliseconds since 1970, UTC.
    until_ms: i64,
}

/// Another process that works on a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process, in words.
    pub process: String,
    /// How long it counts as alive unless it says so again.
    pub lease: Duration,
}

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    location: Location,
    run: String,
}

impl RunFolder {
    /// The folder of that run. Nothing is opened or created.
    pub fn new(location: &Location, run: &str) -> Self {
        Self { location: location.clone(), run: run.into() }
    }

    /// The run's name.
    pub fn run(&self) -> &str {
        &self.run
    }

    fn path(&self, name: &str) -> Path {
        self.location.child("runs").join(self.run.as_str()).join(name)
    }

    fn checkpoint(&self, number: u64) -> Path {
        self.path("checkpoints").join(file_name(number))
    }

    fn owners(&self) -> Records {
        Records::new(self.location.store.clone(), self.path("owners"))
    }

    /// Makes the run known.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn begin(&self, record: &RunRecord) -> Result<()> {
        self.own(&self.run, 1).await?;
        let path = self.path("run.json");
        match create(&self.location.store, &path, seal(record)?).await {
            // The names of runs are not used twice: an earlier attempt to write this came through.
            Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(e) => Err(write_error(&path, e)),
        }
    }

    /// Takes the run over for training `attempt`; false when another process was quicker.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn take_over(&self, attempt: &str) -> Result<bool> {
        self.own(attempt, self.owners().next().await?).await
    }

    async fn own(&self, attempt: &str, number: u64) -> Result<bool> {
        let owner = Owner { format: FORMAT, attempt: attempt.into(), process: Process::this().clone() };
        self.owners().offer(number, &owner, 0).await
    }

    /// Says that the owner lives, and counts as alive for so long.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn beat(&self, lease: Duration) -> Result<()> {
        let alive = Alive { format: FORMAT, until_ms: now_ms() + lease.as_millis() as i64 };
        let path = self.path("alive.json");
        let put = self.location.store.put(&path, seal(&alive)?.into()).await;
        put.map(|_| ()).map_err(|e| write_error(&path, e))
    }

    /// Says that the owner has stopped.
    pub async fn release(&self) {
        self.delete(&self.path("alive.json")).await;
    }

    /// Another living process that owns the run.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn holder(&self) -> Result<Option<Holder>> {
        let path = self.path("alive.json");
        let alive = match read_object(&self.location.store, &path).await {
            Err(SinewError::Read { source: object_store::Error::NotFound { .. }, .. }) => return Ok(None),
            bytes => unseal::<Alive>(&path, &bytes?),
        };
        // A sign of life that was cut short is no sign.
        let Ok(alive) = alive else { return Ok(None) };
        let left = alive.until_ms - now_ms();
        if left <= 0 {
            return Ok(None);
        }
        let owner = self.owners().latest::<Owner>().await?.map(|(_, owner)| owner.process);
        Ok(owner.filter(|process| !process.is_gone()).map(|process| Holder {
            process: format!("process {} on {}", process.pid, process.host),
            lease: Duration::from_millis(left.unsigned_abs()),
        }))
    }

    /// Stores a checkpoint under a number, or a higher one if that is taken; returns the number. Those of two
    /// numbers before and less are removed.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_checkpoint(&self, mut number: u64, bytes: &[u8]) -> Result<u64> {
        loop {
            let path = self.checkpoint(number);
            match create(&self.location.store, &path, bytes.to_vec()).await {
                Ok(()) => break,
                Err(object_store::Error::AlreadyExists { .. }) => number += 1,
                Err(e) => return Err(write_error(&path, e)),
            }
        }
        if let Some(old) = number.checked_sub(KEPT).filter(|old| *old > 0) {
            self.delete(&self.checkpoint(old)).await;
        }
        Ok(number)
    }

    /// The numbers of all checkpoints in ascending order.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn checkpoints(&self) -> Result<Vec<u64>> {
        let folder = self.path("checkpoints");
        let names = self.location.store.list(Some(&folder)).try_collect::<Vec<_>>().await;
        let names = names.map_err(|e| read_error(&folder, e))?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|meta| number(meta.location.filename()?)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The newest checkpoint that passes the check, and the highest number there is.
    ///
    /// # Errors
    /// When the store cannot be read, or no checkpoint is whole.
    pub async fn newest(&self, check: impl Fn(&[u8]) -> std::result::Result<(), String>) -> Result<(Vec<u8>, u64)> {
        let numbers = self.checkpoints().await?;
        let mut reason = "there is none".to_string();
        for number in numbers.iter().rev() {
            let path = self.checkpoint(*number);
            let bytes = read_object(&self.location.store, &path).await?;
            match check(&bytes) {
                Ok(()) => return Ok((bytes, numbers.last().copied().unwrap_or(*number))),
                Err(why) => reason = why,
            }
            log::warn!("{} is not used, the one before it is: {reason}", shown(&path));
        }
        Err(SinewError::Damaged {
            path: shown(&self.path("checkpoints")),
            reason: format!("no checkpoint can be read: {reason}"),
            hint: "leave out RESUME to train anew".into(),
        })
    }

    /// Removes the run, first what makes it known; what cannot be removed stays.
    pub async fn remove(&self) {
        let attempts = self.attempts().await.unwrap_or_default();
        self.delete(&self.path("run.json")).await;
        crate::tables::remove_run(&self.location, &self.run).await;
        for attempt in attempts {
            crate::tables::remove_run(&self.location, &attempt).await;
        }
    }

    /// Folders of rows that earlier owners left when their process died.
    async fn attempts(&self) -> Result<Vec<String>> {
        let owners = self.owners();
        let numbers = owners.numbers().await?;
        if numbers.len() < 2 {
            return Ok(Vec::new());
        }
        let mut prefixes = Vec::new();
        for number in &numbers[..numbers.len() - 1] {
            prefixes.push(format!("{}-", owners.read::<Owner>(*number).await?.attempt));
        }
        let folders = folders(&self.location).await?;
        Ok(folders.into_iter().filter(|folder| prefixes.iter().any(|p| folder.starts_with(p.as_str()))).collect())
    }

    async fn delete(&self, path: &Path) {
        match self.location.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => log::debug!("removing {}: {error}", shown(path)),
        }
    }
}

/// A run that has checkpoints and has not ended.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// Its folder.
    pub folder: RunFolder,
    /// What it trains.
    pub record: RunRecord,
}

/// All runs that have not ended, the one that began last first.
///
/// # Errors
/// When the store cannot be read.
pub async fn unfinished(location: &Location) -> Result<Vec<Unfinished>> {
    let mut found = BTreeMap::new();
    for run in folders(location).await? {
        let folder = RunFolder::new(location, &run);
        let path = folder.path("run.json");
        let record = match read_object(&location.store, &path).await {
            Err(SinewError::Read { source: object_store::Error::NotFound { .. }, .. }) => continue,
            bytes => unseal::<RunRecord>(&path, &bytes?),
        };
        match record {
            Ok(record) if !folder.checkpoints().await?.is_empty() => {
                found.insert((record.started_ms, run), Unfinished { folder, record });
            }
            Ok(_) => {}
            Err(error) => log::warn!("an unfinished training cannot go on: {error}"),
        }
    }
    Ok(found.into_values().rev().collect())
}

/// The names of all folders of runs.
async fn folders(location: &Location) -> Result<Vec<String>> {
    let runs = location.child("runs");
    let listed = location.store.list_with_delimiter(Some(&runs)).await.map_err(|e| read_error(&runs, e))?;
    Ok(listed.common_prefixes.iter().filter_map(|path| path.filename().map(String::from)).collect())
}

fn file_name(number: u64) -> String {
    format!("{number:08}.ckpt")
}

fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".ckpt")?.parse().ok().filter(|number| file_name(*number) == name)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> std::result::Result<(), String> {
        if bytes.starts_with(b"whole") { Ok(()) } else { Err("cut".into()) }
    }

    #[tokio::test]
    async fn the_newest_whole_checkpoint_wins_and_old_ones_go() -> Result<()> {
        let location = Location::memory()?;
        let folder = RunFolder::new(&location, "r1");
        folder.begin(&RunRecord::new("m", "TRAIN MODEL m", None)).await?;
        assert!(unfinished(&location).await?.is_empty(), "there is nothing to go on from");
        for number in 1..=4 {
            assert_eq!(folder.put_checkpoint(number, format!("whole {number}").as_bytes()).await?, number);
        }
        assert_eq!(folder.checkpoints().await?, [3, 4]);
        assert_eq!(folder.newest(whole).await?, (b"whole 4".to_vec(), 4));
        assert_eq!(folder.put_checkpoint(4, b"torn").await?, 5);
        assert_eq!(folder.newest(whole).await?, (b"whole 4".to_vec(), 5));
        let all = unfinished(&location).await?;
        assert_eq!((all.len(), all[0].record.model.as_str()), (1, "m"));
        folder.remove().await;
        assert!(unfinished(&location).await?.is_empty());
        let left = location.store.list(None).try_collect::<Vec<_>>().await;
        assert!(left.as_ref().is_ok_and(Vec::is_empty), "{left:?}");
        Ok(())
    }

    #[tokio::test]
    async fn a_living_owner_is_seen_and_one_of_two_successors_wins() -> Result<()> {
        let location = Location::memory()?;
        let folder = RunFolder::new(&location, "r1");
        folder.begin(&RunRecord::new("m", "TRAIN MODEL m", None)).await?;
        assert_eq!(folder.holder().await?, None);
        folder.beat(Duration::from_secs(60)).await?;
        let holder = folder.holder().await?;
        assert!(holder.is_some_and(|h| h.lease > Duration::from_secs(50) && h.process.contains("process ")));
        folder.beat(Duration::ZERO).await?;
        assert_eq!(folder.holder().await?, None);
        folder.beat(Duration::from_secs(60)).await?;
        folder.release().await;
        assert_eq!(folder.holder().await?, None);
        let (a, b) = futures::try_join!(folder.own("a", 2), folder.own("b", 2))?;
        assert!(a != b, "one of them: {a} {b}");
        Ok(())
    }
}
