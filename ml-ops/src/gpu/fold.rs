//! A fold on the device: rows found or uploaded, kernels launched on them, their sums added in double precision.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use super::Refusal;
use super::frame::{self, Places, Ranges};
use super::kernels::Work;
use super::residency::{Lies, Piece, Shape, View};
use super::worker::Worker;
use crate::block::{Block, Column, Label};
use crate::exact::Sums;
use crate::fold::{Fold, Layout, Spot};
use crate::partial::Partial;

/// Uploaded bytes after which the kernels on them are sent off, while the next rows are converted.
const AHEAD: usize = 32 << 20;

/// What some rows contribute, as doubles.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Training rows and held-out rows.
    pub rows: [u64; 2],
    /// `[sum w, loss]` of the training rows and of the held-out rows.
    pub totals: [f64; 4],
    /// The kernel's sums.
    pub sums: Vec<f64>,
}

impl Found {
    /// Adds them to a partial.
    pub fn add_to(&self, into: &mut Partial) {
        let add = |sums: &mut Sums, values: &[f64]| {
            let counts: Vec<i128> = values.iter().enumerate().map(|(i, v)| sums.grid(i).count(*v)).collect();
            for (sum, count) in sums.counts_mut().iter_mut().zip(counts) {
                *sum += count;
            }
        };
        into.single = true;
        into.rows += self.rows[0];
        into.eval_rows += self.rows[1];
        add(&mut into.totals, &self.totals);
        add(&mut into.sums, &self.sums);
    }

    fn is_finite(&self) -> bool {
        self.totals.iter().chain(&self.sums).all(|v| v.is_finite())
    }
}

/// Checks that a block has the columns of the layout; anything else is left to the CPU, which says what is wrong.
pub(super) fn check(block: &Block, layout: &Layout, sampled: bool) -> Result<(), Refusal> {
    let odd = || Err(Refusal::Unsupported("a block does not have the layout of its fold".into()));
    if block.columns.len() != layout.features() || (sampled && block.hash.is_none()) {
        return odd();
    }
    for (column, span) in block.columns.iter().zip(layout.spans()) {
        let (len, codes) = match column {
            Column::F32(v) => (v.len(), false),
            Column::F64(v) => (v.len(), false),
            Column::Codes(v) => (v.len(), true),
        };
        if len < block.rows || codes != span.categorical {
            return odd();
        }
    }
    let label = match &block.label {
        Label::None => block.rows,
        Label::Value(v) => v.len(),
        Label::Class(v) => v.len(),
    };
    let lengths = [
        Some(label),
        block.weight.as_ref().map(|v| v.len()),
        block.role.as_ref().map(|v| v.len()),
        block.hash.as_ref().map(|v| v.len()),
    ];
    if lengths.into_iter().flatten().any(|len| len < block.rows) { odd() } else { Ok(()) }
}

fn digest(value: &impl std::fmt::Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{value:?}").hash(&mut hasher);
    hasher.finish()
}

/// Pieces that follow each other as one.
fn joined(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.sort_unstable();
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match out.last_mut() {
            Some(last) if last.slab == piece.slab && last.first + last.rows == piece.first => last.rows += piece.rows,
            _ => out.push(piece),
        }
    }
    out
}

/// Runs a fold; nothing is changed where it is refused.
pub(super) fn fold(worker: &mut Worker, fold: &Fold, blocks: &[Block]) -> Result<Found, Refusal> {
    let places = Places::of(&fold.layout);
    let kind = digest(&fold.layout);
    let mut work = Work::new(worker, fold, &places, blocks)?;
    for block in blocks {
        check(block, &fold.layout, fold.sample.is_some())?;
    }
    worker.residency.sweep();
    let around = fold.around.clone().map(|mut around| {
        // Classes are stored as they are.
        if !blocks.iter().any(|block| matches!(block.label, Label::Value(_))) {
            around.label = Spot::default();
        }
        around
    });
    let frame = around.map(|around| worker.residency.frame_around(kind, &around, &places));
    let (mut known, mut missing) = (Vec::new(), Vec::new());
    for block in blocks.iter().filter(|block| block.rows > 0) {
        match worker.residency.find(block, kind) {
            Some((pieces, top_class)) => {
                work.check_class(top_class)?;
                known.extend(pieces);
            }
            None => missing.push(block),
        }
    }
    launch(worker, &mut work, &mut known)?;
    let mut uploaded = 0;
    for block in missing {
        let shape = Shape::of(block, &places, kind);
        let stays = !block.origin.is_unknown();
        let step = worker.residency.piece_rows(shape);
        let (mut pieces, mut whole, mut top_class) = (Vec::new(), stays, None);
        let mut first = 0;
        while first < block.rows {
            let rows = first..(first + if whole { step } else { worker.stream_rows(shape) }).min(block.rows);
            let top = frame::top_class(block, rows.clone());
            work.check_class(top)?;
            top_class = top_class.max(top);
            let ranges = if frame.is_none() { Ranges::of(block, &places, rows.clone()) } else { Ranges::none() };
            let lies = frame.as_ref().map_or(Lies::Near(&ranges), Lies::In);
            let piece = if whole { worker.keep(block, rows.clone(), &places, (shape, lies))? } else { None };
            match piece {
                Some(piece) => {
                    pieces.push(piece);
                    known.push(piece);
                }
                None if whole => {
                    whole = false;
                    continue;
                }
                None => {
                    launch(worker, &mut work, &mut known)?;
                    let view = worker.stream(block, rows.clone(), &places, (shape, lies))?;
                    work.launch(worker, &view)?;
                }
            }
            uploaded += rows.len() * shape.row_bytes(worker.residency.cell);
            if uploaded > AHEAD {
                launch(worker, &mut work, &mut known)?;
                worker.submit();
                uploaded = 0;
            }
            first = rows.end;
        }
        if whole {
            worker.residency.remember(block, kind, pieces, top_class);
        }
    }
    launch(worker, &mut work, &mut known)?;
    let found = work.collect(worker)?;
    if !found.is_finite() {
        return Err(Refusal::Numeric);
    }
    Ok(found)
}

fn launch(worker: &mut Worker, work: &mut Work<'_>, pieces: &mut Vec<Piece>) -> Result<(), Refusal> {
    for piece in joined(std::mem::take(pieces)) {
        let view: Option<View> = worker.residency.view(piece);
        let view = view.ok_or_else(|| Refusal::Failed("rows left the device during a pass".into()))?;
        work.launch(worker, &view)?;
    }
    Ok(())
}
