//! Means of the columns that have missing values: what imputation puts in their place.

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::error::Result;
use crate::exact::{Grid, Sums};
use crate::fold::ROLE_TRAIN;
use crate::prepare::hashes;
use crate::split::SplitRule;

/// Which means are wanted, and the bounds that their sums need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanSpec {
    /// The query's columns.
    pub columns: Columns,
    /// Which rows train.
    pub split: SplitRule,
    /// For each wanted column: its position in the query and the largest magnitude of its values.
    pub wanted: Vec<(usize, f64)>,
    /// The largest row weight.
    pub weight: f64,
}

/// Weighted sums over the training rows, exact: `sum w x` and `sum w` for each wanted column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Means {
    sums: Sums,
}

impl Means {
    /// The sums of no rows.
    ///
    /// # Errors
    /// When a bound is outside double precision.
    pub fn empty(spec: &MeanSpec) -> Result<Self> {
        let mut grids = Vec::with_capacity(2 * spec.wanted.len());
        for (_, bound) in &spec.wanted {
            grids.push(Grid::covering(bound * spec.weight)?);
            grids.push(Grid::covering(spec.weight)?);
        }
        Ok(Self { sums: Sums::zero(grids) })
    }

    /// Adds the rows of a cached batch of the query.
    ///
    /// # Errors
    /// When a column is not a number.
    pub fn see(&mut self, spec: &MeanSpec, batch: &RecordBatch) -> Result<()> {
        let roles = spec.split.roles(&spec.columns, batch, hashes(batch)?);
        let label = spec.columns.label.as_ref().map(|label| batch.column(label.index));
        let weights = spec.columns.weight.map(|i| cast(batch.column(i), &DataType::Float64)).transpose()?;
        let weights = weights.as_ref().map(|w| w.as_primitive::<Float64Type>().values());
        for (slot, (index, _)) in spec.wanted.iter().enumerate() {
            let values = cast(batch.column(*index), &DataType::Float64)?;
            let values = values.as_primitive::<Float64Type>();
            for row in 0..values.len() {
                let labelled = label.is_none_or(|label| label.is_valid(row));
                let trains = labelled && roles.as_ref().is_none_or(|r| r[row] == ROLE_TRAIN);
                if trains && values.is_valid(row) && !values.value(row).is_nan() {
                    let weight = weights.map_or(1.0, |w| w[row]);
                    self.sums.add(2 * slot, values.value(row), weight);
                    self.sums.add(2 * slot + 1, weight, 1.0);
                }
            }
        }
        Ok(())
    }

    /// Adds what other rows contribute.
    ///
    /// # Errors
    /// When the two belong to different passes.
    pub fn merge(&mut self, other: &Means) -> Result<()> {
        self.sums.merge(&other.sums)
    }

    /// The means, in the order they were wanted; 0 where no training row has a value.
    pub fn values(&self) -> Vec<f64> {
        let ratio = |i: usize| {
            let weight = self.sums.value(2 * i + 1);
            if weight > 0.0 { self.sums.value(2 * i) / weight } else { 0.0 }
        };
        (0..self.sums.len() / 2).map(ratio).collect()
    }
}
