//! Which rows are held out: by the hash or the value of the row, never by where it lies.

use serde::{Deserialize, Serialize};

/// The SPLIT clause.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SplitSpec {
    /// Fewer than 500 rows: none; up to 50,000: 20 %; above: about 10,000 rows.
    #[default]
    Auto,
    /// Every row trains.
    None,
    /// About this fraction of the rows, chosen by hash.
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
