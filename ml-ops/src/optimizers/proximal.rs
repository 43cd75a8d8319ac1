//! Steps under an L1 penalty: coordinate descent on a quadratic model, and orthant-wise directions.

use super::{soft_threshold, subgradient};
use crate::linalg::{Symmetric, add_scaled, dot, max_norm};

/// Sweeps of coordinate descent before it gives up.
const SWEEPS: usize = 10_000;

/// Minimises `g'd + 1/2 d'Bd + sum l1_j |x_j + d_j|` over d by cyclic coordinate descent, until no
/// coordinate's subgradient exceeds `tolerance` (Friedman, Hastie, Tibshirani, *Regularization Paths for
/// Generalized Linear Models via Coordinate Descent*, 2010). Returns `x + d`; zeros are exact.
pub(super) fn minimise(at: &[f64], gradient: &[f64], matrix: &Symmetric, l1: &[f64], tolerance: f64) -> Vec<f64> {
    let mut x = at.to_vec();
    // The model's gradient at x, kept up to date.
    let mut slope = gradient.to_vec();
    let mut active: Vec<usize> = (0..x.len()).collect();
    let mut all = true;
    let mut last = f64::INFINITY;
    for _ in 0..SWEEPS {
        let mut moved = 0.0f64;
        for &j in &active {
            let curvature = matrix.at(j, j);
            if curvature <= 0.0 {
                continue;
            }
            let new = soft_threshold(x[j] - slope[j] / curvature, l1[j] / curvature);
            let step = new - x[j];
            if step != 0.0 {
                x[j] = new;
                moved = moved.max((step * curvature).abs());
                add_scaled(&mut slope, step, matrix.row(j));
            }
        }
        if moved <= tolerance {
            if all {
                // The slope has gathered rounding errors: start again from the exact one, once it has settled.
                let change: Vec<f64> = x.iter().zip(at).map(|(x, a)| x - a).collect();
                slope = matrix.times(&change).iter().zip(gradient).map(|(b, g)| b + g).collect();
                let rest = max_norm(&subgradient(&x, &slope, l1));
                if rest <= tolerance || rest >= last {
                    break;
                }
                last = rest;
            }
            all = true;
            active = (0..x.len()).collect();
        } else if all {
            // Until it settles, only the coordinates that are not zero.
            all = false;
            active.retain(|&j| x[j] != 0.0 || l1[j] == 0.0);
        }
    }
    x
}

/// Updates the matrix of a model by a step and the change of the gradient along it (BFGS).
pub(super) fn update(matrix: &mut Symmetric, step: &[f64], change: &[f64], rescale: bool) {
    let image = matrix.times(step);
    let (model, real) = (dot(step, &image), dot(step, change));
    if model <= 0.0 || real <= 1e-14 * (dot(step, step) * dot(change, change)).sqrt() {
        return;
    }
    let factor = if rescale { real / model } else { 1.0 };
    let size = matrix.size;
    for i in 0..size {
        let row = &mut matrix.values[i * size..(i + 1) * size];
        let (a, b) = (factor * image[i] / model, change[i] / real);
        for ((value, image), change) in row.iter_mut().zip(&image).zip(change) {
            *value = *value * factor - a * image + b * change;
        }
    }
}

/// Keeps of `direction` what points down from `at` (OWL-QN: Andrew and Gao, *Scalable Training of
/// L1-Regularized Log-Linear Models*, 2007).
pub(super) fn align(direction: &mut [f64], subgradient: &[f64]) {
    for (d, g) in direction.iter_mut().zip(subgradient) {
        if *d * g >= 0.0 {
            *d = 0.0;
        }
    }
}

/// `at + step * direction`, with coordinates that would cross zero stopped there.
pub(super) fn in_orthant(at: &[f64], direction: &[f64], step: f64, subgradient: &[f64], l1: &[f64]) -> Vec<f64> {
    let mut next = at.to_vec();
    add_scaled(&mut next, step, direction);
    for (j, x) in next.iter_mut().enumerate() {
        let sign = if at[j] != 0.0 { at[j] } else { -subgradient[j] };
        if l1[j] > 0.0 && *x * sign <= 0.0 {
            *x = 0.0;
        }
    }
    next
}
