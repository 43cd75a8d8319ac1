//! k-means: the mean squared distance of rows to the nearest of some centres.

use super::{counted, finite};
use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::family::Setup;
use crate::fold::{Fold, Kernel, Layout, RoleSet};
use crate::objective::{Evaluation, Objective, Penalty, Want};
use crate::partial::Partial;

/// `1/W sum w min_k |z - c_k|^2` with `z = (x - shift) * scale`.
///
/// A point is a list of centres, `[any number, P]`. [`Want::Gradient`] also gives one gathered row
/// `[sum w, mean z_1, .., mean z_P]` for each centre over the rows nearest to it; [`Want::Candidates`]
/// gives rows `z`.
#[derive(Clone, Debug)]
pub struct Clusters {
    layout: Layout,
    shift: Vec<f64>,
    scale: Vec<f64>,
    /// Ranges of z.
    range: Vec<(f64, f64)>,
    /// Largest row weight.
    weight: f64,
    centers: usize,
    penalty: Penalty,
}

impl Clusters {
    /// Centres in coordinates centred at the columns' means and, with `standardize`, divided by their
    /// population standard deviations.
    pub fn new(setup: &Setup, centers: usize, standardize: bool) -> Self {
        let (shift, scale) = coordinates(setup, standardize);
        let range = (0..shift.len())
            .map(|j| ((setup.bounds.low[j] - shift[j]) * scale[j], (setup.bounds.high[j] - shift[j]) * scale[j]))
            .collect();
        let (layout, weight) = (setup.layout.clone(), setup.bounds.weight);
        Self { layout, shift, scale, range, weight, centers, penalty: Penalty::default() }
    }
}

/// Shift and scale of the coordinates of k-means.
pub(crate) fn coordinates(setup: &Setup, standardize: bool) -> (Vec<f64>, Vec<f64>) {
    let (mut shift, mut scale) = (setup.moments.mean.clone(), vec![1.0; setup.moments.mean.len()]);
    for span in setup.layout.spans() {
        for j in span.offset..span.offset + span.width {
            if span.categorical {
                shift[j] = 0.0;
            }
            let deviation = setup.moments.variance[j].sqrt();
            let inverse = 1.0 / deviation;
            let constant =
                super::scaling::is_constant(setup.moments.variance[j], setup.bounds.low[j], setup.bounds.high[j]);
            if standardize && inverse.is_finite() && !constant {
                scale[j] = inverse;
            }
        }
    }
    (shift, scale)
}

impl Clusters {
    /// The largest squared distance of a row to the nearest centre.
    fn farthest(&self, at: &[f64]) -> f64 {
        let far = |center: &[f64]| -> f64 {
            let each = center.iter().zip(&self.range).map(|(c, (low, high))| (low - c).abs().max((high - c).abs()));
            each.map(|d| d * d).sum()
        };
        let nearest = at.chunks_exact(self.shift.len().max(1)).map(far).fold(f64::INFINITY, f64::min);
        if nearest.is_finite() { nearest * 1.000_001 } else { 0.0 }
    }
}

impl Objective for Clusters {
    fn start(&self) -> Vec<f64> {
        vec![0.0; self.centers * self.shift.len()]
    }

    fn penalty(&self) -> &Penalty {
        &self.penalty
    }

    fn fold(&self, at: &[f64], want: Want) -> Result<Fold> {
        let (shift, scale, centers) = (self.shift.clone(), self.scale.clone(), at.to_vec());
        let mut grids = Vec::new();
        let (kernel, eval) = match want {
            Want::Candidates { salt, factor, keep } => {
                (Kernel::Candidates { shift, scale, centers, salt, factor, keep }, RoleSet::NONE)
            }
            Want::Gradient => {
                let mut one = vec![Grid::covering(self.weight)?];
                for (low, high) in &self.range {
                    one.push(Grid::covering(self.weight * low.abs().max(high.abs()) * super::scaling::SLACK)?);
                }
                grids = one.repeat(at.len() / self.shift.len().max(1));
                (Kernel::Centroids { shift, scale, centers }, RoleSet::EVAL)
            }
            Want::Batch { .. } | Want::Sample | Want::Curvature | Want::Loss | Want::Steps { .. } => {
                return Err(MlError::Internal("k-means has neither batches nor steps nor curvature".into()));
            }
        };
        Ok(Fold {
            kernel,
            layout: self.layout.clone(),
            train: RoleSet::TRAIN,
            eval,
            sample: None,
            weight_grid: Grid::covering(self.weight)?,
            loss_grid: Grid::covering(self.weight * self.farthest(at))?,
            grids,
            around: None,
        })
    }

    fn read(&self, at: &[f64], want: Want, partial: &Partial) -> Result<Evaluation> {
        let weight = counted(partial)?;
        let mut evaluation = Evaluation {
            value: partial.loss() / weight,
            rows: partial.rows,
            weight,
            eval_loss: partial.eval_loss(),
            ..Default::default()
        };
        if want != Want::Gradient {
            evaluation.gathered = partial.gathered.rows.iter().map(|(_, row)| row.clone()).collect();
            return Ok(evaluation);
        }
        let width = self.shift.len();
        for (sums, center) in finite(partial)?.chunks_exact(width + 1).zip(at.chunks_exact(width.max(1))) {
            let mut row = vec![sums[0]];
            // An empty cluster keeps its centre.
            row.extend(center.iter().zip(&sums[1..]).map(|(c, s)| if sums[0] > 0.0 { s / sums[0] } else { *c }));
            evaluation.gradient.extend(center.iter().zip(&row[1..]).map(|(c, m)| 2.0 * sums[0] * (c - m) / weight));
            evaluation.gathered.push(row);
        }
        Ok(evaluation)
    }
}
