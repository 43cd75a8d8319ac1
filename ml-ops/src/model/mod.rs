//! A trained model: what it is, how its columns become features, and its weights.

mod artifact;
#[cfg(test)]
pub(crate) mod testing;

use serde::{Deserialize, Serialize};

use crate::device::Device;
use crate::family::{Family, Task, Weights, find};
use crate::params::Params;
use crate::transform::FittedTransform;
use crate::{Result, split::SplitSpec};

/// The format version this code writes. Older ones are read for ever.
pub const FORMAT: u32 = 1;

/// Everything about a model but its weights; `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version of the artifact.
    pub format: u32,
    /// The run that trained it; unique.
    pub run: String,
    /// Version of the engine that trained it.
    pub engine_version: String,
    /// The statement as written.
    pub statement: String,
    /// The training query alone, as SQL.
    pub query: String,
    /// Canonical name of the family.
    pub family: String,
    /// All options.
    pub params: Params,
    /// The solver that was used.
    pub solver: String,
    /// The seed of everything pseudo-random.
    pub seed: u64,
    /// How rows were split.
    pub split: SplitSpec,
    /// How columns become features.
    pub transform: FittedTransform,
    /// Name of the weight column, if there was one.
    pub weight_column: Option<String>,
    /// What was trained on.
    pub data: DataSummary,
    /// One entry for each iteration.
    pub iterations: Vec<IterationRecord>,
    /// Whether the stopping rule was met.
    pub converged: bool,
    /// Why training stopped, in words.
    pub stop_reason: String,
    /// Metrics on the held-out rows, by name; empty when no row was held out.
    pub metrics: Vec<(String, Option<f64>)>,
    /// The instructions of the processor that trained it, where the weights depend on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processor: Option<String>,
    /// The device that the training was asked to use, where it was; predictions prefer it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// GPUs that computed sums of its training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// What the reader should know (constant columns, reproducibility limits, ..).
    pub warnings: Vec<String>,
    /// What explains its last digits, and is no reason to do anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What a model was trained on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Rows fitted.
    pub rows: u64,
    /// Rows held out.
    pub eval_rows: u64,
    /// Rows left out (missing label, or the policy for missing values).
    pub dropped_rows: u64,
    /// Digest of the sources: files with size and time, or the query alone.
    pub fingerprint: String,
}

/// One accepted iteration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IterationRecord {
    /// Counted from 0, the starting point.
    pub iteration: u32,
    /// The objective.
    pub loss: f64,
    /// Mean loss over held-out rows.
    pub eval_loss: Option<f64>,
    /// Step length or learning rate.
    pub learning_rate: f64,
    /// Norm of the gradient.
    pub gradient_norm: f64,
    /// Milliseconds since the last one.
    pub duration_ms: f64,
}

/// A trained model, ready to score.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What it is.
    pub manifest: Manifest,
    /// Its numbers.
    pub weights: Weights,
}

impl Model {
    /// Its family.
    ///
    /// # Errors
    /// When this version has no such family.
    pub fn family(&self) -> Result<&'static dyn Family> {
        find(&self.manifest.family)
    }

    /// What it predicts.
    ///
    /// # Errors
    /// When this version has no such family.
    pub fn task(&self) -> Result<Task> {
        Ok(self.family()?.task())
    }
}
