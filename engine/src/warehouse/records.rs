//! Numbered records: everything that changes in a warehouse.
//!
//! A folder of records holds `00000001.json`, `00000002.json`, .. Each is created once, with the one
//! conditional write that every store has, and never replaced; the highest number wins. Two writers who
//! want the same number get two numbers: the one who comes second looks again and takes the next.
//!
//! A record is `{"sha256":"..","record":{..}}`, where the digest is that of the record's text, so that a
//! truncated or altered one is noticed.

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::{Result, SinewError};

/// Attempts at a free number before a writer gives up.
const ATTEMPTS: u32 = 1_000;
const HEAD: &str = "{\"sha256\":\"";
const MIDDLE: &str = "\",\"record\":";

/// Where a model or table went wrong, and what the reader can do.
const READ_HINT: &str = "check that the warehouse folder is there and may be read";
const WRITE_HINT: &str =
    "check that the warehouse folder may be written and its disk is not full, or name another with --warehouse";

/// One folder of numbered records.
#[derive(Clone, Debug)]
pub struct Records {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl Records {
    /// The records of `folder`. Nothing is opened or created.
    pub fn new(store: Arc<dyn ObjectStore>, folder: Path) -> Self {
        Self { store, folder }
    }

    /// All numbers in ascending order; none when the folder is not there.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn numbers(&self) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let mut entries = self.store.list(Some(&self.folder));
        while let Some(entry) = entries.try_next().await.map_err(|e| read_error(&self.folder, e))? {
            let name = entry.location.filename().unwrap_or_default();
            // An aborted write may leave other files; a record has exactly this form.
            if let Some(number) = name.strip_suffix(".json").and_then(|n| n.parse::<u64>().ok())
                && file_name(number) == name
                && entry.location.prefix_match(&self.folder).is_some_and(|rest| rest.count() == 1)
            {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The record of that number.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is damaged.
    pub async fn read<T: DeserializeOwned>(&self, number: u64) -> Result<T> {
        let path = self.path(number);
        let bytes = read_object(&self.store, &path).await?;
        unseal(&path, &bytes)
    }

    /// The record with the highest number.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub async fn latest<T: DeserializeOwned>(&self) -> Result<Option<(u64, T)>> {
        match self.numbers().await?.last() {
            Some(&number) => Ok(Some((number, self.read(number).await?))),
            None => Ok(None),
        }
    }

    /// The number after the highest.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn next(&self) -> Result<u64> {
        Ok(self.numbers().await?.last().copied().unwrap_or(0) + 1)
    }

    /// Adds a record under a number, if that is still free. Otherwise waits a little, longer after more
    /// `attempts`, and returns false: look again, and offer what is right then.
    ///
    /// # Errors
    /// When the store cannot be written, or too many attempts were lost. After an error other than
    /// [`SinewError::Contention`] the record may be there.
    pub async fn offer<T: Serialize + Sync>(&self, number: u64, record: &T, attempt: u32) -> Result<bool> {
        let path = self.path(number);
        let bytes = seal(record)?;
        match create(&self.store, &path, bytes.clone()).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => {
                // A request that was repeated finds what its first attempt wrote: that is this writer's own record.
                if read_object(&self.store, &path).await? == bytes {
                    return Ok(true);
                }
                if attempt >= ATTEMPTS {
                    return Err(SinewError::Contention { path: shown(&self.folder), attempts: ATTEMPTS });
                }
                tokio::time::sleep(std::time::Duration::from_micros(u64::from(attempt.min(40)) * 100)).await;
                Ok(false)
            }
            Err(e) => Err(write_error(&path, e)),
        }
    }

    /// Adds a record that is right whatever its number is, and returns the number.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn append<T: Serialize + Sync>(&self, record: &T) -> Result<u64> {
        let mut attempt = 0;
        loop {
            let number = self.next().await?;
            if self.offer(number, record, attempt).await? {
                return Ok(number);
            }
            attempt += 1;
        }
    }

    /// Path of the record of that number.
    pub fn path(&self, number: u64) -> Path {
        self.folder.clone().join(file_name(number))
    }
}

/// `00000007.json`.
fn file_name(number: u64) -> String {
    format!("{number:08}.json")
}

/// Writes an object that is not there yet.
pub async fn create(store: &Arc<dyn ObjectStore>, path: &Path, bytes: Vec<u8>) -> object_store::Result<()> {
    let options = PutOptions { mode: PutMode::Create, ..Default::default() };
    store.put_opts(path, PutPayload::from(bytes), options).await.map(|_| ())
}

/// Reads a whole object.
///
/// # Errors
/// When it is not there or cannot be read.
pub async fn read_object(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Vec<u8>> {
    let read = async { store.get(path).await?.bytes().await };
    Ok(read.await.map_err(|e| read_error(path, e))?.to_vec())
}

/// A path as messages show it.
pub fn shown(path: &Path) -> String {
    format!("'/{path}'")
}

/// An error of reading `path`.
pub fn read_error(path: &Path, source: object_store::Error) -> SinewError {
    // A store over a network says more than the hint for folders does.
    match crate::storage::failure::ours(source) {
        Ok(ours) => ours,
        Err(source) => SinewError::Read { path: shown(path), hint: READ_HINT.into(), source },
    }
}

/// An error of writing `path`.
pub fn write_error(path: &Path, source: object_store::Error) -> SinewError {
    match crate::storage::failure::ours(source) {
        Ok(ours) => ours,
        Err(source) => SinewError::Write { path: shown(path), hint: WRITE_HINT.into(), source },
    }
}

/// The digest of `bytes` in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A record as the bytes of its file.
pub(super) fn seal<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let body = serde_json::to_string(record).map_err(|e| SinewError::Internal(format!("writing a record: {e}")))?;
    Ok(format!("{HEAD}{}{MIDDLE}{body}}}\n", sha256(body.as_bytes())).into_bytes())
}

/// What [`seal`] wrote.
pub(super) fn unseal<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    let damaged = |reason: &str| SinewError::Damaged {
        path: shown(path),
        reason: reason.into(),
        hint: "restore the file from a copy, or name another version".into(),
    };
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let (digest, body) = text
        .strip_prefix(HEAD)
        .and_then(|rest| rest.split_once(MIDDLE))
        .and_then(|(digest, rest)| Some((digest, rest.strip_suffix("}\n")?)))
        .ok_or_else(|| damaged("it is cut short or not a record"))?;
    if digest != sha256(body.as_bytes()) {
        return Err(damaged("its checksum does not match"));
    }
    // The digest holds, so whatever does not fit was written by another version of this program.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_str(body).map_err(|e| damaged(&e.to_string()))?;
    if version.format > super::KNOWN_FORMAT {
        return Err(SinewError::Format { path: shown(path), format: version.format, known: super::KNOWN_FORMAT });
    }
    serde_json::from_str(body).map_err(|e| damaged(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Note {
        format: u32,
        text: String,
    }

    fn note(text: &str) -> Note {
        Note { format: 1, text: text.into() }
    }

    #[tokio::test]
    async fn the_highest_number_wins_and_nothing_is_replaced() -> Result<()> {
        let records = Records::new(Arc::new(InMemory::new()), Path::from("w/r"));
        assert_eq!(records.latest::<Note>().await?, None);
        assert_eq!(records.append(&note("a")).await?, 1);
        assert_eq!(records.append(&note("b")).await?, 2);
        assert_eq!(records.latest::<Note>().await?, Some((2, note("b"))));
        assert_eq!(records.read::<Note>(1).await?, note("a"));
        let again = create(&records.store, &records.path(1), vec![]).await;
        assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })));
        Ok(())
    }

    #[test]
    fn every_truncation_and_every_flipped_bit_is_noticed() -> Result<()> {
        let path = Path::from("w/r/00000001.json");
        let bytes = seal(&note("some text"))?;
        assert_eq!(unseal::<Note>(&path, &bytes)?, note("some text"));
        for at in 0..bytes.len() {
            assert!(unseal::<Note>(&path, &bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                // Hexadecimal digits of the digest are compared as text, so case matters too.
                assert!(unseal::<Note>(&path, &other).is_err(), "bit {bit} of byte {at}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_newer_format_is_named() -> Result<()> {
        let bytes = seal(&Note { format: 99, text: String::new() })?;
        let error = unseal::<Note>(&Path::from("r"), &bytes).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
        assert!(error.starts_with("SINEW-3109"), "{error}");
        Ok(())
    }
}
