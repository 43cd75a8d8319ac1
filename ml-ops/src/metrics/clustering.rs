//! How tight clusters are, and how far apart.

use super::sum::mean;
use super::{Metrics, named};
use crate::family::Task;

/// For each row the nearest of the centres and the squared distance to it, from squared distances
/// `[K][rows]`; the lowest index wins a tie.
pub fn nearest(squared: &[Vec<f64>]) -> Vec<(u32, f64)> {
    let nearest = |row: usize| {
        let start = (0, squared[0][row]);
        (1..).zip(&squared[1..]).fold(start, |best, (k, d)| if d[row] < best.1 { (k, d[row]) } else { best })
    };
    (0..squared.first().map_or(0, Vec::len)).map(nearest).collect()
}

/// With `centers` `[K, width]`, the index of the nearest one and the squared distance to it for each
/// row, `[rows]` both, all in the coordinates in which the model measures distances:
///
/// - `davies_bouldin_index`, the mean over clusters i of the largest `(s_i + s_j) / |c_i - c_j|`, s the
///   mean distance of a cluster's rows to its centre (Davies and Bouldin, *A Cluster Separation
///   Measure*, 1979); empty clusters do not count, and `None` with fewer than two others;
/// - `mean_squared_distance` to the nearest centre.
pub fn clustering(centers: &[f64], width: usize, assigned: &[u32], squared: &[f64]) -> Metrics {
    let mut distances = vec![vec![]; centers.len() / width.max(1)];
    for (&cluster, &d) in assigned.iter().zip(squared) {
        if let Some(rows) = distances.get_mut(cluster as usize) {
            rows.push(d.sqrt());
        }
    }
    let scatter: Vec<_> = centers
        .chunks(width.max(1))
        .zip(&distances)
        .filter_map(|(centre, distances)| Some((centre, mean(distances)?)))
        .collect();
    named(Task::Clustering, [davies_bouldin(&scatter), mean(squared)])
}

/// The index from each cluster's centre and scatter.
fn davies_bouldin(clusters: &[(&[f64], f64)]) -> Option<f64> {
    if clusters.len() < 2 {
        return None;
    }
    let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    let worst = |i: usize| {
        let (centre, scatter) = clusters[i];
        let others = clusters.iter().enumerate().filter(|(j, _)| *j != i);
        others.map(|(_, (other, s))| (scatter + s) / apart(centre, other)).fold(0.0, f64::max)
    };
    let index = (0..clusters.len()).map(worst).sum::<f64>() / clusters.len() as f64;
    index.is_finite().then_some(index)
}
