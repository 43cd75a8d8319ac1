//! From profile and means to a fitted transform, and from exact sums to moments.

use crate::columns::Columns;
use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::family::{Bounds, Moments};
use crate::fold::{Fold, Kernel, RoleSet};
use crate::partial::Partial;
use crate::profile::{FeatureProfile, Profile, Range};
use crate::transform::{Encoding, FittedFeature, FittedLabel, FittedTransform, OnMissing};

/// The columns whose imputed mean must be known before rows can be prepared: position and bound of each.
pub fn columns_to_impute(columns: &Columns, profile: &Profile) -> Vec<(usize, f64)> {
    let numbers = columns.features.iter().zip(&profile.features);
    numbers
        .filter_map(|(feature, profile)| match profile {
            FeatureProfile::Number(range) if range.missing > 0 => Some((feature.index, largest(range))),
            _ => None,
        })
        .collect()
}

/// Squares of what is smaller than this, or larger than its inverse, lose digits.
pub(super) const LEAST: f64 = 1e-140;

fn largest(range: &Range) -> f64 {
    if range.is_empty() { 0.0 } else { range.low.abs().max(range.high.abs()) }
}

/// The transform, with `means` for [`columns_to_impute`] in their order.
///
/// # Errors
/// When the policy is `error` and a value is missing.
pub fn transform(
    columns: &Columns,
    profile: &Profile,
    means: &[f64],
    on_missing: OnMissing,
) -> Result<FittedTransform> {
    let mut means = means.iter().copied();
    let mut features = Vec::with_capacity(columns.features.len());
    for (feature, profile) in columns.features.iter().zip(&profile.features) {
        let missing = match profile {
            FeatureProfile::Number(range) => range.missing,
            FeatureProfile::Category(_, missing) => *missing,
        };
        if missing > 0 && on_missing == OnMissing::Error {
            return Err(MlError::BadValue {
                column: feature.name.clone(),
                value: format!("{missing} missing values"),
                hint: "on_missing = 'error' allows none; use 'impute' or 'skip', or filter them out".into(),
            });
        }
        let encoding = match profile {
            FeatureProfile::Number(range) => {
                Encoding::Numeric { impute: if range.missing > 0 { means.next().unwrap_or(0.0) } else { 0.0 } }
            }
            FeatureProfile::Category(values, missing) => {
                let null = *missing > 0 && on_missing == OnMissing::Impute;
                Encoding::OneHot { categories: values.keys().cloned().collect(), null }
            }
        };
        features.push(FittedFeature { name: feature.name.clone(), data_type: feature.data_type.clone(), encoding });
    }
    let label = columns.label.as_ref().map(|label| FittedLabel {
        name: label.name.clone(),
        data_type: label.data_type.clone(),
        classes: profile.classes.keys().map(|class| class.text()).collect(),
    });
    Ok(FittedTransform { features, label, on_missing })
}

/// Ranges in the layout's coordinates.
///
/// # Errors
/// A column or label whose squares leave double precision, by name.
pub fn bounds(columns: &Columns, profile: &Profile, transform: &FittedTransform) -> Result<Bounds> {
    let weight = if columns.weight.is_some() { profile.weight.high.max(0.0) } else { 1.0 };
    let check = |name: &str, low: f64, high: f64| {
        let (extent, reach) = (low.abs().max(high.abs()), high / 2.0 - low / 2.0);
        let bad = |value: f64, way: &str| {
            Err(MlError::BadValue {
                column: name.into(),
                value: format!("{value:e}"),
                hint: format!("its square leaves double precision; scale the column {way}"),
            })
        };
        if !((extent * extent * weight.max(1.0)).is_finite() && extent < 1e150) {
            return bad(extent, "down");
        }
        // A column that varies must have a variance; one that does not is left out of the objective.
        if reach > 0.0 && weight > 0.0 && reach * reach * weight.min(1.0) < LEAST * LEAST {
            return bad(extent, "up");
        }
        Ok(())
    };
    let mut bounds = Bounds { weight, rows: profile.rows, ..Bounds::default() };
    for (feature, profile) in transform.features.iter().zip(&profile.features) {
        match (&feature.encoding, profile) {
            (Encoding::Numeric { impute }, FeatureProfile::Number(range)) => {
                // What stands in for missing values need not lie among the others: no training row may have one.
                let (low, high) = match (range.is_empty(), range.missing > 0) {
                    (true, _) => (*impute, *impute),
                    (false, true) => (range.low.min(*impute), range.high.max(*impute)),
                    (false, false) => (range.low, range.high),
                };
                check(&feature.name, low, high)?;
                bounds.low.push(low);
                bounds.high.push(high);
            }
            (encoding, _) => {
                let width = encoding.categories().unwrap_or(0).max(1) as usize;
                bounds.low.extend(std::iter::repeat_n(0.0, width));
                bounds.high.extend(std::iter::repeat_n(1.0, width));
            }
        }
    }
    if let Some(label) = &transform.label
        && label.classes.is_empty()
        && !profile.label.is_empty()
    {
        check(&label.name, profile.label.low, profile.label.high)?;
        bounds.label = (profile.label.low, profile.label.high);
    }
    Ok(bounds)
}

/// The fold that gives the moments.
///
/// # Errors
/// When a bound is outside double precision.
pub fn moments_fold(transform: &FittedTransform, bounds: &Bounds) -> Result<Fold> {
    let layout = transform.layout();
    let middle = |low: f64, high: f64| low / 2.0 + high / 2.0;
    let reach = |low: f64, high: f64, shift: f64| (high - shift).max(shift - low).max(0.0);
    let w = bounds.weight;
    let mut grids = vec![Grid::covering(w * w)?];
    let label_shift = middle(bounds.label.0, bounds.label.1);
    match &transform.label {
        Some(label) if label.classes.is_empty() => {
            let reach = reach(bounds.label.0, bounds.label.1, label_shift);
            grids.push(Grid::covering(w * reach)?);
            grids.push(Grid::covering(w * reach * reach)?);
        }
        Some(label) => {
            for _ in &label.classes {
                grids.push(Grid::covering(w)?);
            }
        }
        None => {}
    }
    let mut shift = Vec::with_capacity(layout.width());
    let (mut first, mut second) = (Vec::with_capacity(layout.width()), Vec::with_capacity(layout.width()));
    for span in layout.spans() {
        for i in span.offset..span.offset + span.width {
            let (low, high) = (bounds.low[i], bounds.high[i]);
            let (center, reach) = match span.categorical {
                true => (0.0, 1.0),
                false => (middle(low, high), reach(low, high, middle(low, high))),
            };
            shift.push(center);
            first.push(Grid::covering(w * reach)?);
            second.push(Grid::covering(w * reach * reach)?);
        }
    }
    grids.extend(first);
    grids.extend(second);
    Ok(Fold {
        kernel: Kernel::Moments { shift, label_shift },
        layout,
        train: RoleSet::TRAIN,
        eval: RoleSet::EVAL,
        sample: None,
        weight_grid: Grid::covering(w)?,
        loss_grid: Grid::covering(0.0)?,
        grids,
        around: None,
    })
}

/// What the sums of [`moments_fold`] say.
///
/// # Errors
/// When `fold` is another fold.
pub fn moments(transform: &FittedTransform, fold: &Fold, partial: &Partial) -> Result<Moments> {
    let Kernel::Moments { shift, label_shift } = &fold.kernel else {
        return Err(MlError::Internal("moments of a fold that is none".into()));
    };
    let width = fold.layout.width();
    let weight = partial.weight();
    let mut sums = partial.sums.values().into_iter();
    let mut next = || sums.next().unwrap_or(0.0);
    let mut moments = Moments {
        rows: partial.rows,
        eval_rows: partial.eval_rows,
        weight,
        weight_squares: next(),
        ..Moments::default()
    };
    if weight <= 0.0 {
        return Ok(moments);
    }
    match &transform.label {
        Some(label) if label.classes.is_empty() => {
            let (mean, square) = (next() / weight, next() / weight);
            moments.label_mean = label_shift + mean;
            moments.label_variance = spread(mean, square);
        }
        Some(label) => moments.class_weight = (0..label.classes.len()).map(|_| next()).collect(),
        None => {}
    }
    let first: Vec<f64> = (0..width).map(|_| next() / weight).collect();
    let second: Vec<f64> = (0..width).map(|_| next() / weight).collect();
    for span in fold.layout.spans() {
        for i in span.offset..span.offset + span.width {
            let (mean, variance) = match span.categorical {
                true => (first[i], first[i] * (1.0 - first[i])),
                false => (shift[i] + first[i], spread(first[i], second[i])),
            };
            moments.mean.push(mean);
            moments.variance.push(variance.max(0.0));
        }
    }
    Ok(moments)
}

/// The variance from moments about a shift, exactly 0 for what is constant up to rounding.
fn spread(mean: f64, square: f64) -> f64 {
    let variance = square - mean * mean;
    if variance <= 1e-13 * mean * mean { 0.0 } else { variance }
}
