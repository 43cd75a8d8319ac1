//! Metrics of predictions: pure functions over rows, whatever produced them.
//!
//! Every metric is the same to the last bit for the same rows in any order: counts and ranks are whole
//! numbers, sums are exact ([`crate::exact`]), medians are order statistics. A metric that the rows do
//! not define (no rows, one class only, a constant label) is `None`, NULL in SQL. Rows count alike;
//! weights play no part.

mod classification;
mod clustering;
mod regression;
mod sum;

use crate::family::Task;
use crate::fold::Kernel;
use crate::kernels::math::{sigmoid_all, softmax};

pub use classification::{classification, decide};
pub use clustering::{clustering, nearest};
pub use regression::regression;

/// Metrics by name, in the order of [`names`].
pub type Metrics = Vec<(String, Option<f64>)>;

/// The names of a task's metrics, in the order in which they are reported.
pub fn names(task: Task) -> &'static [&'static str] {
    match task {
        Task::Classification => &["precision", "recall", "accuracy", "f1_score", "log_loss", "roc_auc"],
        Task::Regression => &[
            "mean_absolute_error",
            "mean_squared_error",
            "mean_squared_log_error",
            "median_absolute_error",
            "r2_score",
            "explained_variance",
        ],
        Task::Clustering => &["davies_bouldin_index", "mean_squared_distance"],
    }
}

/// The metrics of scored rows. `rows` is flat: for each row the label (a value, or the index of a
/// class) and the scores of `kernel` (one margin, or one for each class); for clusterings the index of
/// the nearest centre and the squared distance to it. `classes` is 0 for a label that is a number.
pub fn of_rows(kernel: &Kernel, classes: usize, rows: &[f64], threshold: f64) -> Metrics {
    let rows = rows.chunks_exact(1 + width(kernel));
    if let Kernel::Centroids { shift, centers, .. } = kernel {
        let (assigned, squared): (Vec<u32>, Vec<f64>) = rows.map(|row| (row[0] as u32, row[1])).unzip();
        return clustering(centers, shift.len(), &assigned, &squared);
    }
    let mut scores = vec![Vec::with_capacity(rows.len()); width(kernel)];
    for row in rows.clone() {
        scores.iter_mut().zip(&row[1..]).for_each(|(column, score)| column.push(*score));
    }
    if classes == 0 {
        let labels: Vec<f64> = rows.map(|row| row[0]).collect();
        return regression(&labels, &scores[0]);
    }
    let labels: Vec<u32> = rows.map(|row| row[0] as u32).collect();
    classification(classes, &labels, &probabilities(kernel, &scores), threshold)
}

/// The metrics of rows that a [`Kernel::Scores`] fold of `kernel` gathered, `[y, w, score, ..]` each.
pub fn of_gathered(kernel: &Kernel, classes: usize, gathered: &[(u64, Vec<f64>)], threshold: f64) -> Metrics {
    let clustering = matches!(kernel, Kernel::Centroids { .. });
    let mut rows = Vec::with_capacity(gathered.len() * (1 + width(kernel)));
    for (_, row) in gathered.iter().filter(|(_, row)| row.len() > 2) {
        if !clustering {
            rows.push(row[0]);
        }
        rows.extend_from_slice(&row[2..]);
    }
    of_rows(kernel, classes, &rows, threshold)
}

/// How many scores a row has in [`of_rows`].
pub fn width(kernel: &Kernel) -> usize {
    match kernel {
        Kernel::Softmax { intercepts, .. } => intercepts.len(),
        Kernel::Network { network, .. } => network.outputs,
        _ => 1,
    }
}

/// The probability of each class, `[K][rows]`, from the margins, `[1][rows]` of a `Linear` kernel or
/// `[K][rows]` of a `Softmax` kernel or a network.
pub fn probabilities(kernel: &Kernel, scores: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut probabilities = scores.to_vec();
    if !matches!(kernel, Kernel::Softmax { .. } | Kernel::Network { .. }) {
        let positive = probabilities.pop().unwrap_or_default();
        let mut both = vec![positive.iter().map(|m| -m).collect(), positive];
        both.iter_mut().for_each(|margins: &mut Vec<f64>| sigmoid_all(margins));
        return both;
    }
    let mut margins = vec![0.0; scores.len()];
    for row in 0..scores.first().map_or(0, Vec::len) {
        margins.iter_mut().zip(scores).for_each(|(margin, column)| *margin = column[row]);
        softmax(&mut margins);
        probabilities.iter_mut().zip(&margins).for_each(|(column, p)| column[row] = *p);
    }
    probabilities
}

/// `values` under the names of the task.
fn named<const N: usize>(task: Task, values: [Option<f64>; N]) -> Metrics {
    names(task).iter().map(|name| name.to_string()).zip(values).collect()
}

#[cfg(test)]
mod tests;
