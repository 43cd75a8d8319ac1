//! Standardised coordinates: `theta_j = b_j s_j`, centred when there is an intercept.
//!
//! ```text
//! margin = theta_0 + sum_j theta_j (x_j - mean_j) / s_j = b_0 + sum_j b_j x_j
//! b_j = theta_j / s_j       b_0 = theta_0 - sum_j b_j mean_j
//! dF/dtheta_j = (G_j - mean_j G_0) / s_j     with G the gradient in b, mean_j = 0 without an intercept
//! ```
//! A constant column has `s_j = 0`: its coefficient is 0 and so is its gradient.

use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::family::{Bounds, Setup};
use crate::fold::Layout;
use crate::linalg::dot;
use crate::objective::Penalty;

/// Slack for rounding in bounds of computed products.
pub(super) const SLACK: f64 = 1.0 + 1e-9;

/// Which standard deviation scales a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// `s^2 = sum w (x - m)^2 / W`.
    Population,
    /// `s^2 = sum w (x - m)^2 / (W - sum w^2 / W)`.
    Unbiased,
}

/// How standardised coordinates map to the columns.
#[derive(Clone, Debug)]
pub struct Scaling {
    pub(super) layout: Layout,
    pub(super) bounds: Bounds,
    /// Whether coordinate 0 of the parameters is an intercept.
    pub(super) intercept: bool,
    /// Means of the columns. `[P]`.
    pub(super) mean: Vec<f64>,
    /// What is taken off each column: its mean, or 0 without an intercept. `[P]`.
    pub(super) center: Vec<f64>,
    /// Standard deviations; 0 for a constant column. `[P]`.
    pub(super) deviation: Vec<f64>,
    /// Second moments of the standardised coordinates. `[P]`.
    pub(super) second: Vec<f64>,
    /// Training rows.
    pub(super) rows: u64,
    /// The seed of samples.
    pub(super) seed: u64,
}

impl Scaling {
    /// The coordinates of this data.
    ///
    /// # Errors
    /// When moments or bounds do not fit the layout.
    pub fn new(setup: &Setup, intercept: bool, kind: Deviation) -> Result<Self> {
        let (moments, bounds) = (&setup.moments, &setup.bounds);
        let width = setup.layout.width();
        if [moments.mean.len(), moments.variance.len(), bounds.low.len(), bounds.high.len()].iter().any(|&n| n != width)
        {
            return Err(MlError::Internal("moments or bounds do not have the layout's width".into()));
        }
        let unbiased = moments.weight / (moments.weight - moments.weight_squares / moments.weight);
        let factor = match kind {
            Deviation::Population => 1.0,
            Deviation::Unbiased if unbiased.is_finite() && unbiased > 0.0 => unbiased,
            Deviation::Unbiased => 0.0,
        };
        let deviation: Vec<f64> = (0..width)
            .map(|j| {
                let constant = is_constant(moments.variance[j], bounds.low[j], bounds.high[j]);
                if constant { 0.0 } else { (moments.variance[j] * factor).sqrt() }
            })
            .collect();
        let center = if intercept { moments.mean.clone() } else { vec![0.0; width] };
        let second = (0..width)
            .map(|j| {
                let off = moments.mean[j] - center[j];
                let square = deviation[j] * deviation[j];
                if square > 0.0 { (moments.variance[j] + off * off) / square } else { 0.0 }
            })
            .collect();
        let (layout, bounds) = (setup.layout.clone(), bounds.clone());
        let (mean, rows, seed) = (moments.mean.clone(), moments.rows, setup.seed);
        Ok(Self { layout, bounds, intercept, mean, center, deviation, second, rows, seed })
    }

    /// The number of parameters: the layout's width, and one for an intercept.
    pub fn parameters(&self) -> usize {
        self.center.len() + self.first()
    }

    /// Index of the first coefficient.
    pub(super) fn first(&self) -> usize {
        usize::from(self.intercept)
    }

    /// Intercept and coefficients in the columns' own scale.
    ///
    /// # Errors
    /// When one of them leaves the range of double precision.
    pub fn raw(&self, theta: &[f64]) -> Result<(f64, Vec<f64>)> {
        let weights: Vec<f64> = theta[self.first()..]
            .iter()
            .zip(&self.deviation)
            .map(|(t, &s)| if s > 0.0 && *t != 0.0 { t / s } else { 0.0 })
            .collect();
        let intercept = if self.intercept { theta[0] - dot(&weights, &self.center) } else { 0.0 };
        if intercept.is_finite() && weights.iter().all(|b| b.is_finite()) {
            return Ok((intercept, weights));
        }
        Err(MlError::Numeric {
            reason: "a weight left the range of double precision; use a smaller learning_rate or a larger reg_param"
                .into(),
        })
    }

    /// The gradient in these coordinates from `[sum r, sum r x_1, ..]`, divided by `weight`.
    pub(super) fn gradient(&self, sums: &[f64], weight: f64) -> Vec<f64> {
        let mut gradient = Vec::with_capacity(self.parameters());
        if self.intercept {
            gradient.push(sums[0] / weight);
        }
        gradient.extend(
            sums[1..]
                .iter()
                .zip(&self.center)
                .zip(&self.deviation)
                .map(|((g, mean), &s)| if s > 0.0 { (g - mean * sums[0]) / s / weight } else { 0.0 }),
        );
        gradient
    }

    /// `lambda [alpha sum t_j |b_j| + (1 - alpha)/2 sum t_j^2 b_j^2 / label]`, with `t_j = s_j` when
    /// `standardization` is on and 1 otherwise, in these coordinates.
    pub fn penalty(&self, lambda: f64, alpha: f64, standardization: bool, label: f64) -> Penalty {
        let mut penalty = Penalty { l1: vec![0.0; self.first()], l2: vec![0.0; self.first()] };
        for &s in &self.deviation {
            let ratio = if standardization || s == 0.0 { 1.0 } else { 1.0 / s };
            penalty.l1.push(lambda * alpha * ratio);
            penalty.l2.push(lambda * (1.0 - alpha) * ratio * ratio / label);
        }
        penalty
    }

    /// The range of the margin over all rows, with room for rounding.
    pub(super) fn margins(&self, intercept: f64, weights: &[f64]) -> (f64, f64) {
        let (mut low, mut high, mut size) = (intercept, intercept, intercept.abs());
        for span in self.layout.spans() {
            let weights = &weights[span.offset..span.offset + span.width];
            let (least, most) = if span.categorical {
                (weights.iter().fold(0.0, |a: f64, b| a.min(*b)), weights.iter().fold(0.0, |a: f64, b| a.max(*b)))
            } else {
                let (a, b) = (weights[0] * self.bounds.low[span.offset], weights[0] * self.bounds.high[span.offset]);
                (a.min(b), a.max(b))
            };
            low += least;
            high += most;
            size += least.abs().max(most.abs());
        }
        let slack = size * (self.center.len() as f64 + 8.0) * 4.0 * f64::EPSILON;
        (low - slack, high + slack)
    }

    /// The largest magnitude of column `j`.
    pub(super) fn magnitude(&self, j: usize) -> f64 {
        self.bounds.low[j].abs().max(self.bounds.high[j].abs())
    }

    /// Grids of `[sum r, sum r x_1, .., sum r x_P]` with `|r| <= residual`.
    pub(super) fn gradient_grids(&self, residual: f64) -> Result<Vec<Grid>> {
        std::iter::once(Grid::covering(residual))
            .chain((0..self.center.len()).map(|j| Grid::covering(residual * self.magnitude(j))))
            .collect()
    }
}

/// Whether a column varies by no more than rounding.
pub(crate) fn is_constant(variance: f64, low: f64, high: f64) -> bool {
    let rounding = 4.0 * f64::EPSILON * low.abs().max(high.abs());
    low >= high || variance.is_nan() || variance <= rounding * rounding
}
