//! A training as plain data: everything the statement settled before the first row is read.

use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::device::Device;
use crate::family::find;
use crate::params::Params;
use crate::split::SplitSpec;

/// What a `TRAIN MODEL` statement asks for, names resolved and options checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// The model's name.
    pub model: String,
    /// A name for this run that no other run has.
    pub run: String,
    /// The statement as written.
    pub statement: String,
    /// The training query alone, as SQL.
    pub query: String,
    /// Canonical name of the family.
    pub family: String,
    /// All options.
    pub params: Params,
    /// What each column of the query is for.
    pub columns: Columns,
    /// Name of the weight column, for the manifest.
    pub weight_column: Option<String>,
    /// The SPLIT clause.
    pub split: SplitSpec,
    /// Version of the engine, for the manifest.
    pub engine_version: String,
    /// Whether the query contains a volatile function: its rows are then read anew for every training.
    pub volatile: bool,
    /// Seconds between two checkpoints; `None` means that none are made.
    #[serde(default)]
    pub checkpoint_interval: Option<u64>,
    /// The device that kernels should run on.
    #[serde(default)]
    pub device: Device,
    /// The checkpoint from which an interrupted training goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Vec<u8>>,
}

impl TrainSpec {
    /// How many virtual shards the family's passes ask for; `None` where rows may lie anywhere.
    pub fn shards(&self) -> Option<u32> {
        find(&self.family).ok().and_then(|family| family.shards(&self.params))
    }

    /// The seed of everything pseudo-random; 0 unless the option says otherwise.
    pub fn seed(&self) -> u64 {
        self.params.int("seed").map_or(0, |seed| seed as u64)
    }
}
