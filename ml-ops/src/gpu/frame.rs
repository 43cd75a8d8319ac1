//! How rows lie on the device: which coordinates are dense columns, and around which centre they are written.
//!
//! A number is stored as `(x - centre) * scale`, centred in double precision before it becomes a single one, so
//! that a column far from zero keeps its digits. Few categories become indicators, many stay codes. What the
//! device sums in these coordinates is brought back to those of the fold in double precision.

use crate::block::{Block, Column, Label};
use crate::fold::{Layout, Span};

/// A categorical feature with at most this many categories becomes indicators.
pub const MOST_INDICATORS: usize = 16;
/// Rows lie close together where none is so many times as far from zero as another.
const CLOSE: f64 = 4.0;
/// A block fits a frame while its values lie within this many half-ranges of the frame's first block.
const REACH: f64 = 8.0;

/// Where a dense column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A numeric column, and its coordinate.
    Number {
        /// Index of the column.
        column: usize,
        /// Its coordinate.
        at: usize,
    },
    /// Whether the code of a categorical column is this one, and the coordinate of that category.
    Indicator {
        /// Index of the column.
        column: usize,
        /// The category.
        code: u32,
        /// Its coordinate.
        at: usize,
    },
}

impl Source {
    /// The coordinate of the fold's layout.
    pub fn at(self) -> usize {
        match self {
            Self::Number { at, .. } | Self::Indicator { at, .. } => at,
        }
    }
}

/// The columns of the device's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// Dense columns in order.
    pub dense: Vec<Source>,
    /// Columns that stay codes, and their coordinates.
    pub codes: Vec<(usize, Span)>,
    /// All coordinates of the layout.
    pub width: usize,
}

impl Places {
    /// The places of a layout's coordinates.
    pub fn of(layout: &Layout) -> Self {
        let mut places = Self { dense: Vec::new(), codes: Vec::new(), width: layout.width() };
        for (column, span) in layout.spans().enumerate() {
            if !span.categorical {
                places.dense.push(Source::Number { column, at: span.offset });
            } else if span.width <= MOST_INDICATORS {
                let code = |k| Source::Indicator { column, code: k as u32, at: span.offset + k };
                places.dense.extend((0..span.width).map(code));
            } else {
                places.codes.push((column, span));
            }
        }
        places
    }

    /// Cells of four numbers in a row.
    pub fn cells(&self) -> usize {
        self.dense.len().div_ceil(4)
    }
}

/// The least and the largest value of each dense column, and of the label.
#[derive(Clone, Debug)]
pub struct Ranges {
    columns: Vec<(f64, f64)>,
    label: (f64, f64),
    /// Largest class, if the label is one.
    pub top_class: Option<u32>,
}

impl Ranges {
    /// No ranges: rows whose frame is fixed need none.
    pub fn none() -> Self {
        Self { columns: Vec::new(), label: (f64::INFINITY, f64::NEG_INFINITY), top_class: None }
    }

    /// The ranges of these rows and of others.
    pub fn and(mut self, other: Self) -> Self {
        let wider = |a: &mut (f64, f64), b: (f64, f64)| *a = (a.0.min(b.0), a.1.max(b.1));
        if self.columns.is_empty() {
            self.columns = other.columns;
        } else {
            self.columns.iter_mut().zip(other.columns).for_each(|(a, b)| wider(a, b));
        }
        wider(&mut self.label, other.label);
        self.top_class = self.top_class.max(other.top_class);
        self
    }

    /// The ranges of some rows of a block.
    pub fn of(block: &Block, places: &Places, rows: std::ops::Range<usize>) -> Self {
        let empty = (f64::INFINITY, f64::NEG_INFINITY);
        let wider = |(low, high): (f64, f64), v: f64| (low.min(v), high.max(v));
        let columns = places.dense.iter().map(|source| match *source {
            Source::Indicator { .. } => (0.0, 1.0),
            Source::Number { column, .. } => match &block.columns[column] {
                Column::F32(v) => {
                    let (low, high) = v[rows.clone()]
                        .iter()
                        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
                    (f64::from(low), f64::from(high))
                }
                Column::F64(v) => v[rows.clone()].iter().copied().fold(empty, wider),
                Column::Codes(_) => (0.0, 0.0),
            },
        });
        let columns = columns.collect();
        let (label, top_class) = match &block.label {
            Label::Value(v) => (v[rows].iter().copied().filter(|v| v.is_finite()).fold(empty, wider), None),
            Label::Class(v) => {
                let top = match &block.role {
                    None => v[rows].iter().copied().max(),
                    Some(role) => {
                        let counted = v[rows.clone()].iter().zip(&role[rows]).filter(|(_, role)| **role < 64);
                        counted.map(|(class, _)| *class).max()
                    }
                };
                (empty, top)
            }
            Label::None => (empty, None),
        };
        Self { columns, label, top_class }
    }
}

/// Centre and scale of every dense column, and the centre of the label.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Taken off, column by column.
    pub centre: Vec<f64>,
    /// Powers of two, multiplied afterwards.
    pub scale: Vec<f64>,
    /// Taken off a label that is a number.
    pub label: f64,
    /// Half of the label's range where the frame was made.
    reach: f64,
}

fn middle((low, high): (f64, f64)) -> f64 {
    if low > high { 0.0 } else { low / 2.0 + high / 2.0 }
}

fn half((low, high): (f64, f64)) -> f64 {
    if low > high { 0.0 } else { high / 2.0 - low / 2.0 }
}

/// A power of two that brings `v` to between a half and one; 1 for zero.
fn unit(v: f64) -> f64 {
    if v == 0.0 {
        return 1.0;
    }
    let exponent = (v.abs().to_bits() >> 52) as i64 - 1022;
    f64::from_bits(((1023 - exponent.clamp(-1022, 1022)) as u64) << 52)
}

impl Frame {
    /// A frame with this centre and scale of every dense column, and this centre of the label.
    pub fn fixed(centre: Vec<f64>, scale: Vec<f64>, label: f64) -> Self {
        Self { centre, scale, label, reach: 0.0 }
    }

    /// A frame around some rows.
    pub fn around(ranges: &Ranges, places: &Places) -> Self {
        let number = |source: &Source| matches!(source, Source::Number { .. });
        let of = |take: &dyn Fn((f64, f64)) -> f64, other: f64| -> Vec<f64> {
            let pairs = places.dense.iter().zip(&ranges.columns);
            pairs.map(|(source, range)| if number(source) { take(*range) } else { other }).collect()
        };
        Self {
            centre: of(&middle, 0.0),
            scale: of(&|range| unit(half(range)), 1.0),
            label: middle(ranges.label),
            reach: half(ranges.label),
        }
    }

    /// A frame in which every number keeps its own digits: around zero, unless the rows lie close together and far from it.
    pub fn near(ranges: &Ranges, places: &Places) -> Self {
        let mut frame = Self::around(ranges, places);
        let columns = frame.centre.iter_mut().zip(&mut frame.scale).zip(&ranges.columns).zip(&places.dense);
        for (((centre, scale), (low, high)), source) in columns {
            let (least, most) = (low.abs().min(high.abs()), low.abs().max(high.abs()));
            let close = low * high > 0.0 && most <= CLOSE * least;
            if matches!(source, Source::Number { .. }) && !close && low <= high {
                (*centre, *scale) = (0.0, unit(most));
            }
        }
        frame
    }

    /// Whether rows with these ranges keep their digits in this frame.
    pub fn fits(&self, ranges: &Ranges) -> bool {
        let near = |(low, high): (f64, f64), centre: f64, reach: f64| {
            low > high || (low >= centre - reach * REACH && high <= centre + reach * REACH)
        };
        let columns = ranges.columns.iter().zip(self.centre.iter().zip(&self.scale));
        let mut columns = columns.map(|(range, (centre, scale))| near(*range, *centre, 1.0 / scale));
        columns.all(|fits| fits) && near(ranges.label, self.label, self.reach.max(self.label.abs() * 1e-3))
    }

    /// Whether single precision can hold the rows at all.
    pub fn is_finite(&self) -> bool {
        let large = f64::from(f32::MAX) / 1e6;
        self.label.abs() < large && self.reach < large && self.centre.iter().all(|c| c.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::buffer::ScalarBuffer;

    fn block(values: Vec<f64>) -> (Block, Places) {
        let rows = values.len();
        let block = Block {
            rows,
            columns: vec![Column::F64(ScalarBuffer::from(values))],
            label: Label::None,
            weight: None,
            role: None,
            hash: None,
            origin: Default::default(),
        };
        (block, Places::of(&Layout::new([None])))
    }

    #[test]
    fn a_frame_is_centred_and_scaled_by_a_power_of_two() {
        let (rows, places) = block(vec![1000.0, 1006.0]);
        let frame = Frame::around(&Ranges::of(&rows, &places, 0..2), &places);
        assert_eq!((frame.centre[0], frame.scale[0]), (1003.0, 0.25));
        let (other, _) = block(vec![1010.0]);
        assert!(frame.fits(&Ranges::of(&other, &places, 0..1)));
        let (far, _) = block(vec![5000.0]);
        assert!(!frame.fits(&Ranges::of(&far, &places, 0..1)));
    }

    #[test]
    fn a_row_keeps_its_own_digits_beside_one_that_is_far_away() {
        let of = |values: Vec<f64>| {
            let (rows, places) = block(values);
            let frame = Frame::near(&Ranges::of(&rows, &places, 0..2), &places);
            (frame.centre[0], frame.scale[0])
        };
        assert_eq!(of(vec![1.5, 1e9]), (0.0, 2f64.powi(-30)));
        assert_eq!(of(vec![-3.0, 5.0]), (0.0, 0.125));
        assert_eq!(of(vec![1000.0, 1006.0]), (1003.0, 0.25));
    }

    #[test]
    fn units_cover_every_magnitude() {
        for v in [1.0, 0.75, 3.0, 1e-300, 1e300, 5e-324] {
            let scaled = v * unit(v);
            assert!(scaled <= 1.0 && (scaled >= 0.5 || v < 1e-260), "{v} {scaled}");
        }
        assert_eq!(unit(0.0), 1.0);
    }
}
