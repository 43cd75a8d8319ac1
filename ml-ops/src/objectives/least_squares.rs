//! Least squares as a quadratic: one pass over the rows gives value, gradient and Hessian everywhere.

use super::curvature::inverse_power;
use super::glm::add_l2;
use super::{Glm, counted};
use crate::error::Result;
use crate::fold::{Curvature, Fold, Loss};
use crate::linalg::{Symmetric, dot};
use crate::objective::{Evaluation, Metric, Objective, Penalty, Want};
use crate::partial::Partial;

/// `1/(2W) sum w (y - margin)^2` and its penalty, in the coordinates of [`Glm`].
///
/// [`Want::Curvature`] is answered completely: value, gradient and the exact Hessian, from the cross
/// products of features and label over all rows. [`Want::Gradient`] is answered as [`Glm`] does.
#[derive(Clone, Debug)]
pub struct LeastSquares {
    glm: Glm,
    /// Shift and power-of-two scale of the label.
    label: (f64, f64),
}

impl LeastSquares {
    /// The same objective as `glm`, whose loss is [`Loss::Squared`].
    pub fn new(glm: Glm) -> Self {
        debug_assert_eq!(glm.loss, Loss::Squared);
        let shift = if glm.scaling.intercept { glm.start[0] } else { 0.0 };
        let (low, high) = glm.scaling.bounds.label;
        let label = (shift, inverse_power((high - shift).abs().max((low - shift).abs())));
        Self { glm, label }
    }
}

impl Objective for LeastSquares {
    fn start(&self) -> Vec<f64> {
        self.glm.start()
    }

    fn penalty(&self) -> &Penalty {
        self.glm.penalty()
    }

    fn fold(&self, at: &[f64], want: Want) -> Result<Fold> {
        match want {
            Want::Curvature => self.glm.scaling.gram(Curvature::Weight, Some(self.label), false),
            _ => self.glm.fold(at, want),
        }
    }

    fn read(&self, at: &[f64], want: Want, partial: &Partial) -> Result<Evaluation> {
        if want != Want::Curvature {
            return self.glm.read(at, want, partial);
        }
        let scaling = &self.glm.scaling;
        let products = scaling.cross_products(partial, Some(self.label))?;
        let (size, skip, last) = (scaling.parameters(), 1 - scaling.first(), products.size - 1);
        let mut matrix = Symmetric::zero(size);
        for i in 0..size {
            for j in i..size {
                matrix.set(i, j, products.at(i + skip, j + skip));
            }
        }
        // The label here is y - shift, and so is the intercept's coordinate.
        let mut inner = at.to_vec();
        if scaling.intercept {
            inner[0] -= self.label.0;
        }
        let moment: Vec<f64> = (0..size).map(|i| products.at(i + skip, last)).collect();
        let image = matrix.times(&inner);
        let value = (products.at(last, last) - 2.0 * dot(&moment, &inner) + dot(&image, &inner)) / 2.0;
        let gradient = image.iter().zip(&moment).map(|(a, b)| a - b).collect();
        let mut evaluation = Evaluation {
            value: value.max(0.0),
            gradient,
            rows: partial.rows,
            weight: counted(partial)?,
            single: partial.single,
            ..Default::default()
        };
        add_l2(&mut evaluation, &self.glm.penalty, at);
        for (j, &s) in scaling.deviation.iter().enumerate() {
            if s == 0.0 {
                matrix.set(j + scaling.first(), j + scaling.first(), 1.0);
            }
        }
        matrix.add_diagonal(&self.glm.penalty.l2);
        if partial.single {
            scaling.raise_flats(&mut matrix, &self.glm.penalty);
        }
        evaluation.curvature = Some(Metric { matrix, repeat: 1, exact: true });
        Ok(evaluation)
    }
}
