//! What the sums of a fold are made of. An error is measured against the magnitudes of a sum's terms, and a term against
//! what single precision rounds before the term is there: margins, labels, and columns that a shift is taken off.

use sinew_ml::fold::{Fold, Kernel, Loss};

use super::common::{Data, Naive, class_of, counted};

/// The part of what a difference is taken of that a format rounds, in units of its tolerance.
const ROUNDED: f64 = 1.0 / 16.0;

/// The sizes of a fold's sums.
pub struct Sizes {
    /// Of `[sum w, loss]` of the training rows and of the held-out rows.
    pub totals: [f64; 4],
    /// Of the kernel's sums.
    pub sums: Vec<f64>,
    /// For each of the kernel's sums, the terms of rows that lie between two centres: they may be counted with either.
    pub ties: Vec<f64>,
}

/// The mean of each coordinate, and the largest distance from it: rows are rounded around their means.
fn spread(data: &Data) -> (Vec<f64>, Vec<f64>) {
    let width = data.layout.width();
    let rows: Vec<Vec<f64>> = (0..data.rows).map(|i| data.x(i)).collect();
    let mean = |j: usize| rows.iter().map(|x| x[j]).sum::<f64>() / rows.len().max(1) as f64;
    let means: Vec<f64> = (0..width).map(mean).collect();
    let reach = |j: usize| rows.iter().fold(0f64, |most, x| most.max((x[j] - means[j]).abs()));
    let reach = (0..width).map(reach).collect();
    (means, reach)
}

impl Sizes {
    /// The sizes of the sums of plain loops.
    pub fn of(fold: &Fold, data: &Data, naive: &Naive) -> Self {
        let sums = naive.sums.iter().map(|(_, size)| *size).collect();
        let mut sizes = Self { totals: naive.totals.map(|(_, size)| size), sums, ties: vec![0.0; naive.sums.len()] };
        let ((mean, reach), p) = (spread(data), data.layout.width());
        // What is rounded of a column that a shift is taken off.
        let moved = |shift: &[f64], scale: &[f64]| -> Vec<f64> {
            (0..p).map(|j| (reach[j] + (shift[j] - mean[j]).abs()) * scale[j]).collect()
        };
        match &fold.kernel {
            Kernel::Linear { loss, intercept, weights } => {
                sizes.linear(fold, data, (*loss, *intercept, weights));
                let all = sizes.sums[0];
                sizes.sums[1..].iter_mut().zip(&reach).for_each(|(sum, reach)| *sum += ROUNDED * all * reach);
            }
            Kernel::Softmax { .. } => {
                for sums in sizes.sums.chunks_exact_mut(1 + p) {
                    let all = sums[0];
                    sums[1..].iter_mut().zip(&reach).for_each(|(sum, reach)| *sum += ROUNDED * all * reach);
                }
            }
            Kernel::Gram { shift, scale, label, .. } => {
                let top = data.value.iter().fold(0f64, |top, y| top.max(y.abs()));
                let mut entries = vec![1.0];
                entries.extend(moved(shift, scale));
                entries.extend(label.map(|(shift, scale)| (top + shift.abs()) * scale));
                let all = sizes.sums[0];
                let pairs = entries.iter().enumerate().flat_map(|(i, a)| entries[i..].iter().map(move |b| a * b));
                sizes.sums.iter_mut().zip(pairs).for_each(|(sum, pair)| *sum += ROUNDED * all * pair);
            }
            Kernel::Centroids { shift, scale, centers } => {
                let moved = moved(shift, scale);
                for sums in sizes.sums.chunks_exact_mut(1 + p) {
                    let all = sums[0];
                    sums[1..].iter_mut().zip(&moved).for_each(|(sum, moved)| *sum += ROUNDED * all * moved);
                }
                sizes.distances(fold, data, (shift, scale), centers, &moved);
            }
            _ => {}
        }
        sizes
    }

    /// A residual is what is left of margin and label, and changes with its margin by its slope, to first order.
    fn linear(&mut self, fold: &Fold, data: &Data, (kind, intercept, weights): (Loss, f64, &[f64])) {
        self.sums.fill(0.0);
        let mut losses = [0.0; 2];
        for i in 0..data.rows {
            let x = data.x(i);
            let terms = intercept.abs() + x.iter().zip(weights).map(|(x, w)| (x * w).abs()).sum::<f64>();
            let (train, held, weight) = counted(fold, data, i);
            let (residual, value) = match kind {
                Loss::Squared => (terms + data.value[i].abs(), (terms + data.value[i].abs()).powi(2)),
                Loss::Logistic => {
                    let margin = intercept + x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
                    let score = 1.0 / (1.0 + (-margin).exp());
                    let y = f64::from(class_of(data.value[i], 2));
                    let residual = (score - y).abs();
                    let value = (-margin.abs()).exp().ln_1p() + margin.max(0.0) - y * margin;
                    (residual + score * (1.0 - score) * terms, value + residual * terms)
                }
            };
            let (weight, held) = (if train { weight } else { 0.0 }, if held { weight } else { 0.0 });
            losses[0] += weight * value;
            losses[1] += held * value;
            self.sums[0] += weight * residual;
            self.sums[1..].iter_mut().zip(&x).for_each(|(sum, x)| *sum += weight * residual * x.abs());
        }
        [self.totals[1], self.totals[3]] = losses;
    }

    /// A distance is made of differences: a row that lies on its centre has no digits left.
    fn distances(
        &mut self,
        fold: &Fold,
        data: &Data,
        (shift, scale): (&[f64], &[f64]),
        centers: &[f64],
        moved: &[f64],
    ) {
        let mut losses = [0.0; 2];
        for i in 0..data.rows {
            let x = data.x(i);
            let (train, held, weight) = counted(fold, data, i);
            let (weight, held) = (if train { weight } else { 0.0 }, if held { weight } else { 0.0 });
            let z = |j: usize| (x[j] - shift[j]) * scale[j];
            // Squared distance from each centre, and its size.
            let sizes = centers.chunks_exact(x.len()).map(|center| {
                center.iter().enumerate().fold((0.0, 0.0), |(value, size), (j, c)| {
                    let off = z(j) - c;
                    (value + off * off, size + off * off + ROUNDED * off.abs() * (moved[j] + c.abs()))
                })
            });
            let sizes: Vec<(f64, f64)> = sizes.collect();
            let nearest = sizes.iter().copied().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
            losses[0] += weight * nearest.1;
            losses[1] += held * nearest.1;
            let near = |(value, size): (f64, f64)| value - nearest.0 <= 1e-5 * (size + nearest.1);
            if sizes.iter().filter(|one| near(**one)).count() > 1 {
                for (k, _) in sizes.iter().enumerate().filter(|(_, one)| near(**one)) {
                    let sums = &mut self.ties[k * (1 + x.len())..][..1 + x.len()];
                    sums[0] += weight;
                    sums[1..].iter_mut().enumerate().for_each(|(j, sum)| *sum += weight * z(j).abs());
                }
            }
        }
        [self.totals[1], self.totals[3]] = losses;
    }
}
