//! The folder of an executor: its own below the one that was named, and gone when it ends.
//!
//! A process that was killed leaves its folder behind; the next one that starts beside it finds that nobody
//! holds the lock in it, and removes it. Files lie in a folder beside the lock: Ballista's clean-up expects
//! folders of jobs only.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use sinew::{Result, SinewError};

/// No other program has a file of this name: what lies beside it may be removed.
const LOCK: &str = "sinew-executor.lock";
const FILES: &str = "files";

/// A folder that is held by this process.
#[derive(Debug)]
pub struct Folder {
    own: PathBuf,
    files: PathBuf,
    _lock: File,
}

impl Folder {
    /// A new folder below `root`; removes those of processes that are gone.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn new(root: &Path, name: &str) -> Result<Self> {
        let own = root.join(name);
        let files = own.join(FILES);
        let failed = |source| SinewError::Io {
            what: format!("writing to the work folder '{}' (name another with --work-dir)", root.display()),
            source,
        };
        fs::create_dir_all(root).map_err(failed)?;
        // One at a time: a folder whose lock was not taken yet looks like that of a process that is gone.
        let gate = File::open(root).map_err(failed)?;
        gate.lock().map_err(failed)?;
        fs::create_dir_all(&files).map_err(failed)?;
        let lock = File::create(own.join(LOCK)).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::Error(source) => failed(source),
            TryLockError::WouldBlock => failed(std::io::Error::other("another executor uses it")),
        })?;
        sweep(root, &own);
        Ok(Self { own, files, _lock: lock })
    }

    /// Where its files go.
    pub fn path(&self) -> &Path {
        &self.files
    }

    /// Removes it; what cannot be removed is left to the next executor.
    pub fn remove(&self) {
        if let Err(error) = fs::remove_dir_all(&self.own) {
            log::warn!("cannot remove the work folder '{}': {error}", self.own.display());
        }
    }
}

/// Removes folders whose lock nobody holds.
fn sweep(root: &Path, own: &Path) {
    for folder in fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let lock = folder.join(LOCK);
        let dead = folder != own && File::open(&lock).is_ok_and(|file| file.try_lock().is_ok());
        if dead && fs::remove_dir_all(&folder).is_ok() {
            log::info!("removed '{}', which an executor that was killed had left", folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_the_dead_are_removed() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let root = tempfile::tempdir()?;
        let alive = Folder::new(root.path(), "alive")?;
        fs::create_dir(root.path().join("dead"))?;
        File::create(root.path().join("dead").join(LOCK))?;
        fs::create_dir(root.path().join("foreign"))?;
        File::create(root.path().join("foreign").join("lock"))?;
        let other = Folder::new(root.path(), "other")?;
        assert!(alive.path().exists() && other.path().exists());
        assert!(!root.path().join("dead").exists() && root.path().join("foreign").exists());
        assert!(Folder::new(root.path(), "alive").is_err());
        other.remove();
        assert!(!other.path().exists());
        Ok(())
    }
}
