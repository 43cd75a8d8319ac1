//! How rows lie on the device: which coordinates are dense columns, and around which centre they are written.
//!
//! A number is stored as `(x - centre) * scale`, centred in double precision before it becomes a single one, so
//! that a column far from zero keeps its digits. Few categories become indicators, many stay codes. What the
//! device sums in these coordinates is brought back to those of the fold in double precision.

use crate::block::{Block, Column, Label};
use crate::fold::{Around, Layout, Span, Spot};

/// A categorical feature with at most this many categories becomes indicators.
pub const MOST_INDICATORS: usize = 16;
/// Rows lie close together where none is so many times as far from zero as another.
const CLOSE: f64 = 4.0;
/// A frame suits rows whose mean lies within this many deviations of its centre.
const OFF: f64 = 0.25;
/// Values that are looked at together.
const STRIP: usize = 8;
/// A block fits a frame while its values lie within this many times the reach of the frame's first block, and their mean
/// within this many times their own from the frame's centre.
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

/// What is known of a column's values: the least, the largest, and what they come to.
#[derive(Clone, Copy, Debug)]
struct Range {
    low: f64,
    high: f64,
    sum: f64,
    count: f64,
}

impl Range {
    /// Of no values.
    const EMPTY: Self = Self { low: f64::INFINITY, high: f64::NEG_INFINITY, sum: 0.0, count: 0.0 };
    /// Of an indicator.
    const INDICATOR: Self = Self { low: 0.0, high: 1.0, sum: 0.0, count: 0.0 };

    /// Of finite values, in strips that become vectors.
    fn of<T: Copy + Into<f64>>(values: &[T]) -> Self {
        let (strips, rest) = values.as_chunks::<STRIP>();
        let (mut low, mut high, mut sum) = ([f64::INFINITY; STRIP], [f64::NEG_INFINITY; STRIP], [0.0; STRIP]);
        for strip in strips {
            for (i, v) in strip.iter().enumerate() {
                let v: f64 = (*v).into();
                low[i] = if v < low[i] { v } else { low[i] };
                high[i] = if v > high[i] { v } else { high[i] };
                sum[i] += v;
            }
        }
        let lanes = (0..STRIP).map(|i| Self { low: low[i], high: high[i], sum: sum[i], count: strips.len() as f64 });
        let one = |v: &T| Self { low: (*v).into(), high: (*v).into(), sum: (*v).into(), count: 1.0 };
        lanes.chain(rest.iter().map(one)).fold(Self::EMPTY, Self::and)
    }

    /// Of the finite ones among some values.
    fn of_finite(values: &[f64]) -> Self {
        let all = Self::of(values);
        if (all.high - all.low).is_finite() && all.sum.is_finite() {
            return all;
        }
        let one = |v: &f64| Self { low: *v, high: *v, sum: *v, count: 1.0 };
        values.iter().filter(|v| v.is_finite()).map(one).fold(Self::EMPTY, Self::and)
    }

    fn and(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            sum: self.sum + other.sum,
            count: self.count + other.count,
        }
    }

    fn is_empty(self) -> bool {
        self.low > self.high
    }

    /// The mean: squares around it are as small as they get, so that sums of them keep their digits beside outliers.
    fn centre(self) -> f64 {
        if self.is_empty() {
            return 0.0;
        }
        let mean = self.sum / self.count;
        if mean.is_finite() { mean.clamp(self.low, self.high) } else { self.low / 2.0 + self.high / 2.0 }
    }

    /// The largest distance from the centre.
    fn reach(self) -> f64 {
        if self.is_empty() { 0.0 } else { (self.high - self.centre()).max(self.centre() - self.low) }
    }
}

/// The ranges of each dense column, and of the label.
#[derive(Clone, Debug)]
pub struct Ranges {
    columns: Vec<Range>,
    label: Range,
}

impl Ranges {
    /// No ranges: rows whose frame is fixed need none.
    pub fn none() -> Self {
        Self { columns: Vec::new(), label: Range::EMPTY }
    }

    /// The ranges of these rows and of others.
    pub fn and(mut self, other: Self) -> Self {
        if self.columns.is_empty() {
            self.columns = other.columns;
        } else {
            self.columns.iter_mut().zip(other.columns).for_each(|(a, b)| *a = a.and(b));
        }
        self.label = self.label.and(other.label);
        self
    }

    /// The ranges of some rows of a block.
    pub fn of(block: &Block, places: &Places, rows: std::ops::Range<usize>) -> Self {
        let columns = places.dense.iter().map(|source| match *source {
            Source::Indicator { .. } => Range::INDICATOR,
            Source::Number { column, .. } => match &block.columns[column] {
                Column::F32(v) => Range::of(&v[rows.clone()]),
                Column::F64(v) => Range::of(&v[rows.clone()]),
                Column::Codes(_) => Range::INDICATOR,
            },
        });
        let columns = columns.collect();
        let label = match &block.label {
            Label::Value(v) => Range::of_finite(&v[rows]),
            Label::Class(_) | Label::None => Range::EMPTY,
        };
        Self { columns, label }
    }
}

/// The largest class of some rows of a block, if its label is one; rows that no fold counts are left out.
pub fn top_class(block: &Block, rows: std::ops::Range<usize>) -> Option<u32> {
    let Label::Class(classes) = &block.label else { return None };
    match &block.role {
        None => classes[rows].iter().copied().max(),
        Some(role) => {
            let counted = classes[rows.clone()].iter().zip(&role[rows]).filter(|(_, role)| **role < 64);
            counted.map(|(class, _)| *class).max()
        }
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
    /// The label's largest distance from its centre where the frame was made.
    reach: f64,
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

    /// The frame around the rows of a training.
    pub fn around_all(around: &Around, places: &Places) -> Self {
        let mut spots = around.numbers.iter();
        let (mut centre, mut scale) = (Vec::with_capacity(places.dense.len()), Vec::with_capacity(places.dense.len()));
        for source in &places.dense {
            let spot = match source {
                Source::Number { .. } => spots.next().copied().unwrap_or_default(),
                Source::Indicator { .. } => Spot { mean: 0.0, deviation: 1.0, reach: 0.5 },
            };
            centre.push(spot.mean);
            scale.push(unit(spot.reach));
        }
        Self { centre, scale, label: around.label.mean, reach: around.label.reach }
    }

    /// Whether rows that lie there keep their digits in this frame: it was made for the same rows, or for others of the
    /// same table.
    pub fn suits(&self, around: &Around, places: &Places) -> bool {
        let close = |spot: &Spot, centre: f64, reach: f64| {
            spot.reach <= reach * REACH && (centre - spot.mean).abs() <= OFF * spot.deviation
        };
        let numbers = places.dense.iter().zip(self.centre.iter().zip(&self.scale));
        let mut numbers = numbers.filter(|(source, _)| matches!(source, Source::Number { .. }));
        let mut spots = around.numbers.iter();
        let all =
            numbers.all(|(_, (centre, scale))| spots.next().is_some_and(|spot| close(spot, *centre, 1.0 / scale)));
        let label = close(&around.label, self.label, self.reach);
        all && self.centre.len() == places.dense.len() && label
    }

    /// A frame around some rows.
    pub fn around(ranges: &Ranges, places: &Places) -> Self {
        let number = |source: &Source| matches!(source, Source::Number { .. });
        let of = |take: &dyn Fn(Range) -> f64, other: f64| -> Vec<f64> {
            let pairs = places.dense.iter().zip(&ranges.columns);
            pairs.map(|(source, range)| if number(source) { take(*range) } else { other }).collect()
        };
        Self {
            centre: of(&Range::centre, 0.0),
            scale: of(&|range| unit(range.reach()), 1.0),
            label: ranges.label.centre(),
            reach: ranges.label.reach(),
        }
    }

    /// A frame in which every number keeps its own digits: around zero, unless the rows lie close together and far from it.
    pub fn near(ranges: &Ranges, places: &Places) -> Self {
        let mut frame = Self::around(ranges, places);
        let columns = frame.centre.iter_mut().zip(&mut frame.scale).zip(&ranges.columns).zip(&places.dense);
        for (((centre, scale), range), source) in columns {
            let (low, high) = (range.low, range.high);
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
        let near = |range: &Range, centre: f64, reach: f64| {
            let inside = range.low >= centre - reach * REACH && range.high <= centre + reach * REACH;
            // One value has no spread that digits could be lost of.
            let own = range.reach();
            range.is_empty() || inside && (own == 0.0 || (range.centre() - centre).abs() <= own * REACH)
        };
        if !ranges.columns.is_empty() && ranges.columns.len() != self.centre.len() {
            return false;
        }
        let columns = ranges.columns.iter().zip(self.centre.iter().zip(&self.scale));
        let mut columns = columns.map(|(range, (centre, scale))| near(range, *centre, 1.0 / scale));
        columns.all(|fits| fits) && near(&ranges.label, self.label, self.reach.max(self.label.abs() * 1e-3))
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
        // Rows that lie close together off the centre of a wide frame would lose their digits there.
        let (wide, _) = block(vec![-1e5, 1e5]);
        let wide = Frame::around(&Ranges::of(&wide, &places, 0..2), &places);
        let (close, _) = block(vec![40.7, 40.8]);
        assert!(!wide.fits(&Ranges::of(&close, &places, 0..2)) && wide.fits(&Ranges::of(&other, &places, 0..1)));
    }

    #[test]
    fn a_frame_lies_around_the_mean() {
        let values: Vec<f64> = (0..21).map(|i| f64::from(i % 7)).chain([1e3]).collect();
        let (rows, places) = block(values);
        let frame = Frame::around(&Ranges::of(&rows, &places, 0..22), &places);
        assert!((frame.centre[0] - 1063.0 / 22.0).abs() < 1e-12 && frame.scale[0] == 1.0 / 1024.0, "{frame:?}");
        // Sums that leave double precision.
        let (rows, places) = block(vec![1e308; 9]);
        assert_eq!(Frame::around(&Ranges::of(&rows, &places, 0..9), &places).centre[0], 1e308);
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
