//! Some rows of a block as a network takes them: standardised numbers side by side, and codes.

use super::super::tile::Plan;
use crate::block::{Block, Column, Label};
use crate::error::{MlError, Result};
use crate::fold::Layout;
use crate::network::Network;

/// Where the inputs of a network stand: numbers first, then categories.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    plan: Plan,
    /// Shift and scale of each number.
    scales: Vec<(f64, f64)>,
    /// First row of each category among those of all categories.
    offsets: Vec<u32>,
}

/// Some rows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub rows: usize,
    /// `[rows, numbers]`.
    pub x: Vec<f64>,
    /// `[rows, categories]`.
    pub codes: Vec<u32>,
    /// The label: a value or a class.
    pub y: Vec<f64>,
    /// Weights.
    pub w: Vec<f64>,
}

impl Inputs {
    pub fn new(network: &Network, layout: &Layout) -> Self {
        let plan = Plan::new(layout);
        let scales = plan.numeric.iter().map(|&(_, j)| (network.shift[j], network.scale[j])).collect();
        let mut indicators = 0;
        let mut offset = |width: usize| {
            indicators += width;
            (indicators - width) as u32
        };
        let offsets = plan.categories.iter().map(|(_, span)| offset(span.width)).collect();
        Self { plan, scales, offsets }
    }

    /// Numbers of a row.
    pub fn numbers(&self) -> usize {
        self.plan.numeric.len()
    }

    /// Rows of the first matrix that belong to numbers, and those that belong to categories, in this order.
    pub fn rows(&self) -> (Vec<usize>, Vec<usize>) {
        let numbers = self.plan.numeric.iter().map(|(_, j)| *j).collect();
        let categories = self.plan.categories.iter().flat_map(|(_, span)| span.offset..span.offset + span.width);
        (numbers, categories.collect())
    }

    /// Fills `batch` with `rows` rows, without labels and weights: `at` says which row comes where, `number` and
    /// `code` what a column holds in a row.
    pub fn fill(
        &self,
        rows: usize,
        at: impl Fn(usize) -> usize,
        number: impl Fn(usize, usize) -> f64,
        code: impl Fn(usize, usize) -> u32,
        batch: &mut Batch,
    ) {
        let (numbers, categories) = (self.numbers(), self.offsets.len());
        batch.rows = rows;
        batch.x.resize(rows * numbers, 0.0);
        batch.codes.resize(rows * categories, 0);
        for (c, (&(column, _), &(shift, scale))) in self.plan.numeric.iter().zip(&self.scales).enumerate() {
            for i in 0..rows {
                batch.x[i * numbers + c] = (number(column, at(i)) - shift) * scale;
            }
        }
        for (c, (&(column, span), &offset)) in self.plan.categories.iter().zip(&self.offsets).enumerate() {
            for i in 0..rows {
                let code = code(column, at(i));
                batch.codes[i * categories + c] = if (code as usize) < span.width { offset + code } else { u32::MAX };
            }
        }
    }

    /// Fills `batch` with these rows of a block, labels and weights included; `classes` is 0 for a value.
    ///
    /// # Errors
    /// When a row's class is not among them, or the block has no label.
    pub fn fill_labelled(
        &self,
        block: &Block,
        rows: usize,
        at: impl Fn(usize) -> usize,
        classes: usize,
        batch: &mut Batch,
    ) -> Result<()> {
        let number = |column: usize, i: usize| match &block.columns[column] {
            Column::F32(v) => f64::from(v[i]),
            Column::F64(v) => v[i],
            Column::Codes(_) => 0.0,
        };
        let code = |column: usize, i: usize| match &block.columns[column] {
            Column::Codes(v) => v[i],
            _ => u32::MAX,
        };
        self.fill(rows, &at, number, code, batch);
        batch.y.clear();
        match &block.label {
            Label::Value(v) if classes == 0 => batch.y.extend((0..rows).map(|i| v[at(i)])),
            Label::Class(v) if classes > 0 => batch.y.extend((0..rows).map(|i| f64::from(v[at(i)]))),
            _ => return Err(MlError::Internal("a network's block has a label of another kind".into())),
        }
        if classes > 0 && batch.y.iter().any(|y| *y >= classes as f64) {
            return Err(MlError::Internal(format!("a row has a class beyond {classes}")));
        }
        batch.w.clear();
        match &block.weight {
            Some(w) => batch.w.extend((0..rows).map(|i| w[at(i)])),
            None => batch.w.resize(rows, 1.0),
        }
        Ok(())
    }
}
