//! What models do with a DataFrame.

use std::collections::BTreeMap;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::dataframe::DataFrame;

use super::relations::Given;
use super::train::Train;
use crate::error::{Result, SinewError};

/// Metrics by name; those that are not defined for the rows are left out.
pub type Metrics = BTreeMap<String, f64>;

/// Training, prediction and evaluation over the rows of a DataFrame of a [`Session`](crate::Session).
#[async_trait]
pub trait Learn: Sized {
    /// A training over these rows, to be described further and then awaited.
    fn train(self, model: &str) -> Train;

    /// The rows with the columns of the model's prediction, as `ML.PREDICT` gives them. A version is named as in
    /// `churn@3`.
    ///
    /// # Errors
    /// When there is no such model, or a feature is missing.
    async fn predict(self, model: &str) -> Result<DataFrame>;

    /// How well the model does on these rows, as `ML.EVALUATE` says.
    ///
    /// # Errors
    /// When there is no such model, or the label or a feature is missing.
    async fn evaluate(self, model: &str) -> Result<Metrics>;
}

#[async_trait]
impl Learn for DataFrame {
    fn train(self, model: &str) -> Train {
        Train::new(self, model)
    }

    async fn predict(self, model: &str) -> Result<DataFrame> {
        let given = Given::of(self)?;
        let sql = format!("SELECT * FROM ML.PREDICT(MODEL {}, TABLE {})", reference(model)?, given.name);
        given.query(&sql).await
    }

    async fn evaluate(self, model: &str) -> Result<Metrics> {
        let given = Given::of(self)?;
        let sql = format!("SELECT * FROM ML.EVALUATE(MODEL {}, TABLE {})", reference(model)?, given.name);
        let batches = given.run(&sql).await?.collect().await?;
        batches.iter().find(|batch| batch.num_rows() > 0).map_or_else(|| Ok(Metrics::new()), numbers)
    }
}

/// A model's name, with its version if it has one, as SQL.
pub fn reference(model: &str) -> Result<String> {
    let reference: sinew_sql::ModelRef = model.parse().map_err(SinewError::from)?;
    Ok(reference.to_sql())
}

/// The numbers of the first row by their columns' names.
fn numbers(batch: &RecordBatch) -> Result<Metrics> {
    let mut metrics = Metrics::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let values = cast(column, &DataType::Float64).map_err(|e| SinewError::Internal(e.to_string()))?;
        let values = values.as_primitive::<Float64Type>();
        if values.is_valid(0) {
            metrics.insert(field.name().clone(), values.value(0));
        }
    }
    Ok(metrics)
}
