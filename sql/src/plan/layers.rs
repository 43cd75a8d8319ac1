//! `ML.WEIGHTS` of a network: a row for each connection and bias.

use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, Int64Array, StringArray};
use datafusion::logical_expr::LogicalPlan;
use sinew_ml::MlError;
use sinew_ml::family::Tensor;
use sinew_ml::model::Model;
use sinew_ml::transform::Encoding;

use super::tables::{INTERCEPT, relation};
use crate::error::Result;

/// What stands before a layer: name and category of each input.
type Inputs = Vec<(String, Option<String>)>;

/// The layers of a model, each with its weights and biases; none if it is no network.
pub(crate) fn layers(model: &Model) -> Vec<(&Tensor, &Tensor)> {
    let part = |layer: usize, part: &str| model.weights.get(&format!("layer_{layer}.{part}"));
    (1..).map_while(|layer| Some((part(layer, "weight")?, part(layer, "bias")?))).collect()
}

fn features(model: &Model) -> Inputs {
    let each = model.manifest.transform.features.iter().map(|feature| {
        let named = |category| (feature.name.clone(), category);
        match &feature.encoding {
            Encoding::Numeric { .. } => vec![named(None)],
            Encoding::OneHot { categories, null } => {
                let known = categories.iter().map(|category| named(Some(category.clone())));
                let all: Inputs = known.chain(null.then(|| named(None))).collect();
                // A column without any value still has a coordinate.
                if all.is_empty() { vec![named(None)] } else { all }
            }
        }
    });
    each.flatten().collect()
}

/// A row for each weight of each layer, and for each bias.
///
/// # Errors
/// When a layer does not fit the one before it.
pub(crate) fn weights(model: &Model) -> Result<LogicalPlan> {
    let classes = model.manifest.transform.label.as_ref().map_or(&[][..], |label| &label.classes);
    let (mut class, mut layer, mut unit) = (Vec::new(), Vec::new(), Vec::new());
    let (mut input, mut category, mut weight) = (Vec::new(), Vec::new(), Vec::new());
    let (all, mut inputs) = (layers(model), features(model));
    for (l, (matrix, biases)) in all.iter().enumerate() {
        let units = biases.data.len();
        if matrix.shape != [inputs.len(), units] {
            let reason = format!("layer {} has shape {:?} behind {} inputs", l + 1, matrix.shape, inputs.len());
            return Err(MlError::Damaged { reason }.into());
        }
        let biases = (INTERCEPT.to_string(), None, &biases.data[..]);
        let rows = inputs.iter().zip(matrix.data.chunks(units.max(1)));
        let rows = rows.map(|((name, category), row)| (name.clone(), category.clone(), row)).chain([biases]);
        for (name, of, row) in rows {
            for (k, value) in row.iter().enumerate() {
                class.push(if l + 1 == all.len() { classes.get(k).cloned() } else { None });
                layer.push(l as i64 + 1);
                unit.push(k as i64 + 1);
                input.push(name.clone());
                category.push(of.clone());
                weight.push(*value);
            }
        }
        inputs = (1..=units).map(|k| (format!("unit_{k}"), None)).collect();
    }
    relation(
        "ml_weights",
        vec![
            ("class_label", Arc::new(StringArray::from(class))),
            ("layer", Arc::new(Int64Array::from(layer))),
            ("unit", Arc::new(Int64Array::from(unit))),
            ("processed_input", Arc::new(StringArray::from(input))),
            ("category", Arc::new(StringArray::from(category))),
            ("weight", Arc::new(Float64Array::from(weight))),
        ],
    )
}
