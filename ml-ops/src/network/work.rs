//! What a pass over virtual shards does with a network.
//!
//! A *virtual shard* is the rows whose hash says so, wherever they lie; there is a fixed number of them, and
//! what is learnt depends on that number, never on files, threads or executors. Steps over mini-batches are
//! taken inside a shard, over its rows in a canonical order, from the parameters that all shards began with;
//! the driver then takes the mean of where the shards came to.

use serde::{Deserialize, Serialize};

use super::Rule;
use crate::fold::mix;

/// Keeps shards apart from splits and samples.
const SHARD_SALT: u64 = 0x53_48_41_52_44;

/// The shard of a row, of `shards`.
#[inline]
pub fn shard_of(hash: u32, shards: u32) -> u32 {
    (mix(hash, SHARD_SALT) % u64::from(shards.max(1))) as u32
}

/// What is asked of every shard.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// The loss of all rows.
    Loss,
    /// Loss and gradient of all rows, in double precision.
    Gradient,
    /// Some steps over mini-batches, in single precision.
    Steps(Steps),
}

/// A stretch of steps. The parameters of such a pass are followed by what the rule remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steps {
    /// How gradients become steps.
    pub rule: Rule,
    /// Step length.
    pub rate: f64,
    /// Steps taken before.
    pub first: u64,
    /// Steps to take.
    pub count: u32,
    /// Steps of an epoch: a shard's rows are cut into so many batches, shuffled anew in each epoch.
    pub per_epoch: u32,
    /// Probability that a hidden unit is left out of a step.
    pub dropout: f64,
    /// Strength of the L2 penalty.
    pub l2: f64,
    /// The mean weight of a row: a step divides by this and the number of its rows.
    pub mean_weight: f64,
    /// Seed of shuffles and dropout.
    pub seed: u64,
    /// Whether the held-out loss of the parameters as they came is wanted too.
    pub held: bool,
}
