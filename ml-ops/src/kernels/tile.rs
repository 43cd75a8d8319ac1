//! What a kernel sees: some rows of a block, weighed and padded, and where their columns stand among the
//! coordinates.

use crate::block::{Block, Column, Label};
use crate::error::{MlError, Result};
use crate::fold::{Layout, Span};

/// The cells of one column.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cells<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    Codes(&'a [u32]),
}

/// Some rows, a multiple of [`super::lanes::PAD`] of them. Every slice is of that length, unless it is
/// said to be empty. Rows that do not count have weight zero.
#[derive(Debug)]
pub(super) struct Tile<'a> {
    /// Number of rows.
    pub rows: usize,
    /// Features in order.
    pub cells: &'a [Cells<'a>],
    /// The label, classes as numbers; zero where there is none or the row does not count.
    pub y: &'a [f64],
    /// Weights of training rows.
    pub w: &'a [f64],
    /// Weights of held-out rows.
    pub held: &'a [f64],
    /// Whether any held-out row has a weight.
    pub any_held: bool,
    /// Row hashes; empty where the kernel does not need them.
    pub hash: &'a [u32],
}

/// The label a kernel works with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// None.
    Nothing,
    /// Whatever there is.
    Any,
    /// A number.
    Value,
    /// Zero or one, as a class or a number.
    Binary,
    /// A class below this.
    Class(usize),
}

/// What a kernel asks of its tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Need {
    pub label: Wanted,
    /// Whether it works on training rows, and on held-out rows.
    pub train: bool,
    pub held: bool,
    pub hash: bool,
    /// Doubles of scratch for each row, for the choice of the tile's size.
    pub scratch: usize,
}

/// Where columns stand among the coordinates: numbers first, then categories, each in order.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Column and coordinate of every number.
    pub numeric: Vec<(usize, usize)>,
    /// Column and coordinates of every category.
    pub categories: Vec<(usize, Span)>,
    /// All coordinates.
    pub width: usize,
}

impl Plan {
    pub fn new(layout: &Layout) -> Self {
        let (categories, numbers): (Vec<_>, Vec<_>) =
            layout.spans().enumerate().partition(|(_, span)| span.categorical);
        let numeric = numbers.into_iter().map(|(column, span)| (column, span.offset)).collect();
        Self { numeric, categories, width: layout.width() }
    }
}

/// Checks that `block` has the layout's columns, the label that is wanted, and no short buffer.
pub(super) fn check(block: &Block, layout: &Layout, wanted: Wanted) -> Result<()> {
    let odd = |what: String| Err(MlError::Internal(format!("a block does not fit its fold: {what}")));
    if block.columns.len() != layout.features() {
        return odd(format!("it has {} columns and the layout {}", block.columns.len(), layout.features()));
    }
    for (i, (column, span)) in block.columns.iter().zip(layout.spans()).enumerate() {
        let (len, codes) = match column {
            Column::F32(v) => (v.len(), false),
            Column::F64(v) => (v.len(), false),
            Column::Codes(v) => (v.len(), true),
        };
        if codes != span.categorical {
            return odd(format!("column {i} holds {}", if codes { "codes" } else { "numbers" }));
        }
        if len < block.rows {
            return odd(format!("column {i} has {len} rows of {}", block.rows));
        }
    }
    let (len, fits) = match (&block.label, wanted) {
        (_, Wanted::Nothing) => (block.rows, true),
        (Label::None, wanted) => (block.rows, wanted == Wanted::Any),
        (Label::Value(v), wanted) => (v.len(), matches!(wanted, Wanted::Any | Wanted::Value | Wanted::Binary)),
        (Label::Class(v), wanted) => (v.len(), matches!(wanted, Wanted::Any | Wanted::Binary | Wanted::Class(_))),
    };
    if !fits {
        return odd("its label is of another kind".into());
    }
    let lengths = [
        Some(len),
        block.weight.as_ref().map(|v| v.len()),
        block.role.as_ref().map(|v| v.len()),
        block.hash.as_ref().map(|v| v.len()),
    ];
    if lengths.into_iter().flatten().any(|len| len < block.rows) {
        return odd("its label, weight, role or hash is short".into());
    }
    Ok(())
}

/// The cells of rows `start..start + rows`.
pub(super) fn cells(block: &Block, start: usize, rows: usize) -> Vec<Cells<'_>> {
    let range = start..start + rows;
    block
        .columns
        .iter()
        .map(|column| match column {
            Column::F32(v) => Cells::F32(&v[range.clone()]),
            Column::F64(v) => Cells::F64(&v[range.clone()]),
            Column::Codes(v) => Cells::Codes(&v[range.clone()]),
        })
        .collect()
}
