//! SQL functions that carry a model: prediction, and the metrics of predictions.
