//! Some rows of a block as a network takes them: standardised numbers side by side, and codes.

use std::ops::Range;

use crate::block::{Block, Column, Label};
use crate::error::{MlError, Result};
use crate::fold::{Layout, Span};
use crate::network::Network;

/// Where the inputs of a network stand: columns of numbers and of single categories first, then a table of
/// categories.
#[derive(Clone, Debug)]
pub(crate) struct Inputs {
    /// Of each column: the feature, its category if it is one, and its coordinate.
    dense: Vec<(usize, Option<u32>, usize)>,
    /// Shift and scale of each column.
    scales: Vec<(f64, f64)>,
    /// Of each feature in the table: the feature, its coordinates, and the table's first row of its own.
    tables: Vec<(usize, Span, u32)>,
}

/// Which rows of a block: some that follow each other, or these.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    /// In the block's order.
    Range(Range<usize>),
    /// In this order.
    Picked(Vec<u32>),
}

impl Rows {
    pub fn len(&self) -> usize {
        match self {
            Self::Range(range) => range.len(),
            Self::Picked(rows) => rows.len(),
        }
    }

    /// The block's row that is the `i`th of these.
    pub fn at(&self, i: usize) -> usize {
        match self {
            Self::Range(range) => range.start + i,
            Self::Picked(rows) => rows[i] as usize,
        }
    }

    /// The sum of their weights.
    pub fn weight(&self, block: &Block) -> f64 {
        match &block.weight {
            Some(w) => (0..self.len()).map(|i| w[self.at(i)]).sum(),
            None => self.len() as f64,
        }
    }
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
    /// The inputs of a network; features with at most `indicators` categories become columns.
    pub fn new(network: &Network, layout: &Layout, indicators: usize) -> Self {
        let (mut dense, mut scales, mut tables, mut first) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (column, span) in layout.spans().enumerate() {
            if !span.categorical {
                dense.push((column, None, span.offset));
                scales.push((network.shift[span.offset], network.scale[span.offset]));
            } else if span.width <= indicators {
                dense.extend((0..span.width).map(|code| (column, Some(code as u32), span.offset + code)));
                scales.extend((0..span.width).map(|_| (0.0, 1.0)));
            } else {
                tables.push((column, span, first));
                first += span.width as u32;
            }
        }
        Self { dense, scales, tables }
    }

    /// Shift and scale of each column of the input.
    pub fn scales(&self) -> &[(f64, f64)] {
        &self.scales
    }

    /// Rows of the first matrix that belong to columns of the input, and those of the table, in this order.
    pub fn rows(&self) -> (Vec<usize>, Vec<usize>) {
        let columns = self.dense.iter().map(|(_, _, at)| *at).collect();
        let tables = self.tables.iter().flat_map(|(_, span, _)| span.offset..span.offset + span.width);
        (columns, tables.collect())
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
        let (numbers, categories) = (self.dense.len(), self.tables.len());
        batch.rows = rows;
        batch.x.resize(rows * numbers, 0.0);
        batch.codes.resize(rows * categories, 0);
        for (c, (&(column, category, _), &(shift, scale))) in self.dense.iter().zip(&self.scales).enumerate() {
            for i in 0..rows {
                batch.x[i * numbers + c] = match category {
                    None => (number(column, at(i)) - shift) * scale,
                    Some(category) => f64::from(u8::from(code(column, at(i)) == category)),
                };
            }
        }
        for (c, &(column, span, first)) in self.tables.iter().enumerate() {
            for i in 0..rows {
                let code = code(column, at(i));
                batch.codes[i * categories + c] = if (code as usize) < span.width { first + code } else { u32::MAX };
            }
        }
    }

    /// `[rows, features in the table]`: the table's row of each, beyond all of them where it has none.
    pub fn codes(&self, block: &Block, rows: &Rows) -> Vec<u32> {
        let each = self.tables.len();
        let mut codes = vec![u32::MAX; rows.len() * each];
        for (c, (column, span, first)) in self.tables.iter().enumerate() {
            let Column::Codes(of) = &block.columns[*column] else { continue };
            for (i, to) in codes.iter_mut().skip(c).step_by(each).enumerate() {
                let code = of[rows.at(i)];
                *to = if (code as usize) < span.width { first + code } else { u32::MAX };
            }
        }
        codes
    }

    /// Fills `batch` with these rows of a block, labels and weights included; `classes` is 0 for a value.
    ///
    /// # Errors
    /// When a row's class is not among them, or the block has no label.
    pub fn fill_labelled(&self, block: &Block, rows: &Rows, classes: usize, batch: &mut Batch) -> Result<()> {
        let (count, at) = (rows.len(), |i| rows.at(i));
        let number = |column: usize, i: usize| match &block.columns[column] {
            Column::F32(v) => f64::from(v[i]),
            Column::F64(v) => v[i],
            Column::Codes(_) => 0.0,
        };
        let code = |column: usize, i: usize| match &block.columns[column] {
            Column::Codes(v) => v[i],
            _ => u32::MAX,
        };
        self.fill(count, at, number, code, batch);
        batch.y.clear();
        match &block.label {
            Label::Value(v) if classes == 0 => batch.y.extend((0..count).map(|i| v[at(i)])),
            Label::Class(v) if classes > 0 => batch.y.extend((0..count).map(|i| f64::from(v[at(i)]))),
            _ => return Err(other_label()),
        }
        if classes > 0 && batch.y.iter().any(|y| *y >= classes as f64) {
            return Err(beyond(classes));
        }
        batch.w.clear();
        match &block.weight {
            Some(w) => batch.w.extend((0..count).map(|i| w[at(i)])),
            None => batch.w.resize(count, 1.0),
        }
        Ok(())
    }
}

fn other_label() -> MlError {
    MlError::Internal("a network's block has a label of another kind".into())
}

fn beyond(classes: usize) -> MlError {
    MlError::Internal(format!("a row has a class beyond {classes}"))
}
