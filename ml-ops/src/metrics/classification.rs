//! How often classes are right, and how sure the model was.

use super::sum::mean;
use super::{Metrics, named};
use crate::family::Task;

/// Predicted classes from probabilities `[K][rows]`: of two classes the second when its probability is
/// above `threshold`, of more the most probable, the first winning a tie.
pub fn decide(probabilities: &[Vec<f64>], threshold: f64) -> Vec<u32> {
    if let [_, positive] = probabilities {
        return positive.iter().map(|&p| u32::from(p > threshold)).collect();
    }
    let best = |row: usize| {
        let mut best = 0;
        for (class, column) in probabilities.iter().enumerate() {
            if column[row] > probabilities[best][row] {
                best = class;
            }
        }
        best as u32
    };
    (0..probabilities.first().map_or(0, Vec::len)).map(best).collect()
}

/// Metrics of `classes` classes. `labels` is `[rows]`, indices below `classes`; `probabilities` is
/// `[classes][rows]`; `threshold` is for two classes, as in [`decide`].
///
/// - `precision`, `recall`, `f1_score` of the positive (second) class of two; of more classes their
///   plain mean over the classes that occur among labels or predictions. A quotient 0/0 is 0.
/// - `accuracy`;
/// - `log_loss`, the mean of `-ln p_y` with p at least 2^-52;
/// - `roc_auc`, the area under the curve by ranks, ties counting half; of more than two classes the
///   plain mean of each class against the rest. `None` unless every class occurs among the labels.
pub fn classification(classes: usize, labels: &[u32], probabilities: &[Vec<f64>], threshold: f64) -> Metrics {
    if labels.is_empty() || classes < 2 || probabilities.len() != classes {
        return named(Task::Classification, [None; 6]);
    }
    let counts = Counts::of(classes, labels, &decide(probabilities, threshold));
    let (precision, recall, f1) = if classes == 2 { counts.scores(1) } else { counts.macro_scores() };
    let losses: Vec<f64> = labels
        .iter()
        .enumerate()
        .map(|(row, &label)| -libm::log(probabilities[label as usize][row].max(f64::EPSILON)))
        .collect();
    let auc = |class: usize| {
        roc_auc(labels.iter().zip(&probabilities[class]).map(|(&label, &p)| (p, label as usize == class)))
    };
    let auc =
        if classes == 2 { auc(1) } else { (0..classes).map(auc).sum::<Option<f64>>().map(|s| s / classes as f64) };
    named(
        Task::Classification,
        [Some(precision), Some(recall), Some(counts.accuracy(labels.len())), Some(f1), mean(&losses), auc],
    )
}

/// Rows of each class: rightly predicted, predicted, actual.
struct Counts(Vec<[u64; 3]>);

impl Counts {
    fn of(classes: usize, labels: &[u32], predicted: &[u32]) -> Self {
        let mut counts = vec![[0; 3]; classes];
        for (&label, &predicted) in labels.iter().zip(predicted) {
            counts[label as usize][0] += u64::from(label == predicted);
            counts[predicted as usize][1] += 1;
            counts[label as usize][2] += 1;
        }
        Self(counts)
    }

    fn accuracy(&self, rows: usize) -> f64 {
        self.0.iter().map(|c| c[0]).sum::<u64>() as f64 / rows as f64
    }

    /// Precision, recall and F1 of one class.
    fn scores(&self, class: usize) -> (f64, f64, f64) {
        let [right, predicted, actual] = self.0[class];
        let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
        (ratio(right, predicted), ratio(right, actual), ratio(2 * right, predicted + actual))
    }

    fn macro_scores(&self) -> (f64, f64, f64) {
        let present: Vec<_> = (0..self.0.len()).filter(|&k| self.0[k][1] + self.0[k][2] > 0).collect();
        let sum =
            present.iter().map(|&k| self.scores(k)).fold((0.0, 0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
        let n = present.len() as f64;
        (sum.0 / n, sum.1 / n, sum.2 / n)
    }
}

/// The chance that a positive row scores above a negative one, ties counting half (the Mann-Whitney
/// statistic, the area under the ROC curve); `None` unless both occur.
fn roc_auc(rows: impl Iterator<Item = (f64, bool)>) -> Option<f64> {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut negatives, mut positives, mut twice_won) = (0_u64, 0_u64, 0_u128);
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        let up = tied.iter().filter(|row| row.1).count() as u64;
        let down = tied.len() as u64 - up;
        twice_won += u128::from(up) * u128::from(2 * negatives + down);
        positives += up;
        negatives += down;
    }
    let pairs = u128::from(positives) * u128::from(negatives);
    (pairs > 0).then(|| twice_won as f64 / (2 * pairs) as f64)
}
