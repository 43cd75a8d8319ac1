//! Means that do not depend on the order of their terms.

use crate::exact::Grid;

/// The mean of `terms`, each rounded once to 2^-51 of the largest; `None` without terms or where a
/// term is not finite.
pub(super) fn mean(terms: &[f64]) -> Option<f64> {
    if terms.is_empty() || terms.iter().any(|term| !term.is_finite()) {
        return None;
    }
    let bound = terms.iter().fold(0.0_f64, |bound, term| bound.max(term.abs()));
    let grid = Grid::covering(bound).ok()?;
    let total: i128 = terms.iter().map(|&term| i128::from(grid.quantize(term, 1.0))).sum();
    Some(grid.value(total) / terms.len() as f64)
}

/// The mean of squared distances from the mean.
pub(super) fn variance(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    mean(&values.iter().map(|v| (v - centre) * (v - centre)).collect::<Vec<_>>())
}

/// The median: the middle value, or the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    if values.is_empty() {
        return None;
    }
    let even = values.len().is_multiple_of(2);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| even).unwrap_or(*upper);
    Some(lower + (*upper - lower) / 2.0)
}
