//! How far numbers are from the truth.

use super::sum::{mean, median, variance};
use super::{Metrics, named};
use crate::family::Task;

/// With labels y and predictions p, means over the rows:
///
/// - `mean_absolute_error` `|y - p|`, `mean_squared_error` `(y - p)^2`, `median_absolute_error`;
/// - `mean_squared_log_error` `(ln(1 + y) - ln(1 + p))^2`, `None` when any y or p is at most -1;
/// - `r2_score` `1 - mean (y - p)^2 / var y` and `explained_variance` `1 - var(y - p) / var y`, `None`
///   when the label is constant.
///
/// Both slices are `[rows]`.
pub fn regression(labels: &[f64], predictions: &[f64]) -> Metrics {
    let pairs = || labels.iter().zip(predictions);
    let errors: Vec<f64> = pairs().map(|(y, p)| y - p).collect();
    let absolute: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
    let squared: Vec<f64> = errors.iter().map(|e| e * e).collect();
    let logs = pairs().all(|(y, p)| *y > -1.0 && *p > -1.0).then(|| {
        let log = |(y, p): (&f64, &f64)| libm::log1p(*y) - libm::log1p(*p);
        pairs().map(log).map(|e| e * e).collect::<Vec<_>>()
    });
    let spread = variance(labels).filter(|v| *v > 0.0);
    let explained = |unexplained: Option<f64>| Some(1.0 - unexplained? / spread?);
    let mse = mean(&squared);
    named(
        Task::Regression,
        [
            mean(&absolute),
            mse,
            logs.and_then(|logs| mean(&logs)),
            median(absolute),
            explained(mse),
            explained(variance(&errors)),
        ],
    )
}
