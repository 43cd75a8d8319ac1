//! What a fitted kernel says of rows: to predict, and to measure predictions.

use super::centroids::Distances;
use super::columns::margins;
use super::drive::Pass;
use super::isa::{Isa, Job};
use super::lanes::{Lanes, PAD};
use super::network::Outputs;
use super::pending::Pending;
use super::softmax::Margins;
use super::tile::{Need, Plan, Tile, Wanted, cells, check};
use crate::block::Block;
use crate::error::{MlError, Result};
use crate::fold::{Kernel, Layout};
use crate::partial::Partial;

/// Scores of some rows, one vector of rows for each output of a kernel: the margin of a `Linear` kernel, the margins of
/// a `Softmax` kernel, the outputs of a `Network`, the squared distances to all centres of a `Centroids` kernel.
pub type Scores = Vec<Vec<f64>>;

/// A fitted kernel, and the layout of the rows that it scores.
#[derive(Clone, Debug)]
pub struct Scoring {
    /// The kernel, one that has scores.
    pub kernel: Kernel,
    /// What its coordinates are.
    pub layout: Layout,
}

impl Scoring {
    /// Scores of a row.
    pub fn outputs(&self) -> usize {
        match &self.kernel {
            Kernel::Softmax { intercepts, .. } => intercepts.len(),
            Kernel::Network { network, .. } => network.outputs,
            Kernel::Centroids { centers, .. } => centers.len() / self.layout.width().max(1),
            _ => 1,
        }
    }

    /// Operations of a row, where they are products in single precision.
    pub fn effort(&self) -> Option<u64> {
        let Kernel::Network { network, .. } = &self.kernel else { return None };
        let products = network.layers().iter().fold(0, |sum: u64, layer| sum + layer.weights.len() as u64);
        Some(2 * products)
    }
}

/// Computes the scores of tiles.
pub(super) enum Scorer<'f> {
    Linear { plan: Plan, intercept: f64, weights: &'f [f64] },
    Softmax(Margins<'f>),
    Centroids(Distances<'f>),
    Network(Box<Outputs<'f>>),
}

impl<'f> Scorer<'f> {
    /// # Errors
    /// When the kernel has no scores.
    pub fn new(kernel: &'f Kernel, layout: &Layout) -> Result<Self> {
        let plan = Plan::new(layout);
        match kernel {
            Kernel::Linear { intercept, weights, .. } => Ok(Self::Linear { plan, intercept: *intercept, weights }),
            Kernel::Softmax { intercepts, weights } => Ok(Self::Softmax(Margins::new(plan, intercepts, weights))),
            Kernel::Centroids { shift, scale, centers } => {
                Ok(Self::Centroids(Distances::new(plan, shift, scale, centers)))
            }
            Kernel::Network { network, parameters } => {
                Ok(Self::Network(Box::new(Outputs::new(network, layout, parameters))))
            }
            _ => Err(MlError::Internal("this kernel has no scores".into())),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Linear { .. } => 1,
            Self::Softmax(margins) => margins.classes(),
            Self::Centroids(distances) => distances.count,
            Self::Network(outputs) => outputs.count(),
        }
    }

    fn scratch(&self) -> usize {
        match self {
            Self::Linear { .. } => 0,
            Self::Softmax(margins) => margins.plan.numeric.len() + margins.classes(),
            Self::Centroids(distances) => distances.plan.numeric.len() + 1,
            Self::Network(outputs) => outputs.scratch(),
        }
    }

    /// Writes `out[s * rows + i]` for every score s and row i.
    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, out: &mut Vec<f64>) {
        out.resize(self.count() * tile.rows, 0.0);
        // SAFETY: by contract.
        unsafe {
            match self {
                Self::Linear { plan, intercept, weights } => margins::<V>(plan, tile, *intercept, weights, out),
                Self::Softmax(margins) => {
                    margins.compute::<V>(tile);
                    for (to, from) in out.chunks_exact_mut(tile.rows).zip(margins.m.chunks_exact(margins.stride)) {
                        to.copy_from_slice(&from[..tile.rows]);
                    }
                }
                Self::Centroids(distances) => {
                    distances.stage::<V>(tile);
                    distances.all::<V>(tile, out);
                }
                Self::Network(outputs) => outputs.compute(tile, out),
            }
        }
    }
}

/// [`Kernel::Scores`] at work. Rows are gathered under key 0, so their order is that of their values.
pub(super) struct Gather<'f> {
    pub scorer: Scorer<'f>,
    pub scores: Vec<f64>,
}

impl Pass for Gather<'_> {
    fn need(&self) -> Need {
        Need { label: Wanted::Any, train: false, held: true, hash: false, scratch: self.scorer.scratch() }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial) {
        // SAFETY: by contract.
        unsafe {
            if let Scorer::Centroids(distances) = &mut self.scorer {
                distances.stage::<V>(tile);
                distances.assign::<V>(tile);
                self.scores.clear();
                self.scores.extend(distances.nearest.iter().map(|k| f64::from(*k)));
                self.scores.extend_from_slice(&distances.distance);
            } else {
                self.scorer.tile::<V>(tile, &mut self.scores);
            }
        }
        for (i, (&w, &y)) in tile.held.iter().zip(tile.y).enumerate() {
            if w != 0.0 {
                let scores = self.scores.chunks_exact(tile.rows).map(|s| s[i]);
                into.gathered.rows.push((0, [y, w].into_iter().chain(scores).collect()));
            }
        }
    }
}

/// The scores of every row of a block, whatever its role.
///
/// # Errors
/// When the kernel has no scores, or its parameters or the block do not have the layout's shape.
pub fn scores(Scoring { kernel, layout }: &Scoring, block: &Block) -> Result<Scores> {
    super::cpu::check_kernel(kernel, layout)?;
    check(block, layout, Wanted::Nothing)?;
    let mut scorer = Scorer::new(kernel, layout)?;
    let mut out = vec![Vec::with_capacity(block.rows); scorer.count()];
    let (isa, size) = (Isa::best(), 512);
    let zeros = vec![0.0; size.min(block.rows)];
    for start in (0..block.rows).step_by(size) {
        let rows = size.min(block.rows - start);
        let cells = cells(block, start, rows);
        let zeros = &zeros[..rows];
        let tile = Tile { rows, cells: &cells, y: zeros, w: zeros, held: zeros, any_held: false, hash: &[] };
        let mut pending = Pending::default();
        if rows % PAD == 0 {
            isa.run(Score { scorer: &mut scorer, tile: &tile, rows, out: &mut out });
        } else {
            pending.append(&tile, &(0..rows as u32).collect::<Vec<_>>());
            pending.flush(|tile| isa.run(Score { scorer: &mut scorer, tile, rows, out: &mut out }));
        }
    }
    Ok(out)
}

struct Score<'a, 'f, 't> {
    scorer: &'a mut Scorer<'f>,
    tile: &'a Tile<'t>,
    rows: usize,
    out: &'a mut [Vec<f64>],
}

impl Job for Score<'_, '_, '_> {
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let mut scores = vec![];
        // SAFETY: by contract.
        unsafe { self.scorer.tile::<V>(self.tile, &mut scores) };
        for (to, from) in self.out.iter_mut().zip(scores.chunks_exact(self.tile.rows)) {
            to.extend_from_slice(&from[..self.rows]);
        }
    }
}
