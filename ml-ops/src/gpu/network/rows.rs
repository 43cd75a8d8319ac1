//! The rows of a shard in device memory, and batches of them.
//!
//! Rows lie as the network takes them: shifted and scaled in double precision, then rounded. A shard that finds room
//! stays there between passes, and a batch of it is a list of rows; of one that does not, every batch is uploaded.
//! Categories of features with many are sorted on the host for each batch, so that sums by category have an order.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use wgpu::Buffer;

use super::super::Refusal;
use super::super::frame::{Frame, Places};
use super::super::matrix::{net, padded};
use super::super::residency::{Lies, Piece, Shape};
use super::super::shaders::NetStep;
use super::super::worker::{Part, Worker};
use super::device::{GpuDevice, Held};
use crate::block::{Block, Label};
use crate::fold::Layout;
use crate::kernels::network::{Batch, Inputs, Rows};
use crate::network::{Head, Network};

/// Entries of a category that one invocation adds.
const SEGMENT: usize = 64;

/// How the rows of a network lie.
#[derive(Debug)]
pub(crate) struct Lying {
    places: Places,
    frame: Arc<Frame>,
    kind: u64,
}

impl Lying {
    pub fn new(network: &Network, layout: &Layout) -> Self {
        let places = Places::of(layout);
        let of = |values: &[f64]| places.dense.iter().map(|source| values[source.at()]).collect::<Vec<_>>();
        let label = if let Head::Squared { center, .. } = network.head { center } else { 0.0 };
        let (centre, scale) = (of(&network.shift), of(&network.scale));
        let mut hasher = DefaultHasher::new();
        format!("network over {layout:?}").hash(&mut hasher);
        centre.iter().chain(&scale).chain([&label]).for_each(|value| value.to_bits().hash(&mut hasher));
        Self { places, frame: Arc::new(Frame::fixed(centre, scale, label)), kind: hasher.finish() }
    }

    /// Which coordinates are columns.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Shift and scale of each column.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// What its labels were shifted by.
    fn label(&self) -> f64 {
        self.frame.label
    }

    fn shape(&self, block: &Block) -> Shape {
        let (codes, role, hash) = (0, false, false);
        Shape { codes, role, hash, ..Shape::of(block, &self.places, self.kind) }
    }
}

/// Where the rows of a shard are: the first row of each piece, and the piece.
#[derive(Debug, Default)]
pub(super) struct Resident(Vec<(usize, Piece)>);

/// Some rows on the device.
#[derive(Debug, Default)]
pub(crate) struct GpuBatch {
    filled: Option<Filled>,
    pub(super) weighted: bool,
    pub(super) categories: Option<Categories>,
}

/// `[rows, columns]`, label and weight of each row.
#[derive(Debug)]
pub(super) struct Filled {
    pub x: Held,
    pub y: Held,
    pub w: Held,
}

impl GpuBatch {
    pub(super) fn filled(&self) -> Result<&Filled, Refusal> {
        self.filled.as_ref().ok_or_else(|| Refusal::Failed("a batch has no rows".into()))
    }
}

/// The rows of the table that a batch names.
#[derive(Debug)]
pub(super) struct Categories {
    /// `[rows, each]`.
    pub codes: Buffer,
    pub each: usize,
    /// What a gradient needs.
    pub sorted: Option<Sorted>,
}

/// Rows of a batch in the order of the table's rows that they name; where each segment of that begins; and the first
/// segment of each row of the table.
#[derive(Debug)]
pub(super) struct Sorted {
    pub order: Buffer,
    pub starts: Buffer,
    pub firsts: Buffer,
    pub segments: usize,
}

/// The largest class of the rows that count.
fn top_class(block: &Block) -> Option<u32> {
    let Label::Class(classes) = &block.label else { return None };
    let counts = |i: usize| block.role.as_ref().is_none_or(|roles| roles[i] < 64);
    (0..block.rows).filter(|i| counts(*i)).map(|i| classes[i]).max()
}

impl GpuDevice<'_> {
    /// Finds a shard, or brings it; without room for all of it, its batches are uploaded.
    pub(super) fn find(&mut self, block: &Block, classes: usize) -> Result<(), Refusal> {
        let fits = match block.label {
            Label::Value(_) => classes == 0,
            Label::Class(_) => classes > 0,
            Label::None => false,
        };
        if !fits {
            return Err(Refusal::Unsupported("the label is of another kind".into()));
        }
        let lying = Arc::clone(&self.lying);
        self.worker.residency.sweep();
        let known = self.worker.residency.find(block, lying.kind);
        let top = known.as_ref().map_or_else(|| top_class(block), |(_, top)| *top);
        if top.is_some_and(|top| top as usize >= classes) {
            return Err(Refusal::Unsupported(format!("a row has a class beyond {classes}")));
        }
        let pieces = match known {
            Some((pieces, _)) => Some(pieces),
            None if block.origin.is_unknown() => None,
            None => bring(self.worker, block, &lying)?.inspect(|pieces| {
                self.worker.residency.remember(block, lying.kind, pieces.clone(), top);
            }),
        };
        self.resident = pieces.map(|pieces| {
            let place = |first: &mut usize, piece: Piece| {
                *first += piece.rows;
                Some((*first - piece.rows, piece))
            };
            Resident(pieces.into_iter().scan(0, place).collect())
        });
        Ok(())
    }

    /// The matrices of a batch, to be filled anew.
    fn filled(&self, batch: &mut GpuBatch) -> Filled {
        batch.filled.take().unwrap_or_else(|| {
            let [x, y, w] = [(); 3].map(|()| self.nothing());
            Filled { x, y, w }
        })
    }

    /// Makes a batch.
    pub(super) fn gather(
        &mut self,
        inputs: &Inputs,
        block: &Block,
        rows: &Rows,
        classes: usize,
        batch: &mut GpuBatch,
    ) -> Result<(), Refusal> {
        batch.weighted = block.weight.is_some();
        let mut to = self.filled(batch);
        self.room(&mut to.x, rows.len(), inputs.scales().len())?;
        self.room(&mut to.y, 1, rows.len())?;
        self.room(&mut to.w, 1, if batch.weighted { rows.len() } else { 0 })?;
        match self.resident.take() {
            Some(resident) => {
                let done = self.picked(&resident, rows, &to, batch.weighted);
                self.resident = Some(resident);
                done?;
            }
            None => self.streamed(inputs, block, rows, classes, &to)?,
        }
        batch.filled = Some(to);
        batch.categories = self.categories(inputs, block, rows);
        Ok(())
    }

    fn picked(&mut self, resident: &Resident, rows: &Rows, to: &Filled, weight: bool) -> Result<(), Refusal> {
        let (cells, width) = (to.x.matrix.cells(), to.x.matrix.cells().max(1));
        let (start, named) = match rows {
            Rows::Range(range) => (range.start, self.worker.numbers(&[0u32; 4])),
            Rows::Picked(rows) => (0, self.worker.numbers(rows)),
        };
        for (first, piece) in &resident.0 {
            let view = self.worker.residency.view(*piece);
            let view = view.ok_or_else(|| Refusal::Failed("rows left the device during a pass".into()))?;
            let by_name = u32::from(matches!(rows, Rows::Picked(_)));
            let numbers = [rows.len() * width, cells, *first, piece.rows, start].map(|v| v as u32);
            let mut parts = vec![(0, view.x), (1, view.y), (2, Part::whole(&named))];
            parts.extend([(4, to.x.matrix.part()), (8, to.y.matrix.part()), (9, to.w.matrix.part())]);
            parts.extend(view.weight.map(|part| (5, part)));
            let step = NetStep::Pick { cell: self.worker.residency.cell, weight };
            let [a, b, c, d, e] = numbers;
            net(self.worker, step, [a, b, c, d, e, by_name], [0.0; 8], parts)?;
        }
        Ok(())
    }

    /// Uploads a batch, behind everything that was asked for so far.
    fn streamed(
        &mut self,
        inputs: &Inputs,
        block: &Block,
        rows: &Rows,
        classes: usize,
        to: &Filled,
    ) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        inputs.fill_labelled(block, rows, classes, &mut batch).map_err(|e| super::left(&e))?;
        let single = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
        let label = self.lying.label();
        let y: Vec<f32> = batch.y.iter().map(|y| (y - label) as f32).collect();
        self.submit();
        let x = padded(batch.rows, to.x.matrix.columns, &single(&batch.x));
        for (matrix, values) in [(&to.x, &x), (&to.y, &y), (&to.w, &single(&batch.w))] {
            if matrix.matrix.columns > 0 {
                self.worker.write(&matrix.matrix.buffer, 0, bytemuck::cast_slice(values));
            }
        }
        let streams = &self.worker.shared.stats.streams;
        streams.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    fn categories(&mut self, inputs: &Inputs, block: &Block, rows: &Rows) -> Option<Categories> {
        let table = inputs.rows().1.len();
        if table == 0 {
            return None;
        }
        let codes = inputs.codes(block, rows);
        let each = codes.len() / rows.len().max(1);
        let (order, starts, firsts) = sorted(&codes, each, table);
        let segments = starts.len() - 1;
        let [codes, order, starts, firsts] =
            [&codes, &order, &starts, &firsts].map(|values| self.worker.numbers(&values[..]));
        Some(Categories { codes, each, sorted: Some(Sorted { order, starts, firsts, segments }) })
    }

    /// Makes a batch of rows without labels: `x` is `[rows, cells, 4]` in single precision, `codes` `[rows, each]`.
    pub fn bring(
        &mut self,
        (rows, columns, each): (usize, usize, usize),
        x: &[u8],
        codes: &[u32],
        batch: &mut GpuBatch,
    ) -> Result<(), Refusal> {
        let mut to = self.filled(batch);
        self.room(&mut to.x, rows, columns)?;
        // Written before what is submitted next, so what waits must have gone.
        self.submit();
        self.worker.write(&to.x.matrix.buffer, 0, x);
        batch.filled = Some(to);
        batch.weighted = false;
        batch.categories = (each > 0).then(|| Categories { codes: self.worker.numbers(codes), each, sorted: None });
        Ok(())
    }
}

/// Uploads a whole shard to stay; nothing where there is no room for it.
fn bring(worker: &mut Worker, block: &Block, lying: &Lying) -> Result<Option<Vec<Piece>>, Refusal> {
    let shape = lying.shape(block);
    let step = worker.residency.piece_rows(shape);
    let mut pieces = Vec::new();
    for first in (0..block.rows).step_by(step) {
        let rows = first..(first + step).min(block.rows);
        match worker.keep(block, rows, &lying.places, (shape, Lies::In(&lying.frame)))? {
            Some(piece) => pieces.push(piece),
            // Pieces that nothing remembers go with the next look around.
            None => return Ok(None),
        }
    }
    Ok(Some(pieces))
}

/// Entries of a batch by the table's row that they name: their rows, where segments of one row of the table begin,
/// and the first segment of each row of the table. Those that name none are left out.
fn sorted(codes: &[u32], each: usize, table: usize) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
    let mut counts = vec![0u32; table + 1];
    for code in codes.iter().filter(|code| (**code as usize) < table) {
        counts[*code as usize + 1] += 1;
    }
    let (mut starts, mut firsts) = (Vec::new(), Vec::with_capacity(table + 1));
    for t in 0..table {
        let (begin, end) = (counts[t], counts[t] + counts[t + 1]);
        counts[t + 1] = end;
        firsts.push(starts.len() as u32);
        starts.extend((begin..end).step_by(SEGMENT));
    }
    firsts.push(starts.len() as u32);
    starts.push(counts[table]);
    let mut order = vec![0u32; counts[table] as usize];
    for (i, code) in codes.iter().enumerate().filter(|(_, code)| (**code as usize) < table) {
        let place = &mut counts[*code as usize];
        order[*place as usize] = (i / each.max(1)) as u32;
        *place += 1;
    }
    (order, starts, firsts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_by_category_and_cut_into_segments() {
        let (order, starts, firsts) = sorted(&[1, 0, 1, 9, 3, 1], 2, 4);
        assert_eq!(order, [0, 0, 1, 2, 2]);
        assert_eq!(starts, [0, 1, 4, 5]);
        assert_eq!(firsts, [0, 1, 2, 2, 3]);
        let (order, starts, firsts) = sorted(&[0; 130], 1, 2);
        assert_eq!((order.len(), starts, firsts), (130, vec![0, 64, 128, 130], vec![0, 3, 3]));
    }
}
