//! An object store of which only some folders can be reached.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

use super::roots::{Roots, local_path};

/// A store behind [`Roots`].
pub struct Confined {
    inner: Arc<dyn ObjectStore>,
    gate: Gate,
}

/// What lets requests pass.
#[derive(Clone)]
struct Gate {
    roots: Arc<Roots>,
    /// The bucket; `None` means local files.
    key: Option<String>,
}

impl Confined {
    /// The store of the bucket `key`, or of local files.
    pub fn new(inner: Arc<dyn ObjectStore>, roots: Arc<Roots>, key: Option<String>) -> Self {
        Self { inner, gate: Gate { roots, key } }
    }
}

impl Gate {
    fn admit(&self, path: &Path) -> Result<()> {
        let admitted = match &self.key {
            None => self.roots.admit_path(&local_path(path)),
            Some(key) => self.roots.admit_object(key, path),
        };
        admitted.map_err(|error| Error::Generic { store: "roots", source: Box::new(error) })
    }

    /// What a listing found: a link may lead out of the folder that was listed. Folders are looked at once.
    fn found(&self, folders: &mut HashMap<PathBuf, bool>, path: &Path) -> bool {
        if self.key.is_some() {
            return self.admit(path).is_ok();
        }
        let file = local_path(path);
        let link = std::fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_symlink());
        match file.parent().filter(|_| !link && !self.roots.forbids_within(&file)) {
            Some(folder) => match folders.get(folder) {
                Some(known) => *known,
                None => {
                    let inside = self.roots.admit_path(folder).is_ok();
                    folders.insert(folder.to_path_buf(), inside);
                    inside
                }
            },
            None => self.roots.admit_path(&file).is_ok(),
        }
    }

    fn listed(self, items: BoxStream<'static, Result<ObjectMeta>>) -> BoxStream<'static, Result<ObjectMeta>> {
        let mut folders = HashMap::new();
        let inside = move |item: &Result<ObjectMeta>| match item {
            Ok(meta) => self.found(&mut folders, &meta.location),
            Err(_) => true,
        };
        let mut inside = inside;
        items.filter(move |item| std::future::ready(inside(item))).boxed()
    }
}

impl Roots {
    /// Whether something forbidden lies in the folder of a file, so that its neighbours say nothing about it.
    fn forbids_within(&self, file: &FilePath) -> bool {
        self.forbidden().iter().any(|never| never.parent() == file.parent())
    }
}

impl fmt::Debug for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner, f)
    }
}

/// The folder that a listing begins in.
fn start(prefix: Option<&Path>) -> Path {
    prefix.cloned().unwrap_or_default()
}

#[async_trait]
impl ObjectStore for Confined {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.gate.admit(location)?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.gate.admit(location)?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.gate.admit(location)?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.gate.admit(location)?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let gate = self.gate.clone();
        let admitted = locations.map(move |path| {
            let path = path?;
            gate.admit(&path).map(|()| path)
        });
        self.inner.delete_stream(admitted.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.gate.admit(&start(prefix)) {
            Ok(()) => self.gate.clone().listed(self.inner.list(prefix)),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.gate.admit(&start(prefix)) {
            Ok(()) => self.gate.clone().listed(self.inner.list_with_offset(prefix, offset)),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.gate.admit(&start(prefix))?;
        let mut found = self.inner.list_with_delimiter(prefix).await?;
        let mut folders = HashMap::new();
        found.objects.retain(|meta| self.gate.found(&mut folders, &meta.location));
        found.common_prefixes.retain(|path| self.gate.admit(path).is_ok());
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.gate.admit(from).and_then(|()| self.gate.admit(to))?;
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.gate.admit(from).and_then(|()| self.gate.admit(to))?;
        self.inner.rename_opts(from, to, options).await
    }
}
