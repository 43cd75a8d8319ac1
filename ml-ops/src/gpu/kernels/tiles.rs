//! Folds made of tiled products, with a step over each row between two of them.

use std::sync::Arc;

use wgpu::{Buffer, BufferUsages};

use super::super::Refusal;
use super::super::fold::Found;
use super::super::frame::{Frame, Places};
use super::super::residency::View;
use super::super::shaders::{Cell, Product, RowStep, Shader};
use super::super::worker::{Part, Worker};
use super::{per_group, row_columns, row_constants, row_parts, singles};
use crate::fold::{Curvature, Fold, Kernel};

/// Bytes of margins or distances between two kernels, at most.
const BETWEEN: usize = 256 << 20;
/// Bytes of results that may wait on the device.
const WAITING: usize = 256 << 20;
/// Bytes of partial sums of one launch, at most.
const PARTIALS: usize = 32 << 20;
/// Rows whose sums one group adds, at most.
const MOST_ROWS: usize = 16_384;
/// Entries of the output of a fold, at most: its partial sums must fit beside each other.
const MOST_ENTRIES: usize = 4 << 20;

/// A launch whose results are on the device.
struct Launched {
    frame: Arc<Frame>,
    /// `[splits, m, n]` of a tiled product.
    sums: Buffer,
    splits: usize,
    /// For each group of rows, losses and counts.
    totals: Buffer,
    groups: usize,
}

/// [`Kernel::Softmax`], [`Kernel::Gram`] and [`Kernel::Centroids`] on a device.
pub struct Tiles<'f> {
    fold: &'f Fold,
    places: &'f Places,
    /// Rows of the output: classes, centres, or entries of z.
    m: usize,
    /// Columns of the output.
    n: usize,
    launched: Vec<Launched>,
    /// Bytes of results that wait.
    waiting: usize,
    /// What lies between two kernels; later launches use it again, in the queue's order.
    between: Vec<Buffer>,
    found: Found,
}

/// `z = (x - shift) scale = a x' + b` for the numbers of a frame.
fn affine(frame: &Frame, places: &Places, shift: &[f64], scale: &[f64]) -> Vec<(f64, f64)> {
    let pair = |(j, at): (usize, usize)| (scale[at] / frame.scale[j], (frame.centre[j] - shift[at]) * scale[at]);
    places.dense.iter().enumerate().map(|(j, source)| pair((j, source.at()))).collect()
}

/// `[rows, K]` squared distances of rows that lie in a frame.
pub(in crate::gpu) fn distances(
    worker: &mut Worker,
    (x, rows): (&Part, usize),
    (frame, places, cell): (&Frame, &Places, Cell),
    (shift, scale): (&[f64], &[f64]),
    centers: &[f64],
    out: &Part,
) -> Result<(), Refusal> {
    let (cells, count) = (places.cells(), centers.len() / places.width.max(1));
    let affine = affine(frame, places, shift, scale);
    let mut matrix = vec![0f32; 4 * cells * count];
    let mut factors = vec![0f32; 4 * cells];
    for (j, (source, (a, b))) in places.dense.iter().zip(&affine).enumerate() {
        factors[j] = *a as f32;
        for k in 0..count {
            matrix[k * 4 * cells + j] = (centers[k * places.width + source.at()] - b) as f32;
        }
    }
    rows_times(worker, (x, rows, cells), (Product::Distances, cell), (&matrix, &factors, count), out)
}

/// A product of rows `[n, cells, 4]` with `k` rows of a matrix.
fn rows_times(
    worker: &mut Worker,
    (x, n, cells): (&Part, usize, usize),
    (product, cell): (Product, Cell),
    (matrix, extra, k): (&[f32], &[f32], usize),
    out: &Part,
) -> Result<(), Refusal> {
    let width = k.div_ceil(4);
    let size = if k > 64 && n > 64 { 2 } else { 1 };
    let edge = 64 * size;
    let shape = [n, k, 4 * cells, 4 * cells.max(1).next_multiple_of(4), cells, cells, width, 0].map(|v| v as u32);
    let shape = worker.constants(bytemuck::cast_slice(&shape), BufferUsages::UNIFORM);
    let parts = [
        (0, x.clone()),
        (2, Part::whole(&worker.numbers(matrix))),
        (3, Part::whole(&shape)),
        (4, out.clone()),
        (7, Part::whole(&worker.numbers(extra))),
    ];
    let shader = Shader::Tile { product, cell, size: size as u32 };
    worker.dispatch(shader, &parts, [k.div_ceil(edge) as u32, n.div_ceil(edge) as u32, 1])
}

impl<'f> Tiles<'f> {
    /// The kernel for a fold, or why there is none.
    pub fn new(_: &Worker, fold: &'f Fold, places: &'f Places) -> Result<Self, Refusal> {
        let no = |why: String| Err(Refusal::Unsupported(why));
        if let Some((_, span)) = places.codes.first() {
            return no(format!("a feature has {} categories, more than become indicators", span.width));
        }
        let width = places.width;
        let misshapen = || Err(Refusal::Unsupported("the fold does not have the shape of its layout".into()));
        let (m, n) = match &fold.kernel {
            Kernel::Softmax { intercepts, weights } => {
                if weights.len() != width * intercepts.len() || fold.grids.len() != (1 + width) * intercepts.len() {
                    return misshapen();
                }
                (intercepts.len(), width + 1)
            }
            Kernel::Gram { label, shift, scale, curvature } => {
                let n = width + 1 + usize::from(label.is_some());
                let margins = matches!(curvature, Curvature::Logistic { weights, .. } if weights.len() != width);
                if shift.len() != width || scale.len() != width || fold.grids.len() != n * (n + 1) / 2 || margins {
                    return misshapen();
                }
                (n, n)
            }
            Kernel::Centroids { shift, scale, centers } if width > 0 => {
                let k = centers.len() / width;
                if shift.len() != width || scale.len() != width || fold.grids.len() != k * (1 + width) {
                    return misshapen();
                }
                (k, width + 1)
            }
            _ => return no("there is no kernel for this fold on a GPU".into()),
        };
        if m == 0 || n.next_multiple_of(4) * m > MOST_ENTRIES {
            return no(format!("{m} x {n} sums, a GPU kernel takes {MOST_ENTRIES} at most"));
        }
        let found = Found { sums: vec![0.0; fold.grids.len()], ..Found::default() };
        Ok(Self { fold, places, m, n, launched: vec![], waiting: 0, between: vec![], found })
    }

    /// Classes that a label may have.
    pub fn classes(&self) -> Option<usize> {
        matches!(self.fold.kernel, Kernel::Softmax { .. }).then_some(self.m)
    }

    /// Cells of an output row between two products.
    fn cells_between(&self) -> usize {
        match &self.fold.kernel {
            Kernel::Gram { curvature: Curvature::Weight, .. } => 0,
            Kernel::Gram { .. } => 1,
            _ => self.m.div_ceil(4),
        }
    }

    /// Launches it over some rows.
    pub fn launch(&mut self, worker: &mut Worker, rows: &View) -> Result<(), Refusal> {
        let bytes = 16 * self.cells_between().max(1);
        let limit = BETWEEN.min(worker.device.limits().max_storage_buffer_binding_size as usize);
        let step = (limit / bytes / 64 * 64).clamp(64, 65_535 * 64);
        for first in (0..rows.rows).step_by(step) {
            let n = step.min(rows.rows - first);
            self.some_rows(worker, &rows.rows(first, n))?;
        }
        Ok(())
    }

    fn some_rows(&mut self, worker: &mut Worker, rows: &View) -> Result<(), Refusal> {
        let n = rows.rows;
        let between = self.cells_between();
        let [m, h, nearest] = self.scratch(worker, n, between);
        let m_part = Part::first(&m, (16 * n * between.max(1)) as u64);
        let (step, product) = match &self.fold.kernel {
            Kernel::Softmax { intercepts, weights } => {
                self.margins(worker, rows, intercepts, weights, &m_part)?;
                (RowStep::Softmax, Product::Residuals)
            }
            Kernel::Gram { curvature, label, .. } => {
                let cross = Product::Cross { label: label.is_some() };
                match curvature {
                    Curvature::Weight => (RowStep::Weight, cross),
                    Curvature::Logistic { intercept, weights } => {
                        self.margins(worker, rows, std::slice::from_ref(intercept), weights, &m_part)?;
                        (RowStep::Curvature, cross)
                    }
                }
            }
            Kernel::Centroids { shift, scale, centers } => {
                let (cell, x) = (worker.residency.cell, (&rows.x, n));
                distances(worker, x, (&rows.frame, self.places, cell), (shift, scale), centers, &m_part)?;
                (RowStep::Nearest, Product::Clusters)
            }
            _ => return Err(Refusal::Unsupported("there is no kernel for this fold on a GPU".into())),
        };
        let lanes = match step {
            RowStep::Softmax | RowStep::Nearest => self.m.div_ceil(4).next_power_of_two().clamp(1, 256),
            _ => 1,
        };
        let share = per_group(n, 1024, 256 / lanes, 16_384);
        let groups = n.div_ceil(share);
        let totals = worker.scratch(32 * groups as u64);
        let constants = row_constants(self.fold, n, share, self.m, 4 * between);
        let constants = worker.constants(bytemuck::cast_slice(&constants), BufferUsages::UNIFORM);
        let mut parts = row_parts(rows);
        parts.extend([
            (2, m_part.clone()),
            (3, Part::whole(&constants)),
            (4, Part::first(&totals, 32 * groups as u64)),
            (8, Part::first(&h, 4 * n as u64)),
            (9, Part::first(&nearest, 4 * n as u64)),
        ]);
        let shader = Shader::Rows { step, lanes: lanes as u32, rows: row_columns(self.fold, rows) };
        worker.dispatch(shader, &parts, [groups as u32, 1, 1])?;
        let single = |buffer| Part::first(buffer, 4 * n as u64);
        let (sums, splits) = self.product(worker, rows, product, between, [&m_part, &single(&h), &single(&nearest)])?;
        self.waiting += sums.size() as usize;
        self.launched.push(Launched { frame: Arc::clone(&rows.frame), sums, splits, totals, groups });
        if self.waiting > WAITING { self.drain(worker) } else { Ok(()) }
    }

    /// Buffers for what lies between two kernels over `rows` rows: margins, weights, indices.
    fn scratch(&mut self, worker: &mut Worker, rows: usize, between: usize) -> [Buffer; 3] {
        let bytes = [16 * rows * between.max(1), 4 * rows, 4 * rows].map(|bytes| bytes as u64);
        let large = self.between.iter().zip(bytes).filter(|(buffer, bytes)| buffer.size() >= *bytes).count() == 3;
        if !large {
            // Their launches come before whatever uses them next.
            let fresh = bytes.map(|bytes| worker.scratch(bytes));
            for old in self.between.drain(..) {
                drop(old);
            }
            self.between.extend(fresh);
        }
        [0, 1, 2].map(|i| self.between[i].clone())
    }

    /// `[rows, K]` margins.
    fn margins(
        &self,
        worker: &mut Worker,
        rows: &View,
        intercepts: &[f64],
        weights: &[f64],
        out: &Part,
    ) -> Result<(), Refusal> {
        let (cells, k) = (self.places.cells(), intercepts.len());
        let mut matrix = vec![0f32; 4 * cells.max(1) * k];
        let mut starts = vec![0f32; k.next_multiple_of(4)];
        for (c, start) in intercepts.iter().enumerate() {
            let mut start = *start;
            for (j, source) in self.places.dense.iter().enumerate() {
                let w = weights[c * self.places.width + source.at()];
                start += w * rows.frame.centre[j];
                matrix[c * 4 * cells + j] = (w / rows.frame.scale[j]) as f32;
            }
            starts[c] = start as f32;
        }
        let (cell, rows) = (worker.residency.cell, (&rows.x, rows.rows, cells));
        rows_times(worker, rows, (Product::Margins, cell), (&matrix, &starts, k), out)
    }

    /// The product over the rows, in as many parts as keep a device busy and sums short.
    fn product(
        &self,
        worker: &mut Worker,
        rows: &View,
        product: Product,
        between: usize,
        [m, h, nearest]: [&Part; 3],
    ) -> Result<(Buffer, usize), Refusal> {
        let (k, cells, width) = (rows.rows, self.places.cells(), self.n.div_ceil(4));
        let (columns, lines) = (self.n.div_ceil(64), self.m.div_ceil(64));
        let bytes = 16 * self.m * width;
        let least = if worker.shared.software { k.div_ceil(MOST_ROWS) } else { 1 };
        let most = (PARTIALS / bytes).max(least).max(1);
        let splits = 1024usize.div_ceil(columns * lines).clamp(1, k.div_ceil(512)).min(most).max(least);
        let share = k.div_ceil(splits).next_multiple_of(16);
        let splits = k.div_ceil(share);
        let out = worker.scratch((splits * bytes) as u64);
        let shape = [self.m, self.n, k, share, between, cells, width, self.places.dense.len()].map(|v| v as u32);
        let shape = worker.constants(bytemuck::cast_slice(&shape), BufferUsages::UNIFORM);
        let parts = [
            (0, rows.x.clone()),
            (1, rows.y.clone()),
            (2, m.clone()),
            (3, Part::whole(&shape)),
            (4, Part::first(&out, (splits * bytes) as u64)),
            (5, h.clone()),
            (6, nearest.clone()),
        ];
        let shader = Shader::Tile { product, cell: worker.residency.cell, size: 1 };
        worker.dispatch(shader, &parts, [columns as u32, lines as u32, splits as u32])?;
        Ok((out, splits))
    }

    /// Waits for all that was launched, and adds it up.
    pub fn collect(mut self, worker: &mut Worker) -> Result<Found, Refusal> {
        self.drain(worker)?;
        for buffer in self.between {
            worker.give(buffer);
        }
        Ok(self.found)
    }

    fn drain(&mut self, worker: &mut Worker) -> Result<(), Refusal> {
        let stride = self.n.next_multiple_of(4);
        let size = self.m * stride;
        let launched = std::mem::take(&mut self.launched);
        self.waiting = 0;
        let wanted: Vec<_> = launched
            .iter()
            .flat_map(|l| [(l.sums.clone(), (4 * l.splits * size) as u64), (l.totals.clone(), 32 * l.groups as u64)])
            .collect();
        let mut results = worker.read(&wanted)?.into_iter();
        let mut found = std::mem::take(&mut self.found);
        // Launches of one frame are brought back together.
        let mut sums = vec![0f64; size];
        for (i, l) in launched.iter().enumerate() {
            for split in singles(&results.next().unwrap_or_default()).chunks_exact(size) {
                for (sum, v) in sums.iter_mut().zip(split) {
                    *sum += f64::from(*v);
                }
            }
            for group in singles(&results.next().unwrap_or_default()).chunks_exact(8) {
                let [loss, held_loss, _, _, rows, held_rows, weight, held_weight] = group else { continue };
                found.rows[0] += *rows as u64;
                found.rows[1] += *held_rows as u64;
                for (total, v) in found.totals.iter_mut().zip([weight, loss, held_weight, held_loss]) {
                    *total += f64::from(*v);
                }
            }
            if launched.get(i + 1).is_none_or(|next| !Arc::ptr_eq(&next.frame, &l.frame)) {
                self.bring_back(&l.frame, &sums, &mut found.sums);
                sums.fill(0.0);
            }
        }
        self.found = found;
        for Launched { sums, totals, .. } in launched {
            worker.give(sums);
            worker.give(totals);
        }
        Ok(())
    }

    /// Sums in a frame's coordinates, added in those of the fold.
    fn bring_back(&self, frame: &Frame, sums: &[f64], into: &mut [f64]) {
        let stride = self.n.next_multiple_of(4);
        let ones = self.places.dense.len();
        let width = self.places.width;
        match &self.fold.kernel {
            Kernel::Softmax { .. } => {
                for (k, row) in sums.chunks_exact(stride).enumerate() {
                    into[k * (1 + width)] += row[ones];
                    for (j, source) in self.places.dense.iter().enumerate() {
                        into[k * (1 + width) + 1 + source.at()] +=
                            row[j] / frame.scale[j] + frame.centre[j] * row[ones];
                    }
                }
            }
            Kernel::Centroids { shift, scale, .. } => {
                let affine = affine(frame, self.places, shift, scale);
                for (k, row) in sums.chunks_exact(stride).enumerate() {
                    into[k * (1 + width)] += row[ones];
                    for ((j, source), (a, b)) in self.places.dense.iter().enumerate().zip(&affine) {
                        into[k * (1 + width) + 1 + source.at()] += a * row[j] + b * row[ones];
                    }
                }
            }
            Kernel::Gram { shift, scale, label, .. } => {
                // Entry of z: where it stands in the device's matrix, and z = a raw + b.
                let mut entries = vec![(ones, 1.0, 0.0); self.n];
                for ((j, source), (a, b)) in
                    self.places.dense.iter().enumerate().zip(affine(frame, self.places, shift, scale))
                {
                    entries[1 + source.at()] = (j, a, b);
                }
                if let Some((shift, scale)) = label {
                    entries[self.n - 1] = (ones + 1, *scale, (frame.label - shift) * scale);
                }
                let raw = |i: usize, j: usize| sums[i.min(j) * stride + i.max(j)];
                let mut at = 0;
                for i in 0..self.n {
                    let (p, a, b) = entries[i];
                    for (q, c, d) in entries[i..].iter().copied() {
                        into[at] +=
                            a * c * raw(p, q) + a * d * raw(p, ones) + b * c * raw(ones, q) + b * d * raw(ones, ones);
                        at += 1;
                    }
                }
            }
            _ => {}
        }
    }
}
