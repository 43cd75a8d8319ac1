//! Scores of rows on a device.
//!
//! ```text
//!  Staged    the caller's thread   blocks -> rows in single precision around a centre, as networks take them
//!  launch    a job of the device   upload, forward, a copy of the outputs behind it; nothing is waited for
//!  collect   the next job          the outputs; meanwhile the device has what others launched
//! ```
//! A linear or softmax model is a network without hidden layers whose rows get a frame of their own in every call, so that
//! every number keeps its own digits (`Frame::near`). A network stays on the device while somebody has its [`Scoring`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use wgpu::Buffer;

use super::Refusal;
use super::fold::check;
use super::frame::{Frame, Places, Ranges};
use super::ingest::pack;
use super::kernels::tiles::distances;
use super::network::{GpuBatch, GpuDevice, Held, Lying};
use super::shaders::Cell;
use super::worker::{Fetch, Part, Worker};
use crate::block::{Block, Label};
use crate::fold::{Kernel, Layout};
use crate::kernels::network::{Device, Inputs, Net, Rows};
use crate::kernels::{Scores, Scoring, check_kernel};
use crate::network::{Activation, Head, Network};

/// Bytes of rows and of their outputs that are computed together, at most.
const TILE_BYTES: usize = 64 << 20;

/// A network that scores, on the device.
pub(super) struct Kept {
    /// Those who have it: statements and tasks each have a copy of the same model.
    of: Vec<Weak<Scoring>>,
    digest: u128,
    parameters: Vec<Held>,
    buffers: Vec<Buffer>,
}

impl Worker {
    /// Gives up networks that nobody has any more; bytes of the others.
    pub(super) fn sweep_scorers(&mut self) -> u64 {
        for kept in &mut self.scorers {
            kept.of.retain(|scoring| scoring.strong_count() > 0);
        }
        for gone in self.scorers.extract_if(.., |kept| kept.of.is_empty()).collect::<Vec<_>>() {
            gone.buffers.into_iter().for_each(|buffer| self.give(buffer));
        }
        self.scorers.iter().flat_map(|kept| &kept.buffers).map(Buffer::size).sum()
    }

    /// The parameters of a network, if they are here.
    fn scorer(&mut self, scoring: &Arc<Scoring>, parameters: &[f64]) -> Result<Vec<Held>, u128> {
        let same = |of: &Weak<Scoring>| std::ptr::eq(of.as_ptr(), Arc::as_ptr(scoring));
        if let Some(kept) = self.scorers.iter().find(|kept| kept.of.iter().any(same)) {
            return Ok(kept.parameters.clone());
        }
        let shape = format!("{:?}", scoring.layout);
        let network =
            if let Kernel::Network { network, .. } = &scoring.kernel { format!("{network:?}") } else { shape.clone() };
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for part in [shape.as_bytes(), network.as_bytes(), bytemuck::cast_slice(parameters)] {
            hasher.update(part);
        }
        let digest = hasher.digest128();
        let kept = self.scorers.iter_mut().find(|kept| kept.digest == digest).ok_or(digest)?;
        kept.of.push(Arc::downgrade(scoring));
        Ok(kept.parameters.clone())
    }
}

/// What computes the scores.
enum Form {
    /// A network as it was trained.
    Network,
    /// A network that is as good, made for these rows.
    Made(Network, Vec<f64>),
    /// Distances, of rows in this frame.
    Distances(Places, Frame),
}

/// Rows of a block in single precision: `[rows, cells, 4]`, and codes `[rows, each]`.
struct Lines {
    rows: usize,
    x: Vec<u8>,
    codes: Vec<u32>,
}

/// Blocks on their way to the device.
pub(super) struct Staged {
    form: Form,
    outputs: usize,
    /// Columns of a row, cells of it, and features that are codes.
    shape: (usize, usize, usize),
    lines: Vec<Lines>,
}

/// `weights x + intercept` for each output, as a network over rows centred and scaled as in `frame`. `weight` has that
/// of an output and a coordinate.
fn as_network(
    (frame, places): (&Frame, &Places),
    intercepts: &[f64],
    weight: impl Fn(usize, usize) -> f64,
) -> (Network, Vec<f64>) {
    let (width, outputs) = (places.width, intercepts.len());
    let (mut shift, mut scale) = (vec![0.0; width], vec![1.0; width]);
    for (j, source) in places.dense.iter().enumerate() {
        (shift[source.at()], scale[source.at()]) = (frame.centre[j], frame.scale[j]);
    }
    let mut parameters = Vec::with_capacity((width + 1) * outputs);
    for (at, scale) in scale.iter().enumerate() {
        parameters.extend((0..outputs).map(|k| weight(k, at) / scale));
    }
    let start = |(k, intercept): (usize, &f64)| {
        shift.iter().enumerate().fold(*intercept, |sum, (at, shift)| sum + weight(k, at) * shift)
    };
    parameters.extend(intercepts.iter().enumerate().map(start));
    let (activation, head) = (Activation::Relu, Head::Softmax);
    (Network { shift, scale, hidden: Vec::new(), outputs, activation, head }, parameters)
}

/// A frame that suits all rows of some blocks.
fn near(blocks: &[Block], places: &Places) -> Frame {
    let ranges = blocks.iter().map(|block| Ranges::of(block, places, 0..block.rows));
    Frame::near(&ranges.fold(Ranges::none(), Ranges::and), places)
}

impl Staged {
    /// Converts the rows of some blocks.
    pub fn new(scoring: &Scoring, blocks: &[Block]) -> Result<Self, Refusal> {
        let Scoring { kernel, layout } = scoring;
        check_kernel(kernel, layout).map_err(|e| Refusal::Unsupported(e.to_string()))?;
        // Labels, weights and roles do not matter.
        let bare = |block: &Block| {
            let (label, weight, role, hash) = (Label::None, None, None, None);
            Block { label, weight, role, hash, ..block.clone() }
        };
        let blocks: Vec<Block> = blocks.iter().map(bare).collect();
        blocks.iter().try_for_each(|block| check(block, layout, false))?;
        let places = Places::of(layout);
        let made = |intercepts: &[f64], weights: &[f64]| {
            let frame = near(&blocks, &places);
            let weight = |k: usize, at: usize| weights[k * places.width + at];
            let (network, parameters) = as_network((&frame, &places), intercepts, weight);
            Form::Made(network, parameters)
        };
        let form = match kernel {
            Kernel::Network { .. } => Form::Network,
            Kernel::Linear { intercept, weights, .. } => made(&[*intercept], weights),
            Kernel::Softmax { intercepts, weights } => made(intercepts, weights),
            Kernel::Centroids { .. } if !places.codes.is_empty() => {
                return Err(Refusal::Unsupported("distances over features with many categories".into()));
            }
            Kernel::Centroids { .. } => Form::Distances(places.clone(), near(&blocks, &places)),
            _ => return Err(Refusal::Unsupported("this kernel has no scores".into())),
        };
        let mut staged = Self { form, outputs: scoring.outputs(), shape: (0, 0, 0), lines: Vec::new() };
        if let Form::Distances(_, frame) = &staged.form {
            let lines = lines(&blocks, &places, frame, |_| Vec::new());
            let shape = (places.dense.len(), places.cells(), 0);
            return Ok(Self { lines: lines?, shape, ..staged });
        }
        let network = staged.network(scoring)?.0;
        let (lying, inputs) = (Lying::new(network, layout), Inputs::new(network, layout, GpuDevice::INDICATORS));
        let codes = |block: &Block| inputs.codes(block, &Rows::Range(0..block.rows));
        let (places, shape) = (lying.places(), (places.dense.len(), places.cells(), places.codes.len()));
        let lines = lines(&blocks, places, lying.frame(), codes)?;
        (staged.lines, staged.shape) = (lines, shape);
        Ok(staged)
    }

    /// The network, and its parameters.
    fn network<'s>(&'s self, scoring: &'s Scoring) -> Result<(&'s Network, &'s [f64]), Refusal> {
        match (&self.form, &scoring.kernel) {
            (Form::Made(network, parameters), _) | (Form::Network, Kernel::Network { network, parameters }) => {
                Ok((network, parameters))
            }
            _ => Err(Refusal::Failed("a scoring has two kernels".into())),
        }
    }

    /// Asks the device for all outputs, in the order of the rows.
    pub fn launch(&self, worker: &mut Worker, scoring: &Arc<Scoring>) -> Result<Vec<Fetch>, Refusal> {
        worker.shared.stats.streams.fetch_add(self.lines.len() as u64, Ordering::Relaxed);
        match (&self.form, &scoring.kernel) {
            (Form::Distances(places, frame), Kernel::Centroids { shift, scale, centers }) => {
                self.distances(worker, (places, frame), (shift, scale), centers)
            }
            _ => self.forward(worker, scoring),
        }
    }

    fn forward(&self, worker: &mut Worker, scoring: &Arc<Scoring>) -> Result<Vec<Fetch>, Refusal> {
        let (network, parameters) = self.network(scoring)?;
        let layout: &Layout = &scoring.layout;
        let known = match self.form {
            Form::Network => worker.scorer(scoring, parameters).map_err(Some),
            _ => Err(None),
        };
        let mut net = Net::bare(GpuDevice::new(worker, network, layout), network, layout);
        *net.parameters() = match known {
            Ok(known) => known,
            Err(digest) => {
                let parameters = net.load(parameters);
                net.device.goes_on()?;
                if let Some(digest) = digest {
                    let (of, buffers) = (vec![Arc::downgrade(scoring)], net.device.keep());
                    net.device.worker.scorers.push(Kept { of, digest, parameters: parameters.clone(), buffers });
                }
                parameters
            }
        };
        let ((columns, cells, each), mut batch) = (self.shape, GpuBatch::default());
        let widest = network.layers().iter().map(|layer| layer.units).max().unwrap_or(1).max(columns);
        let tile = net.device.tile(widest);
        let mut fetches = Vec::new();
        for lines in &self.lines {
            for first in (0..lines.rows).step_by(tile) {
                let end = (first + tile).min(lines.rows);
                let (x, codes) =
                    (&lines.x[16 * cells * first..16 * cells * end], &lines.codes[each * first..each * end]);
                net.device.bring((end - first, columns, each), x, codes, &mut batch)?;
                net.forward(&batch, None);
                net.device.goes_on()?;
                let outputs = net.last().clone();
                fetches.push(net.device.fetch(&outputs));
            }
        }
        net.device.release();
        Ok(fetches)
    }

    fn distances(
        &self,
        worker: &mut Worker,
        (places, frame): (&Places, &Frame),
        at: (&[f64], &[f64]),
        centers: &[f64],
    ) -> Result<Vec<Fetch>, Refusal> {
        let (cells, between) = (self.shape.1, self.outputs.div_ceil(4));
        let tile = (TILE_BYTES / (16 * cells.max(between).max(1)) / 64 * 64).clamp(64, 1 << 16);
        let mut fetches = Vec::new();
        for lines in &self.lines {
            for first in (0..lines.rows).step_by(tile) {
                let end = (first + tile).min(lines.rows);
                let rows = &lines.x[16 * cells * first..16 * cells * end];
                let bytes = (16 * between * (end - first)) as u64;
                let (x, out) = (worker.scratch(rows.len() as u64), worker.scratch(bytes));
                worker.write(&x, 0, rows);
                let parts = (Part::first(&x, rows.len() as u64), Part::first(&out, bytes));
                distances(worker, (&parts.0, end - first), (frame, places, Cell::F32), at, centers, &parts.1)?;
                fetches.push(worker.fetch(&[(out.clone(), bytes)]));
                worker.give(x);
                worker.give(out);
            }
        }
        Ok(fetches)
    }

    /// The outputs of all rows as scores of the blocks.
    pub fn scores(&self, found: &[Vec<f32>]) -> Result<Vec<Scores>, Refusal> {
        let stride = 4 * self.outputs.div_ceil(4);
        let mut rows = found.iter().flat_map(|found| found.chunks_exact(stride.max(1)));
        let mut all = Vec::with_capacity(self.lines.len());
        for lines in &self.lines {
            let mut scores = vec![Vec::with_capacity(lines.rows); self.outputs];
            for row in rows.by_ref().take(lines.rows) {
                if row[..self.outputs].iter().any(|score| !score.is_finite()) {
                    return Err(Refusal::Numeric);
                }
                scores.iter_mut().zip(row).for_each(|(scores, score)| scores.push(f64::from(*score)));
            }
            all.push(scores);
        }
        Ok(all)
    }
}

fn lines(
    blocks: &[Block],
    places: &Places,
    frame: &Frame,
    codes: impl Fn(&Block) -> Vec<u32>,
) -> Result<Vec<Lines>, Refusal> {
    let line = |block: &Block| {
        let packed = pack(block, 0..block.rows, places, frame, Cell::F32).ok_or_else(super::too_large)?;
        Ok(Lines { rows: block.rows, x: packed.x, codes: codes(block) })
    };
    blocks.iter().map(line).collect()
}

/// Waits for what was launched.
pub(super) fn collect(worker: &mut Worker, fetches: Vec<Fetch>) -> Result<Vec<Vec<f32>>, Refusal> {
    let mut found = Vec::with_capacity(fetches.len());
    for fetch in fetches {
        let bytes = worker.fetched(fetch)?.pop().unwrap_or_default();
        found.push(bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect());
    }
    Ok(found)
}
