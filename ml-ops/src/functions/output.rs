//! Predictions as Arrow arrays.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, Int32Array, ListArray, StructArray, UInt32Array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{nullif, take};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Float64Type};

use super::score::Scorer;
use crate::error::{MlError, Result};
use crate::family::Task;
use crate::kernels::Scores;
use crate::metrics;

/// The type of the prediction alone.
pub(super) fn label_type(scorer: &Scorer) -> Result<DataType> {
    Ok(match scorer.task() {
        Task::Classification => scorer.typed_classes()?.data_type().clone(),
        Task::Regression => DataType::Float64,
        Task::Clustering => DataType::Int32,
    })
}

/// The type of the whole prediction, a struct.
pub(super) fn struct_type(scorer: &Scorer) -> Result<DataType> {
    let label = scorer.model().manifest.transform.label.as_ref().map_or("", |label| &label.name);
    let kind = label_type(scorer)?;
    let field = |name: String, data_type: DataType| Field::new(name, data_type, true);
    Ok(DataType::Struct(match scorer.task() {
        Task::Regression => Fields::from(vec![field(format!("predicted_{label}"), kind)]),
        Task::Classification => Fields::from(vec![
            field(format!("predicted_{label}"), kind.clone()),
            field(format!("predicted_{label}_probs"), list_type("label", kind, "prob")),
        ]),
        Task::Clustering => Fields::from(vec![
            field("centroid_id".into(), kind.clone()),
            field("nearest_centroids_distance".into(), list_type("centroid_id", kind, "distance")),
        ]),
    }))
}

fn list_type(key: &str, key_type: DataType, value: &str) -> DataType {
    let entry = Fields::from(vec![Field::new(key, key_type, true), Field::new(value, DataType::Float64, true)]);
    DataType::List(Arc::new(Field::new_list_field(DataType::Struct(entry), true)))
}

/// The type of raw scores.
pub(super) fn scores_type(scorer: &Scorer) -> DataType {
    DataType::FixedSizeList(score_item(), scorer.scoring().outputs() as i32)
}

fn score_item() -> Arc<Field> {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

/// Raw scores, a list for each row; NULL in rows that do not count.
pub(super) fn lists(scorer: &Scorer, scores: &Scores, valid: Option<&BooleanBuffer>) -> Result<ArrayRef> {
    let rows = scores.first().map_or(0, Vec::len);
    let values: Float64Array = (0..rows).flat_map(|row| scores.iter().map(move |score| score[row])).collect();
    let (size, nulls) = (scorer.scoring().outputs() as i32, valid.map(|v| NullBuffer::new(v.clone())));
    Ok(Arc::new(FixedSizeListArray::try_new(score_item(), size, Arc::new(values), nulls)?))
}

/// What [`lists`] wrote, and which rows count.
pub(super) fn of_lists(lists: &FixedSizeListArray) -> Result<(Scores, Option<BooleanBuffer>)> {
    let odd = || MlError::Internal("scores are lists of doubles".into());
    let values = lists.values().as_primitive_opt::<Float64Type>().ok_or_else(odd)?.values();
    let size = lists.value_length() as usize;
    let score = |k: usize| values.iter().skip(k).step_by(size).copied().collect();
    Ok(((0..size).map(score).collect(), lists.nulls().map(|nulls| nulls.inner().clone())))
}

/// The prediction alone; NULL in rows that do not count.
pub(super) fn labels(
    scorer: &Scorer,
    scores: &Scores,
    threshold: f64,
    valid: Option<&BooleanBuffer>,
) -> Result<ArrayRef> {
    let array: ArrayRef = match scorer.task() {
        Task::Regression => Arc::new(Float64Array::from(scores.first().cloned().unwrap_or_default())),
        Task::Classification => {
            let probabilities = metrics::probabilities(scorer.kernel(), scores);
            let classes = UInt32Array::from(metrics::decide(&probabilities, threshold));
            take(scorer.typed_classes()?, &classes, None)?
        }
        Task::Clustering => {
            let nearest = metrics::nearest(scores);
            Arc::new(nearest.iter().map(|&(centre, _)| Some(centre as i32 + 1)).collect::<Int32Array>())
        }
    };
    without(array, valid)
}

/// The probability of one class; NULL in rows that do not count.
pub(super) fn probability(
    scorer: &Scorer,
    scores: &Scores,
    class: usize,
    valid: Option<&BooleanBuffer>,
) -> Result<ArrayRef> {
    let mut probabilities = metrics::probabilities(scorer.kernel(), scores);
    without(Arc::new(Float64Array::from(probabilities.swap_remove(class))), valid)
}

/// The whole prediction; NULL, and so is every field of it, in rows that do not count.
pub(super) fn structs(
    scorer: &Scorer,
    scores: &Scores,
    threshold: f64,
    valid: Option<&BooleanBuffer>,
) -> Result<ArrayRef> {
    let DataType::Struct(fields) = struct_type(scorer)? else {
        return Err(MlError::Internal("a prediction is a struct".into()));
    };
    let mut columns = vec![labels(scorer, scores, threshold, valid)?];
    let list = fields.get(1).map(|field| field.data_type());
    match (scorer.task(), list) {
        (Task::Classification, Some(list)) => {
            let probabilities = metrics::probabilities(scorer.kernel(), scores);
            let (order, values) = ranked(&probabilities, |a, b| b.total_cmp(&a));
            let keys = take(scorer.typed_classes()?, &UInt32Array::from(order), None)?;
            columns.push(pairs(list, scores.first().map_or(0, Vec::len), keys, values, valid)?);
        }
        (Task::Clustering, Some(list)) => {
            let (order, mut values) = ranked(scores, |a, b| a.total_cmp(&b));
            values.iter_mut().for_each(|d| *d = d.sqrt());
            let keys: Int32Array = order.iter().map(|&centre| Some(centre as i32 + 1)).collect();
            columns.push(pairs(list, scores.first().map_or(0, Vec::len), Arc::new(keys), values, valid)?);
        }
        _ => {}
    }
    Ok(Arc::new(StructArray::try_new(fields, columns, valid.map(|v| NullBuffer::new(v.clone())))?))
}

/// For each row its outputs in order, ties by index: all indices, and all values.
fn ranked(outputs: &[Vec<f64>], order: impl Fn(f64, f64) -> std::cmp::Ordering) -> (Vec<u32>, Vec<f64>) {
    let rows = outputs.first().map_or(0, Vec::len);
    let mut indices = Vec::with_capacity(rows * outputs.len());
    let mut values = Vec::with_capacity(rows * outputs.len());
    let mut ranking: Vec<(u32, f64)> = Vec::with_capacity(outputs.len());
    for row in 0..rows {
        ranking.clear();
        ranking.extend((0..).zip(outputs.iter().map(|output| output[row])));
        ranking.sort_unstable_by(|a, b| order(a.1, b.1).then(a.0.cmp(&b.0)));
        indices.extend(ranking.iter().map(|r| r.0));
        values.extend(ranking.iter().map(|r| r.1));
    }
    (indices, values)
}

/// A list of `{key, value}` for each row, all of the same length.
fn pairs(
    list: &DataType,
    rows: usize,
    keys: ArrayRef,
    values: Vec<f64>,
    valid: Option<&BooleanBuffer>,
) -> Result<ArrayRef> {
    let (DataType::List(item), length) = (list, values.len().checked_div(rows).unwrap_or(0)) else {
        return Err(MlError::Internal("pairs come as a list".into()));
    };
    let DataType::Struct(fields) = item.data_type() else {
        return Err(MlError::Internal("a pair is a struct".into()));
    };
    if values.len() > i32::MAX as usize {
        return Err(MlError::TooLarge {
            what: "the probabilities of one batch".into(),
            needed: 8 * values.len() as u64,
            limit: 8 * i32::MAX as u64,
            hint: "lower datafusion.execution.batch_size".into(),
        });
    }
    let entries = StructArray::try_new(fields.clone(), vec![keys, Arc::new(Float64Array::from(values))], None)?;
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(length, rows));
    let nulls = valid.map(|v| NullBuffer::new(v.clone()));
    Ok(Arc::new(ListArray::try_new(Arc::clone(item), offsets, Arc::new(entries), nulls)?))
}

/// NULL in rows that do not count.
fn without(array: ArrayRef, valid: Option<&BooleanBuffer>) -> Result<ArrayRef> {
    Ok(match valid {
        Some(valid) => nullif(&array, &(!valid).into())?,
        None => array,
    })
}
