//! Where a warehouse lies: an address as written becomes a store and a path in it. Nothing is opened.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::config::SessionOptions;
use crate::error::{Result, SinewError};
use crate::storage::address::without_keys;

/// The folder used when none is named.
pub const DEFAULT_WAREHOUSE: &str = "./sinew-warehouse";

/// A store, and where in it the warehouse begins.
#[derive(Clone, Debug)]
pub struct Location {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The address by which plans name the store.
    pub url: ObjectStoreUrl,
    /// Path of the warehouse in the store.
    pub root: Path,
    /// The address as written, for messages.
    pub shown: String,
}

impl Location {
    /// A warehouse that lives and dies with this process.
    ///
    /// # Errors
    /// Never in practice: its address is one.
    pub fn memory() -> Result<Self> {
        Self::parse("memory://")
    }

    /// The warehouse at `address`, over stores of its own.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn parse(address: &str) -> Result<Self> {
        Self::open(address, crate::storage::registry(&SessionOptions::new())?.as_ref())
    }

    /// The warehouse at `address`: a path, or an address of a store. Looks at nothing on disk, and connects to
    /// nothing.
    ///
    /// # Errors
    /// When there is no such kind of store, its settings are wrong, or the path cannot be one.
    pub fn open(address: &str, stores: &dyn ObjectStoreRegistry) -> Result<Self> {
        let refuse = |reason: String| SinewError::Location { location: without_keys(address), reason };
        let (url, root) = match address.split_once("://") {
            None if address.is_empty() => return Err(refuse("the address is empty; name a folder".into())),
            None => (ObjectStoreUrl::local_filesystem(), local(FilePath::new(address)).map_err(refuse)?),
            Some(("memory", _)) => (ObjectStoreUrl::parse("memory://warehouse")?, Path::from("warehouse")),
            Some(("file", _)) => {
                let path = url::Url::parse(address).ok().and_then(|url| url.to_file_path().ok());
                let path = path.ok_or_else(|| refuse("a file address looks like file:///folder/name".into()))?;
                (ObjectStoreUrl::local_filesystem(), local(&path).map_err(refuse)?)
            }
            Some(_) => {
                let url = url::Url::parse(address).map_err(|e| refuse(format!("it is no address: {e}")))?;
                // Checked before anything of the address is shown: it may hold a key.
                crate::storage::address::bucket(&url)?;
                let root = Path::from_url_path(url.path()).map_err(|e| refuse(e.to_string()))?;
                (ObjectStoreUrl::parse(&url[..url::Position::BeforePath])?, root)
            }
        };
        let store = stores.get_store(url.as_ref())?;
        Ok(Self { store, url, root, shown: address.into() })
    }

    /// Whether a folder can be at a local address: what is there already must be folders.
    ///
    /// # Errors
    /// When a file is in the way.
    pub fn check(&self) -> Result<()> {
        if self.url != ObjectStoreUrl::local_filesystem() {
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

    /// The folder of this warehouse below its root.
    pub fn child(&self, part: &str) -> Path {
        self.root.clone().join(part)
    }
}

/// A folder's path in the store of local files.
fn local(path: &FilePath) -> Result<Path, String> {
    let absolute = std::path::absolute(path).map_err(|e| e.to_string())?;
    Path::from_absolute_path(clean(&absolute)).map_err(|e| e.to_string())
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
    fn a_bucket_is_a_store_and_a_path_in_it() -> Result<()> {
        let bucket = Location::parse("s3://bucket/some/wh")?;
        assert_eq!((bucket.url.as_str(), bucket.root.as_ref()), ("s3://bucket/", "some/wh"));
        bucket.check()?;
        assert_eq!(Location::parse("gs://bucket").map(|l| l.root.to_string()).ok(), Some(String::new()));
        assert_eq!(Location::memory()?.url.as_str(), "memory://warehouse/");
        Ok(())
    }

    #[test]
    fn sessions_of_one_process_share_the_stores() -> Result<()> {
        let stores = crate::storage::registry(&SessionOptions::new())?;
        let (a, b) = (Location::open("memory://", stores.as_ref())?, Location::open("memory://", stores.as_ref())?);
        assert!(Arc::ptr_eq(&a.store, &b.store));
        Ok(())
    }

    #[test]
    fn other_schemes_say_what_to_use() {
        for address in ["http://b/w", "ftp://x", ""] {
            let text = Location::parse(address).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
            assert!(text.starts_with("SINEW-3") && (text.contains("folder") || text.contains("s3://")), "{text}");
        }
    }
}
