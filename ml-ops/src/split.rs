//! Which rows are held out: by the hash or the value of the row, never by where it lies.

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::fold::{ROLE_EVAL, ROLE_TRAIN, Sample};

/// The SPLIT clause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SplitSpec {
    /// Fewer than 500 rows: none; up to 50,000: 20 %; above: about 10,000 rows.
    #[default]
    Auto,
    /// Every row trains.
    None,
    /// About this fraction of the rows, chosen by hash. Equal rows fall on the same side.
    Random {
        /// 0 to 1, exclusive.
        fraction: f64,
        /// Makes splits differ; `None` means the model's seed.
        seed: Option<u64>,
    },
    /// Rows where this boolean column is true are held out; the column is no feature.
    By {
        /// The column's name.
        column: String,
    },
}

/// A split with its numbers settled: what gives a row its role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SplitRule {
    /// Every row trains.
    All,
    /// The rows of this sample are held out.
    Hash(Sample),
    /// Rows where the split column is true are held out.
    Column,
}

/// Keeps splits apart from the samples that solvers take.
const SPLIT_SALT: u64 = 0x53_50_4c_49_54;

impl SplitSpec {
    /// The rule for a table of `rows` rows.
    pub fn settle(&self, rows: u64, model_seed: u64) -> SplitRule {
        let hash =
            |fraction: f64, seed: u64| SplitRule::Hash(Sample::fraction(fraction, SPLIT_SALT.wrapping_add(seed)));
        match self {
            Self::None => SplitRule::All,
            Self::By { .. } => SplitRule::Column,
            Self::Random { fraction, seed } => hash(*fraction, seed.unwrap_or(model_seed)),
            Self::Auto if rows < 500 => SplitRule::All,
            Self::Auto if rows <= 50_000 => hash(0.2, model_seed),
            Self::Auto => hash(10_000.0 / rows as f64, model_seed),
        }
    }
}

impl SplitRule {
    /// The role of every row of a batch, or `None` when all train. A NULL in the split column trains.
    pub fn roles(&self, columns: &Columns, batch: &RecordBatch, hashes: &UInt32Array) -> Option<Vec<u8>> {
        let role = |held: bool| if held { ROLE_EVAL } else { ROLE_TRAIN };
        match self {
            Self::All => None,
            Self::Hash(sample) => Some(hashes.values().iter().map(|&h| role(sample.takes(h))).collect()),
            Self::Column => {
                let held = batch.column(columns.split?).as_boolean_opt()?;
                Some((0..held.len()).map(|row| role(held.is_valid(row) && held.value(row))).collect())
            }
        }
    }
}
