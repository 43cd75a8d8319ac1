//! The families, one file each, and the table that everything else reads.

mod kmeans;
mod linear_regression;
mod logistic_regression;
mod mlp;
mod mlp_options;
mod options;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::panic)]
mod tests;

use crate::error::{MlError, Result};
use crate::family::{Family, Tensor, Weights};

/// All families. The parser, the options, the manual and the tests read this table.
pub static FAMILIES: &[&dyn Family] = &[
    &linear_regression::LinearRegression,
    &logistic_regression::LogisticRegression,
    &kmeans::KMeans,
    &mlp::CLASSIFIER,
    &mlp::REGRESSOR,
];

/// A tensor of a model by name, of that many axes.
fn tensor<'a>(weights: &'a Weights, name: &str, axes: usize) -> Result<&'a Tensor> {
    let tensor = weights.get(name).ok_or_else(|| MlError::Damaged { reason: format!("it has no tensor '{name}'") })?;
    let length: usize = tensor.shape.iter().product();
    if tensor.shape.len() != axes || tensor.data.len() != length {
        return Err(MlError::Damaged {
            reason: format!("tensor '{name}' has shape {:?} and {} values", tensor.shape, tensor.data.len()),
        });
    }
    Ok(tensor)
}

/// The values of a tensor whose last axis must be `width` long.
fn values(tensor: &Tensor, name: &str, width: usize) -> Result<Vec<f64>> {
    if tensor.shape.last() != Some(&width) {
        return Err(MlError::Damaged {
            reason: format!("tensor '{name}' has shape {:?}, and the model has {width} coordinates", tensor.shape),
        });
    }
    Ok(tensor.data.clone())
}

/// A named tensor of finite values.
fn named(name: &str, shape: Vec<usize>, data: Vec<f64>) -> Result<(String, Tensor)> {
    if data.iter().all(|v| v.is_finite()) {
        return Ok((name.to_string(), Tensor { shape, data }));
    }
    Err(MlError::Numeric {
        reason: format!("the {name} are not finite; use a smaller learning_rate or a larger reg_param"),
    })
}
