//! Curvature from weighted cross products, over all rows or a fixed sample of them.

use super::scaling::{SLACK, Scaling};
use super::{counted, finite};
use crate::error::Result;
use crate::exact::Grid;
use crate::fold::{Curvature, Fold, Kernel, RoleSet, Sample};
use crate::linalg::Symmetric;
use crate::objective::Penalty;
use crate::partial::Partial;

/// A sample of curvature has this many rows, where its cost allows.
const ROWS: u64 = 65_536;
/// It has at least so many rows for each coordinate, whatever it costs.
const ROWS_EACH: u64 = 16;
/// Passes of the gradient that its curvature may cost.
const PASSES: u64 = 6;
/// Multiply-adds that are not worth saving.
const SMALL: u64 = 200_000_000;
/// The categories of a feature have all rows when their shares add up to 1 within this.
const COVERS: f64 = 1e-11;
/// Makes the curvature sample differ from mini-batches.
const SALT: u64 = 0x6375_7276_6174_7572;

impl Scaling {
    /// The fraction of the rows that curvature is taken over; 1 means exactly all.
    pub fn curvature_fraction(&self) -> f64 {
        // A row costs P^2/2 multiply-adds here, and 2P in a pass of the gradient.
        let width = self.center.len().max(1) as u64;
        let affordable = (PASSES * 4 * self.rows / width).min(ROWS).max(2 * SMALL / (width * width));
        let wanted = affordable.max(ROWS_EACH * width);
        // A sample that is nearly everything saves nothing.
        if self.rows <= wanted + wanted / 4 { 1.0 } else { wanted as f64 / self.rows as f64 }
    }

    /// The sample that curvature is taken over; `None` when it is all rows.
    pub(super) fn sample(&self) -> Option<Sample> {
        let fraction = self.curvature_fraction();
        (fraction < 1.0).then(|| Sample::resident(fraction, self.seed ^ SALT))
    }

    /// Rows of that sample, when it is a small part of all.
    pub(super) fn sample_rows(&self) -> Option<u64> {
        let fraction = self.curvature_fraction();
        (fraction <= 0.25).then_some((fraction * self.rows as f64) as u64)
    }

    /// The cost of one curvature fold in folds of the gradient: `P^2/2` against `2P` multiply-adds a row.
    pub fn curvature_cost(&self) -> f64 {
        self.curvature_fraction() * self.parameters() as f64 / 4.0
    }

    /// Shift and power-of-two scale that bring every numeric column to at most 1 in magnitude.
    pub(super) fn unit_range(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut shift, mut scale) = (self.center.clone(), vec![1.0; self.center.len()]);
        for span in self.layout.spans() {
            if span.categorical {
                shift[span.offset..span.offset + span.width].fill(0.0);
            } else {
                let j = span.offset;
                scale[j] =
                    inverse_power((self.bounds.high[j] - shift[j]).abs().max((self.bounds.low[j] - shift[j]).abs()));
            }
        }
        (shift, scale)
    }

    /// The fold of `sum h z z'`, with the label as one more entry of `z` when `label` is set.
    pub(super) fn gram(&self, curvature: Curvature, label: Option<(f64, f64)>, sampled: bool) -> Result<Fold> {
        let (shift, scale) = self.unit_range();
        let size = self.center.len() + 1 + usize::from(label.is_some());
        let most = match curvature {
            Curvature::Weight => self.bounds.weight,
            Curvature::Logistic { .. } => self.bounds.weight * 0.25 * SLACK,
        };
        Ok(Fold {
            kernel: Kernel::Gram { shift, scale, label, curvature },
            layout: self.layout.clone(),
            train: RoleSet::TRAIN,
            eval: RoleSet::NONE,
            sample: self.sample().filter(|_| sampled),
            weight_grid: Grid::covering(self.bounds.weight)?,
            loss_grid: Grid::covering(0.0)?,
            grids: vec![Grid::covering(most)?; size * (size + 1) / 2],
            around: None,
        })
    }

    /// The cross products of `[1, standardised coordinates, label]` for each unit of weight.
    pub(super) fn cross_products(&self, partial: &Partial, label: Option<(f64, f64)>) -> Result<Symmetric> {
        let (shift, scale) = self.unit_range();
        let width = self.center.len();
        let size = width + 1 + usize::from(label.is_some());
        let weight = counted(partial)?;
        let sums = Symmetric::from_upper(size, &finite(partial)?);
        // Entry i of the wanted vector is factor_i z_i - offset_i z_0.
        let mut factor = vec![1.0];
        let mut offset = vec![0.0];
        for j in 0..width {
            let s = self.deviation[j];
            factor.push(if s > 0.0 { 1.0 / scale[j] / s } else { 0.0 });
            offset.push(if s > 0.0 { (self.center[j] - shift[j]) / s } else { 0.0 });
        }
        if let Some((_, scale)) = label {
            factor.push(1.0 / scale);
            offset.push(0.0);
        }
        let mut products = Symmetric::zero(size);
        for i in 0..size {
            for j in i..size {
                let (fi, fj, oi, oj) = (factor[i], factor[j], offset[i], offset[j]);
                let value = fi * fj * sums.at(i, j) - oi * fj * sums.at(0, j) - oj * fi * sums.at(0, i)
                    + oi * oj * sums.at(0, 0);
                products.set(i, j, value / weight);
            }
        }
        Ok(products)
    }

    /// Curvature in these coordinates, times `factor`, the L2 part of `penalty` included.
    ///
    /// A column whose curvature the sample missed (a rare category) gets the mean curvature times its
    /// second moment over all rows; a constant column gets 1, so that the matrix stays regular.
    pub(super) fn curvature(&self, partial: &Partial, factor: f64, penalty: &Penalty) -> Result<Symmetric> {
        let products = self.cross_products(partial, None)?;
        let sampled = self.curvature_fraction() < 1.0;
        let skip = 1 - self.first();
        let size = self.parameters();
        let mut matrix = Symmetric::zero(size);
        for i in 0..size {
            for j in i..size {
                matrix.set(i, j, factor * products.at(i + skip, j + skip));
            }
        }
        for (j, &s) in self.deviation.iter().enumerate() {
            let i = j + self.first();
            let expected = factor * products.at(0, 0) * self.second[j];
            if s == 0.0 {
                matrix.set(i, i, 1.0);
            } else if sampled && matrix.at(i, i) < 0.1 * expected {
                matrix.set(i, i, expected);
            }
        }
        matrix.add_diagonal(&penalty.l2);
        if partial.single {
            self.raise_flats(&mut matrix, penalty);
        }
        Ok(matrix)
    }

    /// Raises the curvature of directions that are known to be flat, and are not quite in sums of single precision, to
    /// the largest of their diagonal entries: a step has no part in them then.
    pub(super) fn raise_flats(&self, matrix: &mut Symmetric, penalty: &Penalty) {
        for flat in self.flats(penalty) {
            let largest = flat.iter().fold(0.0, |most: f64, (i, _)| most.max(matrix.at(*i, *i)));
            let raise = largest / flat.iter().map(|(_, v)| v * v).sum::<f64>();
            for (i, a) in &flat {
                for (j, b) in flat.iter().filter(|(j, _)| j >= i) {
                    matrix.set(*i, *j, matrix.at(*i, *j) + raise * a * b);
                }
            }
        }
    }

    /// The directions in which no margin of a training row changes, by the columns' meaning: where every row has one of a
    /// feature's categories, their indicators add up to the intercept, or to those of another such feature. Each as its
    /// entries that are not zero. Penalised coordinates have none.
    fn flats(&self, penalty: &Penalty) -> Vec<Vec<(usize, f64)>> {
        let free = |j: usize| penalty.l1[j] == 0.0 && penalty.l2[j] == 0.0;
        let covering = self.layout.spans().filter(|span| {
            let all: f64 = self.mean[span.offset..span.offset + span.width].iter().sum();
            span.categorical && (all - 1.0).abs() < COVERS
        });
        let entries = covering.map(|span| {
            let at = |j: usize| (j + self.first(), self.deviation[j]);
            (span.offset..span.offset + span.width).map(at).filter(|(_, v)| *v > 0.0).collect::<Vec<_>>()
        });
        let entries: Vec<Vec<(usize, f64)>> =
            entries.filter(|entries| !entries.is_empty() && entries.iter().all(|(j, _)| free(*j))).collect();
        if self.intercept {
            // Centred, an indicator's coordinates do not reach the intercept.
            return entries;
        }
        let less = |pair: &[Vec<(usize, f64)>]| {
            let other = pair[1].iter().map(|(j, v)| (*j, -v));
            pair[0].iter().copied().chain(other).collect()
        };
        entries.windows(2).map(less).collect()
    }
}

/// The largest power of two that brings `most` to at most 1; 1 for zero.
pub(super) fn inverse_power(most: f64) -> f64 {
    if most <= 0.0 || !most.is_finite() {
        return 1.0;
    }
    let mut exponent = libm::ilogb(most);
    if libm::ldexp(1.0, exponent) < most {
        exponent += 1;
    }
    libm::ldexp(1.0, (-exponent).clamp(-1000, 1000))
}
