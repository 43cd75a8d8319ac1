//! Multinomial logistic regression: one row of coefficients for each class, none of them a reference.

use super::glm::add_l2;
use super::scaling::{SLACK, Scaling};
use super::{counted, finite, sample_of};
use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::fold::{Curvature, Fold, Kernel, RoleSet};
use crate::objective::{Evaluation, Metric, Objective, Penalty, Want};
use crate::partial::Partial;

/// `1/W sum -w ln p_y` with `p = softmax(margins)`, and its penalty, in standardised coordinates
/// `[K, intercept? + P]`, class by class.
///
/// Its curvature is `1/K X'WX / W` for each class, the same block repeated: exact for balanced classes where
/// all coefficients are zero, in the directions that sum to zero over classes. (Boehning, *Multinomial
/// logistic regression algorithm*, 1992, has 1/2 instead, which is a bound everywhere and too short a step.)
#[derive(Clone, Debug)]
pub struct Softmax {
    scaling: Scaling,
    penalty: Penalty,
    start: Vec<f64>,
    classes: usize,
}

impl Softmax {
    /// The objective that starts from zero coefficients and these intercepts, one for each class.
    /// `penalty` is that of one class.
    pub fn new(scaling: Scaling, penalty: &Penalty, intercepts: &[f64]) -> Self {
        let (width, classes) = (scaling.parameters(), intercepts.len());
        let mut start = vec![0.0; width * classes];
        if scaling.intercept {
            for (row, value) in start.chunks_exact_mut(width).zip(intercepts) {
                row[0] = *value;
            }
        }
        let penalty = Penalty { l1: penalty.l1.repeat(classes), l2: penalty.l2.repeat(classes) };
        Self { scaling, penalty, start, classes }
    }

    fn softmax(&self, at: &[f64], want: Want) -> Result<Fold> {
        let bounds = &self.scaling.bounds;
        let (mut intercepts, mut weights) = (Vec::new(), Vec::new());
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for theta in at.chunks_exact(self.scaling.parameters()) {
            let (intercept, row) = self.scaling.raw(theta)?;
            let (least, most) = self.scaling.margins(intercept, &row);
            (low, high) = (low.min(least), high.max(most));
            intercepts.push(intercept);
            weights.extend(row);
        }
        let loss = (high - low + libm::log(self.classes as f64)) * SLACK;
        Ok(Fold {
            kernel: Kernel::Softmax { intercepts, weights },
            layout: self.scaling.layout.clone(),
            train: RoleSet::TRAIN,
            eval: RoleSet::EVAL,
            sample: sample_of(want, &self.scaling),
            weight_grid: Grid::covering(bounds.weight)?,
            loss_grid: Grid::covering(bounds.weight * loss)?,
            grids: self.scaling.gradient_grids(bounds.weight * SLACK)?.repeat(self.classes),
            around: None,
        })
    }
}

impl Objective for Softmax {
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
            Want::Gradient | Want::Sample | Want::Batch { .. } => self.softmax(at, want),
            Want::Curvature => self.scaling.gram(Curvature::Weight, None, true),
            Want::Candidates { .. } | Want::Loss | Want::Steps { .. } => {
                Err(MlError::Internal("a linear model has neither candidate rows nor steps of shards".into()))
            }
        }
    }

    fn read(&self, at: &[f64], want: Want, partial: &Partial) -> Result<Evaluation> {
        let weight = counted(partial)?;
        let width = self.scaling.parameters();
        let mut evaluation = Evaluation {
            value: f64::NAN,
            rows: partial.rows,
            weight,
            eval_loss: partial.eval_loss(),
            single: partial.single,
            ..Default::default()
        };
        if want == Want::Curvature {
            let penalty = Penalty { l1: self.penalty.l1[..width].to_vec(), l2: self.penalty.l2[..width].to_vec() };
            let matrix = self.scaling.curvature(partial, 1.0 / self.classes as f64, &penalty)?;
            evaluation.eval_loss = None;
            evaluation.curvature = Some(Metric { matrix, repeat: self.classes, exact: false });
        } else {
            evaluation.value = partial.loss() / weight;
            for sums in finite(partial)?.chunks_exact(self.scaling.center.len() + 1) {
                evaluation.gradient.extend(self.scaling.gradient(sums, weight));
            }
            add_l2(&mut evaluation, &self.penalty, at);
        }
        Ok(evaluation)
    }
}
