//! Models that live as long as the process.

use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::models::{Artifact, ModelCatalog, ModelInfo, ModelRef, PublishMode, Refs, VersionInfo, unknown_model};
use super::name::encode;
use crate::error::{Result, SinewError};

/// A [`ModelCatalog`] in memory.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    models: Mutex<BTreeMap<String, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    versions: Vec<(VersionInfo, Artifact)>,
    refs: Refs,
}

impl Entry {
    fn view(&self, name: &str) -> Option<ModelInfo> {
        self.refs.view(name, self.versions.iter().map(|(info, _)| info.clone()).collect())
    }
}

#[async_trait]
impl ModelCatalog for MemoryCatalog {
    async fn publish(&self, name: &str, artifact: &Artifact, mode: PublishMode) -> Result<VersionInfo> {
        encode(name)?;
        let mut models = self.models.lock();
        let entry = models.entry(name.into()).or_default();
        if mode.must_be_new && entry.view(name).is_some() {
            return Err(SinewError::ModelExists { name: name.into() });
        }
        let info = VersionInfo::describe(artifact, entry.versions.len() as u64 + 1, mode.promote)?;
        entry.versions.push((info.clone(), artifact.clone()));
        Ok(info)
    }

    async fn load(&self, reference: &ModelRef) -> Result<(VersionInfo, Artifact)> {
        let name = &reference.name;
        let Some(model) = self.find(name).await? else {
            return Err(unknown_model(name, &self.list().await?));
        };
        let info = model.select(&reference.selector)?.clone();
        let models = self.models.lock();
        let artifact = models.get(name).and_then(|e| e.versions.iter().find(|(v, _)| v.version == info.version));
        match artifact {
            Some((_, artifact)) => Ok((info, artifact.clone())),
            None => Err(SinewError::Internal(format!("version {} of '{name}' has no files", info.version))),
        }
    }

    async fn list(&self) -> Result<Vec<ModelInfo>> {
        Ok(self.models.lock().iter().filter_map(|(name, entry)| entry.view(name)).collect())
    }

    async fn find(&self, name: &str) -> Result<Option<ModelInfo>> {
        encode(name)?;
        Ok(self.models.lock().get(name).and_then(|entry| entry.view(name)))
    }

    async fn remove(&self, name: &str, version: Option<u64>) -> Result<()> {
        let Some(model) = self.find(name).await? else {
            return Err(unknown_model(name, &self.list().await?));
        };
        if let Some(version) = version {
            model.select(&super::Selector::Version(version))?;
        }
        if let Some(entry) = self.models.lock().get_mut(name) {
            entry.refs = std::mem::take(&mut entry.refs).without(version, entry.versions.len() as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn keeps_the_contract() -> Result<()> {
        super::super::conformance::model_catalog(Arc::new(MemoryCatalog::default())).await
    }
}
