//! Rows of a block as the device keeps them: dense columns row by row, codes row by row, one number for each row
//! of label, weight, role and hash.

use half::{bf16, f16};

use super::frame::{Frame, Places, Source};
use super::shaders::Cell;
use crate::block::{Block, Column, Label};

/// Rows that are transposed together: their part of a row stays in the first-level cache.
const STRIP: usize = 64;
/// Fewer rows than this are converted by one thread.
const ROWS_FOR_A_THREAD: usize = 16_384;

/// Rows on their way to the device.
#[derive(Debug, Default)]
pub struct Packed {
    /// `[rows, cells, 4]` in the storage's type.
    pub x: Vec<u8>,
    /// `[rows]`.
    pub y: Vec<f32>,
    /// `[rows]`, empty where every row weighs 1.
    pub weight: Vec<f32>,
    /// `[rows]`, empty where every row trains.
    pub role: Vec<u32>,
    /// `[rows]`, empty where there are none.
    pub hash: Vec<u32>,
    /// `[rows, wide categories]`.
    pub codes: Vec<u32>,
}

/// Converts some rows of a block; `None` where single precision cannot hold them.
pub fn pack(block: &Block, rows: std::ops::Range<usize>, places: &Places, frame: &Frame, cell: Cell) -> Option<Packed> {
    if !frame.is_finite() {
        return None;
    }
    let n = rows.len();
    let mut packed = Packed { x: dense(block, rows.clone(), places, frame, cell), ..Packed::default() };
    packed.y = match &block.label {
        // A row without a label does not count; what stands there must not become infinite.
        Label::Value(v) => v[rows.clone()].iter().map(|y| (y - frame.label) as f32).collect(),
        Label::Class(v) => v[rows.clone()].iter().map(|&class| class.min(1 << 24) as f32).collect(),
        Label::None => vec![0.0; n],
    };
    let dropped = |i: usize| block.role.as_ref().is_some_and(|role| role[rows.start + i] >= 64);
    for (i, y) in packed.y.iter_mut().enumerate().filter(|(_, y)| !y.is_finite()) {
        if !dropped(i) {
            return None;
        }
        *y = 0.0;
    }
    if let Some(weight) = &block.weight {
        packed.weight = weight[rows.clone()].iter().map(|w| *w as f32).collect();
        if packed.weight.iter().any(|w| !w.is_finite()) {
            return None;
        }
    }
    if let Some(role) = &block.role {
        packed.role = role[rows.clone()].iter().map(|role| u32::from(*role)).collect();
    }
    if let Some(hash) = &block.hash {
        packed.hash = hash[rows.clone()].to_vec();
    }
    if !places.codes.is_empty() {
        packed.codes = vec![u32::MAX; n * places.codes.len()];
        for (c, (column, _)) in places.codes.iter().enumerate() {
            let Column::Codes(codes) = &block.columns[*column] else { continue };
            for (to, from) in packed.codes.iter_mut().skip(c).step_by(places.codes.len()).zip(&codes[rows.clone()]) {
                *to = *from;
            }
        }
    }
    Some(packed)
}

/// A number of the storage's type.
trait Stored: Copy + Default + Send + bytemuck::NoUninit {
    fn of(v: f64) -> Self;
}
impl Stored for f32 {
    fn of(v: f64) -> Self {
        v as f32
    }
}
impl Stored for u16 {
    fn of(v: f64) -> Self {
        f16::from_f64(v).to_bits()
    }
}
/// The upper half of a single.
#[derive(Clone, Copy, Default, bytemuck::NoUninit)]
#[repr(transparent)]
struct Upper(u16);
impl Stored for Upper {
    fn of(v: f64) -> Self {
        Self(bf16::from_f64(v).to_bits())
    }
}

fn dense(block: &Block, rows: std::ops::Range<usize>, places: &Places, frame: &Frame, cell: Cell) -> Vec<u8> {
    match cell {
        Cell::F32 => bytemuck::cast_slice(&typed::<f32>(block, rows, places, frame)).to_vec(),
        Cell::F16 => bytemuck::cast_slice(&typed::<u16>(block, rows, places, frame)).to_vec(),
        Cell::Bf16 => bytemuck::cast_slice(&typed::<Upper>(block, rows, places, frame)).to_vec(),
    }
}

fn typed<T: Stored>(block: &Block, rows: std::ops::Range<usize>, places: &Places, frame: &Frame) -> Vec<T> {
    let stride = 4 * places.cells();
    let mut out = vec![T::default(); rows.len() * stride];
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(8));
    let parts = (rows.len() / ROWS_FOR_A_THREAD).clamp(1, threads);
    let share = rows.len().div_ceil(parts).max(1);
    if stride == 0 {
        return out;
    }
    std::thread::scope(|scope| {
        let mut shares = out.chunks_mut(share * stride).enumerate();
        let first = shares.next();
        for (i, out) in shares {
            scope.spawn(move || transpose(block, rows.start + i * share, places, frame, stride, out));
        }
        if let Some((_, out)) = first {
            transpose(block, rows.start, places, frame, stride, out);
        }
    });
    out
}

fn transpose<T: Stored>(block: &Block, first: usize, places: &Places, frame: &Frame, stride: usize, out: &mut [T]) {
    for (s, strip) in out.chunks_mut(STRIP * stride).enumerate() {
        let at = first + s * STRIP;
        for (j, source) in places.dense.iter().enumerate() {
            let to = strip.iter_mut().skip(j).step_by(stride);
            let (centre, scale) = (frame.centre[j], frame.scale[j]);
            match *source {
                Source::Number { column, .. } => match &block.columns[column] {
                    Column::F32(v) => {
                        to.zip(&v[at..]).for_each(|(to, x)| *to = T::of((f64::from(*x) - centre) * scale))
                    }
                    Column::F64(v) => to.zip(&v[at..]).for_each(|(to, x)| *to = T::of((x - centre) * scale)),
                    Column::Codes(_) => {}
                },
                Source::Indicator { column, code, .. } => {
                    let Column::Codes(v) = &block.columns[column] else { continue };
                    let (zero, one) = (T::of(0.0), T::of(1.0));
                    to.zip(&v[at..]).for_each(|(to, x)| *to = if *x == code { one } else { zero });
                }
            }
        }
    }
}
