//! Trained models by name and version: the contract, and what every implementation shares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sinew_ml::error::did_you_mean;
use sinew_ml::model::Manifest;

use super::FORMAT;
use crate::error::{Result, SinewError};

/// Where trained models are kept. A version is written once and never changes.
#[async_trait]
pub trait ModelCatalog: fmt::Debug + Send + Sync {
    /// Adds a version; it is visible, whole, when this returns, and not before.
    ///
    /// # Errors
    /// When the name cannot be one, the model must be new and is not, or the store cannot be written.
    async fn publish(&self, name: &str, artifact: &Artifact, mode: PublishMode) -> Result<VersionInfo>;

    /// The version a reference names, with its files, checked against their digests.
    ///
    /// # Errors
    /// When there is none, or what is stored is damaged or cannot be read.
    async fn load(&self, reference: &ModelRef) -> Result<(VersionInfo, Artifact)>;

    /// All models in the order of their names, without their files. One whose records are damaged has
    /// no versions here; [`Self::find`] says what is wrong with it.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn list(&self) -> Result<Vec<ModelInfo>>;

    /// One model, without its files; `None` when there is none of that name.
    ///
    /// # Errors
    /// When the store cannot be read.
    async fn find(&self, name: &str) -> Result<Option<ModelInfo>>;

    /// Drops one version, or the model with all versions there are now. Numbers are not used again.
    ///
    /// # Errors
    /// When there is none, or the store cannot be written.
    async fn remove(&self, name: &str, version: Option<u64>) -> Result<()>;

    /// All versions of a model in ascending order.
    ///
    /// # Errors
    /// When there is no such model, or the store cannot be read.
    async fn versions(&self, name: &str) -> Result<Vec<VersionInfo>> {
        match self.find(name).await? {
            Some(model) => Ok(model.versions),
            None => Err(unknown_model(name, &self.list().await?)),
        }
    }
}

/// The files of a trained model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Artifact {
    /// `manifest.json`.
    pub manifest: Vec<u8>,
    /// `weights.safetensors`.
    pub weights: Vec<u8>,
}

/// How a version is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishMode {
    /// Whether the model must not exist yet (`CREATE MODEL`).
    pub must_be_new: bool,
    /// Whether the version becomes the default.
    pub promote: bool,
}

impl Default for PublishMode {
    fn default() -> Self {
        Self { must_be_new: false, promote: true }
    }
}

/// One version of a model: what its record says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Format version of the record.
    pub format: u32,
    /// Counted from 1 for each model.
    pub version: u64,
    /// The run that trained it; names the folder of its files.
    pub run: String,
    /// Milliseconds since 1970, UTC.
    pub created_ms: i64,
    /// Whether it became the default when it was published.
    pub promote: bool,
    /// Canonical name of its family.
    pub family: String,
    /// Label column; `None` for families without one.
    pub label: Option<String>,
    /// Rows fitted.
    pub rows: u64,
    /// Rows held out.
    pub eval_rows: u64,
    /// Iterations made.
    pub iterations: u32,
    /// Whether the stopping rule was met.
    pub converged: bool,
    /// Metrics on the held-out rows, by name.
    pub metrics: Vec<(String, Option<f64>)>,
    /// Its files.
    pub files: Vec<FileInfo>,
}

/// A file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Name in the folder of the run.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Digest in hexadecimal.
    pub sha256: String,
}

/// What a reference to a model says after `@`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Nothing: the default version.
    #[default]
    Default,
    /// A number.
    Version(u64),
    /// A name set by ALTER MODEL .. SET ALIAS.
    Alias(String),
}

/// `churn`, `churn@3` or `churn@prod`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModelRef {
    /// The model's name.
    pub name: String,
    /// Which of its versions.
    pub selector: Selector,
}

impl ModelRef {
    /// The default version of a model.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), selector: Selector::Default }
    }

    /// A numbered version of a model.
    pub fn version(name: impl Into<String>, version: u64) -> Self {
        Self { name: name.into(), selector: Selector::Version(version) }
    }

    /// Reads `name`, `name@3` or `name@alias`; the last `@` counts.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once('@') {
            Some((name, rest)) if !name.is_empty() && !rest.is_empty() => Self {
                name: name.into(),
                selector: rest.parse().map_or_else(|_| Selector::Alias(rest.into()), Selector::Version),
            },
            _ => Self::named(text),
        }
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.selector {
            Selector::Default => f.write_str(&self.name),
            Selector::Version(version) => write!(f, "{}@{version}", self.name),
            Selector::Alias(alias) => write!(f, "{}@{alias}", self.name),
        }
    }
}

/// A model: its versions that were not dropped, and which of them names stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// The name.
    pub name: String,
    /// Versions in ascending order; empty only in a list, for a model whose records are damaged.
    pub versions: Vec<VersionInfo>,
    /// The version a bare name means.
    pub default: u64,
    /// Other names of versions.
    pub aliases: BTreeMap<String, u64>,
}

impl ModelInfo {
    /// A model that is there, and of which nothing can be read.
    pub fn unreadable(name: String) -> Self {
        Self { name, versions: Vec::new(), default: 0, aliases: BTreeMap::new() }
    }

    /// The version a selector means.
    ///
    /// # Errors
    /// When there is none; the text lists what there is.
    pub fn select(&self, selector: &Selector) -> Result<&VersionInfo> {
        let number = match selector {
            Selector::Default => Some(self.default),
            Selector::Version(number) => Some(*number),
            Selector::Alias(alias) => self.aliases.get(alias).copied(),
        };
        number.and_then(|n| self.versions.iter().find(|v| v.version == n)).ok_or_else(|| {
            let numbers = self.versions.iter().map(|v| v.version.to_string());
            SinewError::UnknownVersion {
                name: self.name.clone(),
                version: match selector {
                    Selector::Default => "default".into(),
                    Selector::Version(number) => number.to_string(),
                    Selector::Alias(alias) => alias.clone(),
                },
                known: numbers.chain(self.aliases.keys().cloned()).collect::<Vec<_>>().join(", "),
            }
        })
    }
}

/// What names of one model stand for: the newest record of `refs/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refs {
    /// Format version of the record.
    pub format: u32,
    /// A default set by hand; a version promoted later takes its place.
    pub default: Option<PinnedDefault>,
    /// Names set by hand.
    pub aliases: BTreeMap<String, u64>,
    /// Dropped versions above `dropped_through`.
    pub dropped: BTreeSet<u64>,
    /// All versions up to this one are dropped.
    pub dropped_through: u64,
}

/// A default version set by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedDefault {
    /// The version.
    pub version: u64,
    /// The highest version there was at that time.
    pub as_of: u64,
}

impl Refs {
    /// Whether the version was not dropped.
    pub fn is_live(&self, version: u64) -> bool {
        version > self.dropped_through && !self.dropped.contains(&version)
    }

    /// These, without one version, or without all up to `highest`.
    pub fn without(mut self, version: Option<u64>, highest: u64) -> Self {
        self.format = FORMAT;
        match version {
            Some(version) => {
                self.dropped.insert(version);
                self.aliases.retain(|_, v| *v != version);
                self.default = self.default.filter(|d| d.version != version);
                self
            }
            None => Self { format: FORMAT, dropped_through: highest, ..Self::default() },
        }
    }

    /// The model with these versions; `None` when all of them are dropped.
    pub fn view(&self, name: &str, versions: Vec<VersionInfo>) -> Option<ModelInfo> {
        let versions: Vec<_> = versions.into_iter().filter(|v| self.is_live(v.version)).collect();
        let last = versions.last()?.version;
        let pinned = self.default.filter(|d| self.is_live(d.version));
        let newest = versions.iter().rev().find(|v| v.promote).map(|v| v.version);
        let default = match (pinned, newest) {
            (Some(pin), Some(newest)) if newest > pin.as_of => newest,
            (Some(pin), _) => pin.version,
            (None, newest) => newest.unwrap_or(last),
        };
        Some(ModelInfo { name: name.into(), versions, default, aliases: self.aliases.clone() })
    }
}

impl VersionInfo {
    /// The record of an artifact that is about to be published.
    ///
    /// # Errors
    /// When the manifest cannot be read: the artifact is damaged.
    pub fn describe(artifact: &Artifact, version: u64, promote: bool) -> Result<Self> {
        let manifest: Manifest = serde_json::from_slice(&artifact.manifest).map_err(|e| SinewError::Damaged {
            path: "the trained model's manifest".into(),
            reason: e.to_string(),
            hint: "train the model again".into(),
        })?;
        let file = |name: &str, bytes: &[u8]| FileInfo {
            name: name.into(),
            size: bytes.len() as u64,
            sha256: super::records::sha256(bytes),
        };
        Ok(Self {
            format: FORMAT,
            version,
            created_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64),
            promote,
            family: manifest.family,
            label: manifest.transform.label.map(|l| l.name),
            rows: manifest.data.rows,
            eval_rows: manifest.data.eval_rows,
            iterations: manifest.iterations.last().map_or(0, |i| i.iteration),
            converged: manifest.converged,
            metrics: manifest.metrics,
            run: manifest.run,
            files: vec![file(MANIFEST_FILE, &artifact.manifest), file(WEIGHTS_FILE, &artifact.weights)],
        })
    }
}

/// Name of the manifest in a run's folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the weights in a run's folder.
pub const WEIGHTS_FILE: &str = "weights.safetensors";

/// There is no such model; names the nearest.
pub fn unknown_model(name: &str, all: &[ModelInfo]) -> SinewError {
    SinewError::UnknownModel { name: name.into(), hint: did_you_mean(name, all.iter().map(|m| m.name.as_str())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_and_write_themselves() {
        for text in ["churn", "churn@3", "churn@prod", "a@b@2"] {
            assert_eq!(ModelRef::parse(text).to_string(), text);
        }
        assert_eq!(ModelRef::parse("churn@3"), ModelRef::version("churn", 3));
        assert_eq!(ModelRef::parse("@3"), ModelRef::named("@3"));
    }
}
