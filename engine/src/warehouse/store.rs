//! Models in an object store.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use super::location::Location;
use super::models::{
    Artifact, FileInfo, MANIFEST_FILE, ModelCatalog, ModelInfo, ModelRef, PublishMode, Refs, Selector, VersionInfo,
    WEIGHTS_FILE, unknown_model,
};
use super::name::{decode, encode};
use super::records::{Records, create, read_error, read_object, sha256, write_error};
use crate::error::{Result, SinewError};

/// Records read at the same time.
const READERS: usize = 16;

/// A [`ModelCatalog`] in the warehouse. Opening one reads and creates nothing.
#[derive(Clone, Debug)]
pub struct StoreCatalog {
    store: Arc<dyn ObjectStore>,
    models: Path,
}

impl StoreCatalog {
    /// The models of the warehouse at `location`.
    pub fn new(location: &Location) -> Self {
        Self { store: Arc::clone(&location.store), models: location.child("models") }
    }

    fn folder(&self, name: &str) -> Result<Path> {
        Ok(self.models.clone().join(encode(name)?))
    }

    fn records(&self, folder: &Path, kind: &str) -> Records {
        Records::new(Arc::clone(&self.store), folder.clone().join(kind))
    }

    async fn refs(&self, folder: &Path) -> Result<Refs> {
        Ok(self.records(folder, "refs").latest().await?.map(|(_, refs)| refs).unwrap_or_default())
    }

    /// The versions that were not dropped, in ascending order.
    async fn live(&self, folder: &Path, refs: &Refs) -> Result<Vec<VersionInfo>> {
        let records = self.records(folder, "versions");
        let numbers = records.numbers().await?.into_iter().filter(|n| refs.is_live(*n)).collect::<Vec<_>>();
        futures::stream::iter(numbers)
            .map(|n| {
                let records = records.clone();
                async move { records.read::<VersionInfo>(n).await }
            })
            .buffered(READERS)
            .try_collect()
            .await
    }

    async fn unknown(&self, name: &str) -> SinewError {
        // The list only serves the hint: what is wrong with other models is not this reader's trouble.
        unknown_model(name, &self.list().await.unwrap_or_default())
    }

    /// Writes one file of a run. The same bytes may lie there already: a retry of the same run.
    async fn write_file(&self, data: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        let path = data.clone().join(name);
        match create(&self.store, &path, bytes.to_vec()).await {
            Ok(()) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. }) if read_object(&self.store, &path).await? == bytes => Ok(()),
            Err(e) => Err(write_error(&path, e)),
        }
    }

    async fn read_file(&self, reference: &ModelRef, data: &Path, files: &[FileInfo], name: &str) -> Result<Vec<u8>> {
        let path = data.clone().join(name);
        let damaged = |reason: String| SinewError::Damaged {
            path: format!("'{path}'"),
            reason,
            hint: format!(
                "restore the file, use another version (SHOW VERSIONS OF MODEL {}), or train the model again",
                reference.name
            ),
        };
        let info = files.iter().find(|f| f.name == name);
        let info = info.ok_or_else(|| damaged("its version record does not list it".into()))?;
        let bytes = match read_object(&self.store, &path).await {
            Err(SinewError::Read { source: object_store::Error::NotFound { .. }, .. }) => {
                return Err(damaged("the file is missing".into()));
            }
            other => other?,
        };
        if bytes.len() as u64 != info.size {
            return Err(damaged(format!("it has {} bytes and had {}", bytes.len(), info.size)));
        }
        if sha256(&bytes) != info.sha256 {
            return Err(damaged("its checksum does not match".into()));
        }
        Ok(bytes)
    }

    fn data(&self, folder: &Path, run: &str) -> Result<Path> {
        Ok(folder.clone().join("data").join(encode(run)?))
    }
}

#[async_trait]
impl ModelCatalog for StoreCatalog {
    async fn publish(&self, name: &str, artifact: &Artifact, mode: PublishMode) -> Result<VersionInfo> {
        let folder = self.folder(name)?;
        let mut info = VersionInfo::describe(artifact, 0, mode.promote)?;
        if mode.must_be_new && self.find(name).await?.is_some() {
            return Err(SinewError::ModelExists { name: name.into() });
        }
        let data = self.data(&folder, &info.run)?;
        self.write_file(&data, WEIGHTS_FILE, &artifact.weights).await?;
        self.write_file(&data, MANIFEST_FILE, &artifact.manifest).await?;
        let versions = self.records(&folder, "versions");
        for attempt in 0.. {
            info.version = versions.next().await?;
            if mode.must_be_new && self.find(name).await?.is_some() {
                return Err(SinewError::ModelExists { name: name.into() });
            }
            if versions.offer(info.version, &info, attempt).await? {
                break;
            }
        }
        Ok(info)
    }

    async fn load(&self, reference: &ModelRef) -> Result<(VersionInfo, Artifact)> {
        let folder = self.folder(&reference.name)?;
        // A number needs no other record, so a damaged one beside it does no harm.
        let info = match &reference.selector {
            Selector::Version(number) => {
                let live = self.refs(&folder).await?.is_live(*number);
                match self.records(&folder, "versions").read::<VersionInfo>(*number).await {
                    Ok(info) if live => Some(info),
                    Err(e) if !matches!(&e, SinewError::Read { source: object_store::Error::NotFound { .. }, .. }) => {
                        return Err(e);
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let info = match info {
            Some(info) => info,
            None => match self.find(&reference.name).await? {
                Some(model) => model.select(&reference.selector)?.clone(),
                None => return Err(self.unknown(&reference.name).await),
            },
        };
        let data = self.data(&folder, &info.run)?;
        let (manifest, weights) = futures::try_join!(
            self.read_file(reference, &data, &info.files, MANIFEST_FILE),
            self.read_file(reference, &data, &info.files, WEIGHTS_FILE),
        )?;
        Ok((info, Artifact { manifest, weights }))
    }

    async fn list(&self) -> Result<Vec<ModelInfo>> {
        let listed = self.store.list_with_delimiter(Some(&self.models)).await;
        let listed = listed.map_err(|e| read_error(&self.models, e))?;
        let names: Vec<String> = listed.common_prefixes.iter().filter_map(|p| decode(p.filename()?)).collect();
        let found: Vec<Option<ModelInfo>> = futures::stream::iter(names)
            .map(|name| async move { self.find(&name).await })
            .buffered(READERS)
            .try_collect()
            .await?;
        let mut models: Vec<ModelInfo> = found.into_iter().flatten().collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    async fn find(&self, name: &str) -> Result<Option<ModelInfo>> {
        let folder = self.folder(name)?;
        let refs = self.refs(&folder).await?;
        let versions = self.live(&folder, &refs).await?;
        Ok(refs.view(name, versions))
    }

    async fn remove(&self, name: &str, version: Option<u64>) -> Result<()> {
        let folder = self.folder(name)?;
        let versions = self.records(&folder, "versions");
        let records = self.records(&folder, "refs");
        for attempt in 0.. {
            let number = records.next().await?;
            // Only numbers are looked at, so that a damaged version can be dropped.
            let refs = self.refs(&folder).await?;
            let numbers = versions.numbers().await?;
            let live: Vec<u64> = numbers.iter().copied().filter(|n| refs.is_live(*n)).collect();
            // All numbers count, dropped ones too, or a drop of the model would bring those back.
            let Some(&highest) = numbers.last().filter(|_| !live.is_empty()) else {
                return Err(self.unknown(name).await);
            };
            if let Some(version) = version.filter(|v| !live.contains(v)) {
                return Err(SinewError::UnknownVersion {
                    name: name.into(),
                    version: version.to_string(),
                    known: live.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
                });
            }
            if records.offer(number, &refs.without(version, highest), attempt).await? {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
