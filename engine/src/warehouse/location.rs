//! Where a warehouse lies: an address as written becomes a store and a path in it. Nothing is opened.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::error::{Result, SinewError};

/// The folder used when none is named.
pub const DEFAULT_WAREHOUSE: &str = "./sinew-warehouse";

/// A store, and where in it the warehouse begins.
#[derive(Clone, Debug)]
pub struct Location {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// Path of the warehouse in the store.
    pub root: Path,
    /// The address as written, for messages.
    pub shown: String,
}

impl Location {
    /// A warehouse that lives and dies with this process.
    pub fn memory() -> Self {
        Self { store: Arc::new(InMemory::new()), root: Path::from("warehouse"), shown: "memory".into() }
    }

    /// The warehouse at `address`: a path, or a `file:`, `memory:` address. Looks at nothing on disk.
    ///
    /// # Errors
    /// When the scheme is not available or the path cannot be one.
    pub fn parse(address: &str) -> Result<Self> {
        let refuse = |reason: String| SinewError::Location { location: address.into(), reason };
        let path = match address.split_once("://") {
            None if address.is_empty() => return Err(refuse("the address is empty; name a folder".into())),
            None => PathBuf::from(address),
            Some(("memory", _)) => return Ok(Self::memory()),
            Some(("file", _)) => url::Url::parse(address)
                .ok()
                .and_then(|url| url.to_file_path().ok())
                .ok_or_else(|| refuse("a file address looks like file:///folder/name".into()))?,
            Some((
                scheme @ ("s3" | "s3a" | "gs" | "gcs" | "az" | "abfs" | "abfss" | "azure" | "http" | "https"),
                _,
            )) => {
                return Err(refuse(format!(
                    "{scheme}:// is not available in this version; use a folder, such as {DEFAULT_WAREHOUSE}"
                )));
            }
            Some((scheme, _)) => {
                return Err(refuse(format!("'{scheme}' is no known scheme; use a folder or a file:// address")));
            }
        };
        let absolute = std::path::absolute(&path).map_err(|e| refuse(e.to_string()))?;
        let root = Path::from_absolute_path(clean(&absolute)).map_err(|e| refuse(e.to_string()))?;
        Ok(Self { store: Arc::new(LocalFileSystem::new()), root, shown: address.into() })
    }

    /// Whether a folder can be at a local address: what is there already must be folders.
    ///
    /// # Errors
    /// When a file is in the way.
    pub fn check(&self) -> Result<()> {
        if self.shown == "memory" {
            return Ok(());
        }
        let path = PathBuf::from(format!("/{}", self.root));
        match path.ancestors().find(|part| part.exists()).filter(|part| !part.is_dir()) {
            None => Ok(()),
            Some(file) => Err(SinewError::Location {
                location: self.shown.clone(),
                reason: format!("{} is not a folder; name a folder with --warehouse", file.display()),
            }),
        }
    }

    /// The address under which plans find the store.
    ///
    /// # Errors
    /// Never: the addresses are valid.
    pub fn object_store_url(&self) -> Result<ObjectStoreUrl> {
        Ok(ObjectStoreUrl::parse(if self.shown == "memory" { "memory://warehouse" } else { "file:///" })?)
    }

    /// The folder of this warehouse below its root.
    pub fn child(&self, part: &str) -> Path {
        self.root.clone().join(part)
    }
}

/// The path without `.` and `..`, by its text alone.
fn clean(path: &FilePath) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_paths_without_touching_the_disk() -> Result<()> {
        let folder = Location::parse("/nowhere/at all/../w")?;
        assert_eq!(folder.root.as_ref(), "nowhere/w");
        assert_eq!(Location::parse("file:///nowhere/w")?.root.as_ref(), "nowhere/w");
        assert!(Location::parse("sinew-warehouse")?.root.as_ref().ends_with("sinew-warehouse"));
        Ok(())
    }

    #[test]
    fn other_schemes_say_what_to_use() {
        for address in ["s3://bucket/w", "gs://b", "az://c", "ftp://x", ""] {
            let text = Location::parse(address).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
            assert!(text.starts_with("SINEW-3105") && text.contains("folder"), "{text}");
        }
    }
}
