//! The one result shape of every step: what some rows contribute, mergeable in any order.

use serde::{Deserialize, Serialize};

use crate::error::{MlError, Result};
use crate::exact::Sums;
use crate::fold::Fold;

/// What a set of rows contributes to one step.
///
/// Merging two partials is exact, associative and commutative, so any process may merge whatever it
/// has in any order and the total is the same to the last bit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partial {
    /// Training rows counted.
    pub rows: u64,
    /// Held-out rows counted.
    pub eval_rows: u64,
    /// `[sum w, loss]` of the training rows and `[sum w, loss]` of the held-out rows.
    pub totals: Sums,
    /// The kernel's sums.
    pub sums: Sums,
    /// The rows a kernel gathers, if it gathers any.
    pub gathered: Gathered,
    /// Whether sums of single precision are among them, as a GPU has them.
    pub single: bool,
}

impl Partial {
    /// The partial of no rows.
    pub fn empty(fold: &Fold) -> Self {
        Self {
            rows: 0,
            eval_rows: 0,
            totals: Sums::zero(vec![fold.weight_grid, fold.loss_grid, fold.weight_grid, fold.loss_grid]),
            sums: Sums::zero(fold.grids.clone()),
            gathered: Gathered::default(),
            single: false,
        }
    }

    /// The sum of the training rows' weights.
    pub fn weight(&self) -> f64 {
        self.totals.value(0)
    }

    /// The training rows' loss, not divided by anything.
    pub fn loss(&self) -> f64 {
        self.totals.value(1)
    }

    /// The held-out loss for each unit of weight, or `None` without held-out rows.
    pub fn eval_loss(&self) -> Option<f64> {
        let weight = self.totals.value(2);
        (self.eval_rows > 0 && weight > 0.0).then(|| self.totals.value(3) / weight)
    }

    /// Adds what `other`'s rows contribute.
    ///
    /// # Errors
    /// When the two belong to different steps.
    pub fn merge(&mut self, other: Partial) -> Result<()> {
        self.rows += other.rows;
        self.eval_rows += other.eval_rows;
        self.totals.merge(&other.totals)?;
        self.sums.merge(&other.sums)?;
        self.gathered.merge(other.gathered);
        self.single |= other.single;
        Ok(())
    }

    /// The bytes that travel between processes.
    ///
    /// # Errors
    /// Never for values of this crate.
    pub fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_allocvec(self).map_err(|e| MlError::Internal(format!("encoding a partial: {e}")))
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes are something else.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        postcard::from_bytes(bytes).map_err(|e| MlError::Internal(format!("decoding a partial: {e}")))
    }
}

/// Rows a kernel hands back as they are: each with a key, in the order of keys and then values, without
/// duplicates, and at most `keep` of them. Like the sums, the same whatever the order of merging.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gathered {
    /// At most this many rows are kept; 0 means all, duplicates included.
    pub keep: u32,
    /// Key and values of each row.
    pub rows: Vec<(u64, Vec<f64>)>,
}

impl Gathered {
    /// Adds the rows of `other`.
    pub fn merge(&mut self, other: Gathered) {
        self.keep = self.keep.max(other.keep);
        self.rows.extend(other.rows);
        if self.keep > 0 {
            self.settle();
        }
    }

    /// Puts the rows in their order; with a limit, drops duplicates and what is above the limit.
    pub fn settle(&mut self) {
        self.rows.sort_by(|a, b| {
            a.0.cmp(&b.0).then_with(|| {
                let pairs = a.1.iter().zip(&b.1);
                pairs.map(|(x, y)| x.total_cmp(y)).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
            })
        });
        if self.keep > 0 {
            self.rows.dedup_by(|a, b| a.0 == b.0 && a.1 == b.1);
            self.rows.truncate(self.keep as usize);
        }
    }
}
