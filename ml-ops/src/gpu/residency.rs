//! Blocks that stay in device memory between passes.
//!
//! ```text
//!  Slab = rows of one shape in one frame    x [rows, cells, 4] | y | weight | role | hash | codes
//!  block ── pieces ──> (slab, first row, rows)       found again by the addresses of its arrays
//! ```
//! A block is uploaded once. A slab goes when nobody has its blocks' arrays any more, or, the least recently used
//! first, when room is wanted and no pass used it lately. What finds no room streams through two slabs of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wgpu::{Buffer, BufferUsages};

use super::frame::{Frame, Places, Ranges};
use super::ingest::Packed;
use super::shaders::Cell;
use super::worker::{Part, Worker};
use crate::block::{Block, Label, Origin};
use crate::fold::Around;

/// Rows of a piece begin at a multiple of this, so that every offset suits every device.
pub const ALIGN: usize = 64;
/// A slab that a pass used lately is not given up for another: a cycle over too many rows would never hit.
const LATELY: Duration = Duration::from_secs(5);
/// A slab is at least this large.
const LEAST_SLAB: u64 = 1 << 20;

/// Which columns the rows of a slab have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Cells of four numbers.
    pub cells: usize,
    /// Wide categories.
    pub codes: usize,
    /// The label is a number, hence centred; classes are stored as they are.
    pub value: bool,
    /// There are weights.
    pub weight: bool,
    /// There are roles.
    pub role: bool,
    /// There are hashes.
    pub hash: bool,
    /// A digest of what its columns mean: of the layout, and for a network of its shifts and scales.
    pub kind: u64,
}

impl Shape {
    /// The shape of a block's rows, whose columns have this meaning.
    pub fn of(block: &Block, places: &Places, kind: u64) -> Self {
        Self {
            cells: places.cells(),
            codes: places.codes.len(),
            value: matches!(block.label, Label::Value(_)),
            weight: block.weight.is_some(),
            role: block.role.is_some(),
            hash: block.hash.is_some(),
            kind,
        }
    }

    /// Bytes of a row.
    pub fn row_bytes(&self, cell: Cell) -> usize {
        let single = 1 + self.codes + usize::from(self.weight) + usize::from(self.role) + usize::from(self.hash);
        4 * self.cells * cell.bytes() + 4 * single
    }
}

/// Which frame rows are written in.
#[derive(Clone, Copy)]
pub enum Lies<'f> {
    /// In this one.
    In(&'f Arc<Frame>),
    /// In any that keeps their digits.
    Near(&'f Ranges),
}

impl Lies<'_> {
    fn suit(self, frame: &Arc<Frame>) -> bool {
        match self {
            Self::In(own) => Arc::ptr_eq(own, frame) || own == frame,
            Self::Near(ranges) => frame.fits(ranges),
        }
    }
}

/// Rows in device memory.
#[derive(Clone, Debug)]
pub struct Slab {
    /// Which columns there are.
    pub shape: Shape,
    /// How numbers are written.
    pub frame: Arc<Frame>,
    /// Rows that fit.
    pub capacity: usize,
    x: Buffer,
    y: Buffer,
    weight: Option<Buffer>,
    role: Option<Buffer>,
    hash: Option<Buffer>,
    codes: Option<Buffer>,
    used: usize,
    bytes: u64,
    last: Instant,
    /// Blocks whose rows it holds.
    blocks: usize,
}

impl Slab {
    fn new(worker: &Worker, shape: Shape, frame: Arc<Frame>, rows: usize, cell: Cell) -> Self {
        let capacity = rows.next_multiple_of(ALIGN).max(ALIGN);
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST;
        let buffer = |bytes: usize| worker.buffer((capacity * bytes) as u64, usage);
        Self {
            shape,
            frame,
            capacity,
            x: buffer(4 * shape.cells * cell.bytes()),
            y: buffer(4),
            weight: shape.weight.then(|| buffer(4)),
            role: shape.role.then(|| buffer(4)),
            hash: shape.hash.then(|| buffer(4)),
            codes: (shape.codes > 0).then(|| buffer(4 * shape.codes)),
            used: 0,
            bytes: (capacity * shape.row_bytes(cell)) as u64,
            last: Instant::now(),
            blocks: 0,
        }
    }

    fn write(&self, worker: &mut Worker, first: usize, rows: &Packed, cell: Cell) {
        let words = |v: &[u32]| bytemuck::cast_slice::<u32, u8>(v).to_vec();
        worker.write(&self.x, (first * 4 * self.shape.cells * cell.bytes()) as u64, &rows.x);
        worker.write(&self.y, 4 * first as u64, bytemuck::cast_slice(&rows.y));
        if let Some(weight) = &self.weight {
            worker.write(weight, 4 * first as u64, bytemuck::cast_slice(&rows.weight));
        }
        if let Some(role) = &self.role {
            worker.write(role, 4 * first as u64, &words(&rows.role));
        }
        if let Some(hash) = &self.hash {
            worker.write(hash, 4 * first as u64, &words(&rows.hash));
        }
        if let Some(codes) = &self.codes {
            worker.write(codes, (4 * first * self.shape.codes) as u64, &words(&rows.codes));
        }
    }

    /// Some of its rows as shaders see them.
    pub fn view(&self, first: usize, rows: usize, cell: Cell) -> View {
        let part = |buffer: &Buffer, bytes: usize| Part {
            buffer: buffer.clone(),
            offset: (first * bytes) as u64,
            bytes: ((rows * bytes) as u64).max(16),
        };
        View {
            shape: self.shape,
            frame: Arc::clone(&self.frame),
            rows,
            x_row: (4 * self.shape.cells * cell.bytes()) as u64,
            x: part(&self.x, 4 * self.shape.cells * cell.bytes()),
            y: part(&self.y, 4),
            weight: self.weight.as_ref().map(|b| part(b, 4)),
            role: self.role.as_ref().map(|b| part(b, 4)),
            hash: self.hash.as_ref().map(|b| part(b, 4)),
            codes: self.codes.as_ref().map(|b| part(b, 4 * self.shape.codes)),
        }
    }
}

/// Rows that follow each other in a slab, ready for kernels.
#[derive(Clone, Debug)]
pub struct View {
    /// Which columns there are.
    pub shape: Shape,
    /// How numbers are written.
    pub frame: Arc<Frame>,
    /// Number of rows.
    pub rows: usize,
    /// Bytes of the dense columns of a row.
    pub x_row: u64,
    /// Dense columns.
    pub x: Part,
    /// Labels.
    pub y: Part,
    /// Weights.
    pub weight: Option<Part>,
    /// Roles.
    pub role: Option<Part>,
    /// Hashes.
    pub hash: Option<Part>,
    /// Codes of wide categories.
    pub codes: Option<Part>,
}

impl View {
    /// Some of its rows; `first` is a multiple of [`ALIGN`].
    pub fn rows(&self, first: usize, rows: usize) -> View {
        let part = |part: &Part, bytes: u64| Part {
            buffer: part.buffer.clone(),
            offset: part.offset + first as u64 * bytes,
            bytes: (rows as u64 * bytes).max(16),
        };
        let single = |other: &Option<Part>| other.as_ref().map(|other| part(other, 4));
        View {
            rows,
            x: part(&self.x, self.x_row),
            y: part(&self.y, 4),
            weight: single(&self.weight),
            role: single(&self.role),
            hash: single(&self.hash),
            codes: self.codes.as_ref().map(|codes| part(codes, 4 * self.shape.codes as u64)),
            ..self.clone()
        }
    }
}

/// Where some rows of a block are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Number of the slab.
    pub slab: u64,
    /// First row in the slab.
    pub first: usize,
    /// Number of rows.
    pub rows: usize,
}

/// A block in device memory.
struct Resident {
    origin: Origin,
    pieces: Vec<Piece>,
    top_class: Option<u32>,
}

/// Everything a device keeps.
pub struct Residency {
    /// In order, so that the same rows always find the same slab.
    slabs: BTreeMap<u64, Slab>,
    index: HashMap<(Vec<usize>, u64), Resident>,
    next: u64,
    bytes: u64,
    /// Bytes that may be kept.
    pub limit: u64,
    /// Bytes of a slab, at most.
    pub slab_bytes: u64,
    /// How numbers are stored.
    pub cell: Cell,
    streams: Vec<(Slab, Option<wgpu::SubmissionIndex>)>,
}

impl Residency {
    /// Nothing yet, and room for `limit` bytes in slabs of at most `slab_bytes`.
    pub fn new(limit: u64, slab_bytes: u64, cell: Cell) -> Self {
        Self {
            slabs: BTreeMap::new(),
            index: HashMap::new(),
            next: 0,
            bytes: 0,
            limit,
            slab_bytes,
            cell,
            streams: Vec::new(),
        }
    }

    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Rows that a piece has, at most.
    pub fn piece_rows(&self, shape: Shape) -> usize {
        let rows = self.slab_bytes as usize / shape.row_bytes(self.cell).max(1);
        (rows / ALIGN * ALIGN).max(ALIGN)
    }

    /// Drops what nobody has any more.
    pub fn sweep(&mut self) {
        let slabs = &mut self.slabs;
        self.index.retain(|_, resident| {
            let alive = resident.origin.is_alive();
            if !alive {
                for piece in &resident.pieces {
                    if let Some(slab) = slabs.get_mut(&piece.slab) {
                        slab.blocks = slab.blocks.saturating_sub(1);
                    }
                }
            }
            alive
        });
        let bytes = &mut self.bytes;
        self.slabs.retain(|_, slab| {
            if slab.blocks == 0 {
                *bytes -= slab.bytes;
            }
            slab.blocks > 0
        });
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.index.clear();
        self.slabs.clear();
        self.streams.clear();
        self.bytes = 0;
    }

    /// Where a block is, and its largest class, if it is here.
    pub fn find(&mut self, block: &Block, places: u64) -> Option<(Vec<Piece>, Option<u32>)> {
        if block.origin.is_unknown() {
            return None;
        }
        let resident = self.index.get(&(block.origin.addresses(), places))?;
        for piece in &resident.pieces {
            if let Some(slab) = self.slabs.get_mut(&piece.slab) {
                slab.last = Instant::now();
            }
        }
        Some((resident.pieces.clone(), resident.top_class))
    }

    /// Remembers where a block is.
    pub fn remember(&mut self, block: &Block, places: u64, pieces: Vec<Piece>, top_class: Option<u32>) {
        for piece in &pieces {
            if let Some(slab) = self.slabs.get_mut(&piece.slab) {
                slab.blocks += 1;
            }
        }
        let resident = Resident { origin: block.origin.clone(), pieces, top_class };
        if let Some(old) = self.index.insert((block.origin.addresses(), places), resident) {
            for piece in old.pieces {
                if let Some(slab) = self.slabs.get_mut(&piece.slab) {
                    slab.blocks = slab.blocks.saturating_sub(1);
                }
            }
        }
    }

    /// The rows of a piece.
    pub fn view(&self, piece: Piece) -> Option<View> {
        Some(self.slabs.get(&piece.slab)?.view(piece.first, piece.rows, self.cell))
    }

    /// The frame of the rows of a training: one in which rows of this kind lie already, if it suits them.
    pub fn frame_around(&self, kind: u64, around: &Around, places: &Places) -> Arc<Frame> {
        let mut known = self.slabs.values().filter(|slab| slab.shape.kind == kind).map(|slab| &slab.frame);
        let suits = known.find(|frame| frame.suits(around, places)).cloned();
        suits.unwrap_or_else(|| Arc::new(Frame::around_all(around, places)))
    }

    fn frame(&self, shape: Shape, lies: Lies<'_>, places: &Places) -> Arc<Frame> {
        match lies {
            Lies::In(frame) => Arc::clone(frame),
            Lies::Near(ranges) => {
                let known = self.slabs.values().find(|slab| slab.shape == shape && slab.frame.fits(ranges));
                known.map_or_else(|| Arc::new(Frame::around(ranges, places)), |slab| Arc::clone(&slab.frame))
            }
        }
    }
}

impl Worker {
    /// A slab with room for rows that lie so, and their first row; `None` where there is no room.
    fn room(&mut self, shape: Shape, lies: Lies<'_>, rows: usize, places: &Places) -> Option<(u64, usize)> {
        let home = &mut self.residency;
        let fits = |slab: &Slab| slab.shape == shape && slab.used + rows <= slab.capacity && lies.suit(&slab.frame);
        if let Some((id, slab)) = home.slabs.iter_mut().find(|(_, slab)| fits(slab)) {
            let first = slab.used;
            slab.used = (slab.used + rows).next_multiple_of(ALIGN);
            slab.last = Instant::now();
            return Some((*id, first));
        }
        let row = shape.row_bytes(home.cell).max(1);
        let need = (rows.next_multiple_of(ALIGN) * row) as u64;
        // Slabs double, so that few rows take little and many take few slabs.
        let same: u64 = home.slabs.values().filter(|slab| slab.shape == shape).map(|slab| slab.bytes).sum();
        let wanted = need.max((2 * same).max(LEAST_SLAB).min(home.slab_bytes));
        // A quarter of the limit is left to what streams and to scratch.
        let limit = home.limit / 4 * 3;
        let mut size = wanted.min(limit.saturating_sub(home.bytes)).max(need);
        while home.bytes + size > limit {
            let idle = home.slabs.iter().filter(|(_, slab)| slab.last.elapsed() > LATELY);
            let Some(oldest) = idle.min_by_key(|(_, slab)| slab.last).map(|(id, _)| *id) else {
                if size > need {
                    size = need;
                    continue;
                }
                return None;
            };
            home.slabs.remove(&oldest).inspect(|slab| home.bytes -= slab.bytes);
            home.index.retain(|_, resident| resident.pieces.iter().all(|piece| piece.slab != oldest));
            self.shared.stats.evictions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        let frame = home.frame(shape, lies, places);
        let (cell, id) = (home.cell, home.next);
        let mut slab = Slab::new(self, shape, frame, (size as usize / row).max(rows), cell);
        slab.used = rows.next_multiple_of(ALIGN);
        let home = &mut self.residency;
        home.next += 1;
        home.bytes += slab.bytes;
        home.slabs.insert(id, slab);
        Some((id, 0))
    }

    /// Uploads some rows to stay; `None` where there is no room, an error in words where they cannot be stored.
    pub(super) fn keep(
        &mut self,
        block: &Block,
        rows: std::ops::Range<usize>,
        places: &Places,
        (shape, lies): (Shape, Lies<'_>),
    ) -> Result<Option<Piece>, super::Refusal> {
        let Some((id, first)) = self.room(shape, lies, rows.len(), places) else { return Ok(None) };
        let cell = self.residency.cell;
        let Some(slab) = self.residency.slabs.get(&id).cloned() else { return Ok(None) };
        let packed = super::ingest::pack(block, rows.clone(), places, &slab.frame, cell);
        slab.write(self, first, &packed.ok_or_else(super::too_large)?, cell);
        self.shared.stats.uploads.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Some(Piece { slab: id, first, rows: rows.len() }))
    }

    /// Uploads some rows for one use. What was launched on rows of earlier calls is submitted first.
    pub(super) fn stream(
        &mut self,
        block: &Block,
        rows: std::ops::Range<usize>,
        places: &Places,
        (shape, lies): (Shape, Lies<'_>),
    ) -> Result<View, super::Refusal> {
        let cell = self.residency.cell;
        let submitted = self.submit();
        let mut streams = std::mem::take(&mut self.residency.streams);
        if let Some((_, last)) = streams.last_mut() {
            *last = Some(submitted);
        }
        streams.retain(|(slab, _)| slab.shape == shape && slab.capacity >= rows.len());
        let frame = self.residency.frame(shape, lies, places);
        let mut slab = if streams.len() >= 2 {
            let (slab, used) = streams.remove(0);
            // Rows of the slab before this one may still be under way; those of this one must be done, or what
            // waits to be copied would pile up.
            if let Some(used) = used {
                self.wait(used)?;
            }
            slab
        } else {
            Slab::new(self, shape, Arc::clone(&frame), rows.len(), cell)
        };
        slab.frame = frame;
        let packed = super::ingest::pack(block, rows.clone(), places, &slab.frame, cell);
        slab.write(self, 0, &packed.ok_or_else(super::too_large)?, cell);
        self.shared.stats.streams.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let view = slab.view(0, rows.len(), cell);
        streams.push((slab, None));
        self.residency.streams = streams;
        Ok(view)
    }

    /// Rows that are streamed at once, at most.
    pub(super) fn stream_rows(&self, shape: Shape) -> usize {
        let bytes = self.residency.slab_bytes.min(self.residency.limit / 16).max(1 << 16) as usize;
        (bytes / shape.row_bytes(self.residency.cell).max(1) / ALIGN * ALIGN).max(ALIGN)
    }
}
