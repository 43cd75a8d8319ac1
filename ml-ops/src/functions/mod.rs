//! SQL functions that carry a model: prediction, and the metrics of predictions.
//!
//! A function holds the model itself, so a plan that contains one needs no catalog where it runs. Two
//! functions are equal when kind, options and the model's artifact are.
//!
//! | function | arguments | result |
//! |---|---|---|
//! | [`predict`] | the features, in the model's order | a struct: the prediction, and probabilities or distances |
//! | [`predict_label`] | the same | the prediction alone |
//! | [`predict_proba`] | the same | the probability of one class |
//! | [`evaluate`] | the label (not for clusterings), then the features | a struct of metrics, an aggregate |

mod evaluate;
mod output;
mod prediction;
mod scalar;
mod score;
mod spec;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use crate::error::Result;
use crate::model::Model;

pub use prediction::Prediction;
pub use score::Scorer;
pub use spec::{Called, ModelFunction};

/// The prediction as a struct.
///
/// - classification: `predicted_<label>`, of the label's type at training, and
///   `predicted_<label>_probs`, a list of `{label, prob}` for all classes, most probable first, ties in
///   the order of classes;
/// - regression: `predicted_<label>`, Float64;
/// - clustering: `centroid_id`, Int32 from 1, and `nearest_centroids_distance`, a list of
///   `{centroid_id, distance}`, nearest first.
///
/// With two classes the positive one is predicted when its probability is above `threshold`
/// (default 0.5); with more, the most probable. Rows that the model's policy for missing values skips
/// predict NULL.
///
/// # Errors
/// When `threshold` is outside [0, 1], or the model does not have two classes.
pub fn predict(model: &Arc<Model>, threshold: Option<f64>) -> Result<Arc<ScalarUDF>> {
    ModelFunction::Predict { threshold }.scalar(model)
}

/// The prediction alone: a class in the label's type, a number, or a centroid's id.
///
/// # Errors
/// As for [`predict`].
pub fn predict_label(model: &Arc<Model>, threshold: Option<f64>) -> Result<Arc<ScalarUDF>> {
    ModelFunction::PredictLabel { threshold }.scalar(model)
}

/// The probability of `class`, by default the positive one of two, as Float64.
///
/// # Errors
/// When the model is no classifier, has no such class, or has more than two and none is named.
pub fn predict_proba(model: &Arc<Model>, class: Option<&str>) -> Result<Arc<ScalarUDF>> {
    ModelFunction::PredictProba { class: class.map(str::to_string) }.scalar(model)
}

/// The metrics of the model over some rows: a struct of the columns that [`crate::metrics::names`]
/// lists for the task. Rows without a label are left out; without any row all metrics are NULL.
///
/// # Errors
/// As for [`predict`].
pub fn evaluate(model: &Arc<Model>, threshold: Option<f64>) -> Result<Arc<AggregateUDF>> {
    ModelFunction::Evaluate { threshold }.aggregate(model)
}

/// What function of which model this is, if it is one of ours; with
/// [`Called::scalar`] the way back.
pub fn as_model_function(udf: &ScalarUDF) -> Option<(&Called, &Arc<Model>)> {
    let function = udf.inner().downcast_ref::<scalar::ScalarFunction>()?;
    Some((function.called(), function.model()))
}

/// What aggregate of which model this is, if it is one of ours; with
/// [`Called::aggregate`] the way back.
pub fn as_model_aggregate(udf: &AggregateUDF) -> Option<(&Called, &Arc<Model>)> {
    let function = udf.inner().downcast_ref::<evaluate::Evaluate>()?;
    Some((function.called(), function.model()))
}

#[cfg(test)]
mod tests;
