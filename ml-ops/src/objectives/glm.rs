//! A loss of one linear margin: squared error and logistic loss.

use super::scaling::{SLACK, Scaling};
use super::{counted, finite, sample_of};
use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::fold::{Curvature, Fold, Kernel, Loss, RoleSet};
use crate::linalg::dot;
use crate::objective::{Evaluation, Metric, Objective, Penalty, Want};
use crate::partial::Partial;

/// `1/W sum w loss(margin, y)` and its penalty, in standardised coordinates `[intercept?, theta_1, .., theta_P]`.
#[derive(Clone, Debug)]
pub struct Glm {
    pub(super) loss: Loss,
    pub(super) scaling: Scaling,
    pub(super) penalty: Penalty,
    pub(super) start: Vec<f64>,
}

impl Glm {
    /// The objective that starts from zero coefficients and the given intercept, which is a margin.
    pub fn new(loss: Loss, scaling: Scaling, penalty: Penalty, intercept: f64) -> Self {
        let mut start = vec![0.0; scaling.parameters()];
        if scaling.intercept {
            start[0] = intercept;
        }
        Self { loss, scaling, penalty, start }
    }

    fn linear(&self, at: &[f64], want: Want) -> Result<Fold> {
        let (intercept, weights) = self.scaling.raw(at)?;
        let (low, high) = self.scaling.margins(intercept, &weights);
        let bounds = &self.scaling.bounds;
        let (residual, loss) = match self.loss {
            Loss::Squared => {
                let most = (high - bounds.label.0).abs().max((bounds.label.1 - low).abs()) * SLACK;
                (most, most * most / 2.0 * SLACK)
            }
            Loss::Logistic => (1.0, (low.abs().max(high.abs()) + std::f64::consts::LN_2) * SLACK),
        };
        Ok(Fold {
            kernel: Kernel::Linear { loss: self.loss, intercept, weights },
            layout: self.scaling.layout.clone(),
            train: RoleSet::TRAIN,
            eval: RoleSet::EVAL,
            sample: sample_of(want, &self.scaling),
            weight_grid: Grid::covering(bounds.weight)?,
            loss_grid: Grid::covering(bounds.weight * loss)?,
            grids: self.scaling.gradient_grids(bounds.weight * residual)?,
            around: None,
        })
    }
}

/// Adds the L2 penalty to a value and its gradient.
pub(super) fn add_l2(evaluation: &mut Evaluation, penalty: &Penalty, at: &[f64]) {
    let scaled: Vec<f64> = penalty.l2.iter().zip(at).map(|(l, b)| l * b).collect();
    evaluation.value += dot(&scaled, at) / 2.0;
    for (g, l) in evaluation.gradient.iter_mut().zip(&scaled) {
        *g += l;
    }
}

impl Objective for Glm {
    fn start(&self) -> Vec<f64> {
        self.start.clone()
    }

    fn penalty(&self) -> &Penalty {
        &self.penalty
    }

    fn sample_rows(&self) -> Option<u64> {
        self.scaling.sample_rows()
    }

    fn fold(&self, at: &[f64], want: Want) -> Result<Fold> {
        match want {
            Want::Gradient | Want::Sample | Want::Batch { .. } => self.linear(at, want),
            Want::Curvature => {
                let curvature = match self.loss {
                    Loss::Squared => Curvature::Weight,
                    Loss::Logistic => {
                        let (intercept, weights) = self.scaling.raw(at)?;
                        Curvature::Logistic { intercept, weights }
                    }
                };
                self.scaling.gram(curvature, None, true)
            }
            Want::Candidates { .. } | Want::Loss | Want::Steps { .. } => {
                Err(MlError::Internal("a linear model has neither candidate rows nor steps of shards".into()))
            }
        }
    }

    fn read(&self, at: &[f64], want: Want, partial: &Partial) -> Result<Evaluation> {
        let weight = counted(partial)?;
        let mut evaluation = Evaluation {
            value: f64::NAN,
            rows: partial.rows,
            weight,
            eval_loss: partial.eval_loss(),
            single: partial.single,
            ..Default::default()
        };
        if want == Want::Curvature {
            let matrix = self.scaling.curvature(partial, 1.0, &self.penalty)?;
            let exact = self.scaling.curvature_fraction() >= 1.0;
            evaluation.eval_loss = None;
            evaluation.curvature = Some(Metric { matrix, repeat: 1, exact });
        } else {
            evaluation.value = partial.loss() / weight;
            evaluation.gradient = self.scaling.gradient(&finite(partial)?, weight);
            add_l2(&mut evaluation, &self.penalty, at);
        }
        Ok(evaluation)
    }
}
