//! A loss of one margin and its gradient. The margin of a row in the frame's coordinates is
//! `m = (b + sum w_j c_j) + sum (w_j / s_j) x'_j` with `x' = (x - c) s`; the sums come back as
//! `sum r x_j = sum r x'_j / s_j + c_j sum r`.

use std::sync::Arc;

use wgpu::{Buffer, BufferUsages};

use super::super::Refusal;
use super::super::fold::Found;
use super::super::frame::{Frame, Places};
use super::super::residency::View;
use super::super::shaders::{MOST_CELLS, Shader};
use super::super::worker::{Part, Worker};
use super::{per_group, row_columns, row_constants, row_parts, singles};
use crate::fold::{Fold, Loss};

/// Rows of a group, at most: few enough that no sum in single precision is long.
const MOST_ROWS: usize = 16_384;
/// Rows of a group that adds by category: its integers hold that many.
const SCATTER_ROWS: usize = 65_536;
/// Categories of a group.
const SCATTER_TILE: usize = 2048;
/// Categories of a feature, at most.
const MOST_CATEGORIES: usize = 16_384;
/// Bytes of the integers of one launch and feature, at most.
const SCATTER_BYTES: usize = 32 << 20;

/// A launch whose results are on the device.
struct Launched {
    frame: Arc<Frame>,
    part: Buffer,
    groups: usize,
    /// For each wide category, its integers and how many groups wrote them.
    scattered: Vec<(Buffer, usize)>,
}

/// [`crate::fold::Kernel::Linear`] on a device.
pub struct Linear<'f> {
    fold: &'f Fold,
    places: &'f Places,
    loss: Loss,
    intercept: f64,
    weights: &'f [f64],
    lanes: usize,
    scale: f32,
    launched: Vec<Launched>,
    scratch: Vec<Buffer>,
}

impl<'f> Linear<'f> {
    /// The kernel for a fold, or why there is none.
    pub fn new(
        worker: &Worker,
        fold: &'f Fold,
        places: &'f Places,
        loss: Loss,
        intercept: f64,
        weights: &'f [f64],
    ) -> Result<Self, Refusal> {
        if weights.len() != places.width || fold.grids.len() != 1 + places.width {
            return Err(Refusal::Unsupported("the fold does not have the shape of its layout".into()));
        }
        let cells = places.cells();
        let lanes = cells.next_power_of_two().min(worker.shared.lanes as usize).max(1);
        if cells > lanes * MOST_CELLS as usize {
            return Err(Refusal::Unsupported(format!(
                "{} dense coordinates, a kernel of this device holds {}",
                places.dense.len(),
                4 * lanes * MOST_CELLS as usize
            )));
        }
        if let Some((_, span)) = places.codes.iter().find(|(_, span)| span.width > MOST_CATEGORIES) {
            let why = format!("a feature has {} categories, a GPU kernel takes {MOST_CATEGORIES} at most", span.width);
            return Err(Refusal::Unsupported(why));
        }
        // A residual is at most the bound of the first sum's terms, and of a logistic loss at most the row's weight; the
        // tighter the bound, the finer the sums.
        let largest = match loss {
            Loss::Logistic => fold.weight_grid.bound(),
            Loss::Squared => fold.grids.first().map_or(1.0, |grid| grid.bound()),
        };
        let scale = (32_767.0 / largest) as f32;
        let usable = scale.is_finite() && scale > f32::MIN_POSITIVE;
        if !usable && !places.codes.is_empty() {
            return Err(Refusal::Unsupported("residuals leave single precision".into()));
        }
        Ok(Self { fold, places, loss, intercept, weights, lanes, scale, launched: vec![], scratch: vec![] })
    }

    /// Classes that a label may have.
    pub fn classes(&self) -> Option<usize> {
        (self.loss == Loss::Logistic).then_some(2)
    }

    /// Coefficients in a frame's coordinates.
    fn coefficients(&self, frame: &Frame) -> Vec<f32> {
        let mut out = vec![0f32; 4 * (self.places.cells() + 1)];
        let mut intercept = self.intercept;
        for (j, source) in self.places.dense.iter().enumerate() {
            let w = self.weights[source.at()];
            intercept += w * frame.centre[j];
            out[j] = (w / frame.scale[j]) as f32;
        }
        let end = 4 * self.places.cells();
        // Residuals of a squared loss need no label as it was, only its distance to the margin.
        let (intercept, label) = match self.loss {
            Loss::Squared => (intercept - frame.label, 0.0),
            Loss::Logistic => (intercept, frame.label),
        };
        out[end] = intercept as f32;
        out[end + 1] = label as f32;
        out
    }

    /// Launches it over some rows.
    pub fn launch(&mut self, worker: &mut Worker, rows: &View) -> Result<(), Refusal> {
        let (n, cells) = (rows.rows, self.places.cells());
        let codes = self.places.codes.len();
        let columns = row_columns(self.fold, rows);
        let cell = worker.residency.cell;
        let shader = Shader::Glm {
            loss: self.loss,
            lanes: self.lanes as u32,
            cells: cells as u32,
            codes: codes as u32,
            cell,
            rows: columns,
        };
        let step = 256 / self.lanes * 2;
        let share = per_group(n, 2048, step.max(512), MOST_ROWS);
        let groups = n.div_ceil(share);
        let part = worker.scratch((groups * (cells + 2) * 16) as u64);
        let coefficients = worker.numbers(&self.coefficients(&rows.frame));
        let constants = row_constants(self.fold, n, share, 0, 0);
        let constants = worker.constants(bytemuck::cast_slice(&constants), BufferUsages::UNIFORM);
        let mut parts = row_parts(rows);
        parts.extend([
            (2, Part::whole(&coefficients)),
            (3, Part::whole(&constants)),
            (4, Part::first(&part, (groups * (cells + 2) * 16) as u64)),
        ]);
        let mut residual = None;
        if let (Some(held), true) = (&rows.codes, codes > 0) {
            let mut spans = Vec::with_capacity(2 * codes);
            let mut gathered = Vec::new();
            for (_, span) in &self.places.codes {
                spans.extend([gathered.len() as u32, span.width as u32]);
                gathered.extend(self.weights[span.offset..span.offset + span.width].iter().map(|w| *w as f32));
            }
            let buffer = worker.scratch(4 * n as u64);
            parts.extend([
                (8, held.clone()),
                (9, Part::whole(&worker.numbers(&gathered))),
                (10, Part::whole(&worker.numbers(&spans))),
                (11, Part::first(&buffer, 4 * n as u64)),
            ]);
            residual = Some((held.clone(), buffer));
        }
        worker.dispatch(shader, &parts, [groups as u32, 1, 1])?;
        let mut scattered = Vec::new();
        if let Some((held, residual)) = residual {
            for (c, (_, span)) in self.places.codes.iter().enumerate() {
                scattered.push(self.scatter(worker, &held, &residual, n, c, span.width)?);
            }
            self.scratch.push(residual);
        }
        self.launched.push(Launched { frame: Arc::clone(&rows.frame), part, groups, scattered });
        Ok(())
    }

    fn scatter(
        &self,
        worker: &mut Worker,
        codes: &Part,
        residual: &Buffer,
        rows: usize,
        column: usize,
        width: usize,
    ) -> Result<(Buffer, usize), Refusal> {
        let share = per_group(rows, (SCATTER_BYTES / (12 * width)).clamp(1, 256), 256, SCATTER_ROWS);
        let groups = rows.div_ceil(share);
        let part = worker.scratch((groups * width * 12) as u64);
        let [n, share, column, columns, width32, groups32] =
            [rows, share, column, self.places.codes.len(), width, groups].map(|n| n as u32);
        let constants = [n, share, column, columns, width32, self.scale.to_bits(), groups32, 0];
        let constants = worker.constants(bytemuck::cast_slice(&constants), BufferUsages::UNIFORM);
        let parts = [
            (0, codes.clone()),
            (1, Part::first(residual, 4 * rows as u64)),
            (3, Part::whole(&constants)),
            (4, Part::first(&part, (groups * width * 12) as u64)),
        ];
        worker.dispatch(Shader::Scatter, &parts, [groups32, width.div_ceil(SCATTER_TILE) as u32, 1])?;
        Ok((part, groups))
    }

    /// Waits for all that was launched, and adds it up.
    pub fn collect(self, worker: &mut Worker) -> Result<Found, Refusal> {
        let row = 4 * (self.places.cells() + 2);
        let mut wanted = Vec::new();
        for launched in &self.launched {
            wanted.push((launched.part.clone(), (launched.groups * row * 4) as u64));
            for ((part, groups), (_, span)) in launched.scattered.iter().zip(&self.places.codes) {
                wanted.push((part.clone(), (groups * span.width * 12) as u64));
            }
        }
        let mut results = worker.read(&wanted)?.into_iter();
        let mut found = Found { sums: vec![0.0; 1 + self.places.width], ..Found::default() };
        for launched in &self.launched {
            let mut sums = vec![0f64; row];
            for group in singles(&results.next().unwrap_or_default()).chunks_exact(row) {
                for (sum, v) in sums.iter_mut().zip(group) {
                    *sum += f64::from(*v);
                }
            }
            let [.., residual, loss, held_loss, _, rows, held_rows, weight, held_weight] = sums[..] else { continue };
            found.rows[0] += rows as u64;
            found.rows[1] += held_rows as u64;
            for (total, v) in found.totals.iter_mut().zip([weight, loss, held_weight, held_loss]) {
                *total += v;
            }
            found.sums[0] += residual;
            for (j, source) in self.places.dense.iter().enumerate() {
                let frame = &launched.frame;
                found.sums[1 + source.at()] += sums[j] / frame.scale[j] + frame.centre[j] * residual;
            }
            for (_, span) in launched.scattered.iter().zip(&self.places.codes).map(|(a, (_, span))| (a, span)) {
                let bytes = results.next().unwrap_or_default();
                let parts: Vec<i32> = bytes.as_chunks().0.iter().map(|word| i32::from_le_bytes(*word)).collect();
                let mut totals = vec![[0i64; 3]; span.width];
                for group in parts.chunks_exact(3 * span.width) {
                    for (total, limbs) in totals.iter_mut().zip(group.as_chunks::<3>().0) {
                        for (sum, limb) in total.iter_mut().zip(limbs) {
                            *sum += i64::from(*limb);
                        }
                    }
                }
                for (sum, [high, middle, low]) in found.sums[1 + span.offset..].iter_mut().zip(totals) {
                    let units = high as f64 + middle as f64 / 32_768.0 + low as f64 / 1_073_741_824.0;
                    *sum += units / f64::from(self.scale);
                }
            }
        }
        for launched in self.launched {
            worker.give(launched.part);
            for (part, _) in launched.scattered {
                worker.give(part);
            }
        }
        for buffer in self.scratch {
            worker.give(buffer);
        }
        Ok(found)
    }
}
