//! The kernels of folds on the device, each beside what it needs of the host: which folds it can run, how parameters
//! are brought into the coordinates of the rows, and how its sums come back.
//!
//! ```text
//!  Linear        one fused kernel, rows are read once            linear.rs, shaders/glm.wgsl
//!  Softmax       margins (tiles) -> residuals -> gradient (tiles)
//!  Gram          [margins ->] weights -> cross products (tiles)
//!  Centroids     distances (tiles) -> nearest -> sums (tiles)    tiles.rs, shaders/tile.wgsl, shaders/rows.wgsl
//! ```

mod linear;
pub(in crate::gpu) mod tiles;

use super::Refusal;
use super::fold::Found;
use super::frame::Places;
use super::residency::View;
use super::shaders::RowColumns;
use super::worker::{Part, Worker};
use crate::block::{Block, Label};
use crate::fold::{Fold, Kernel, Loss};

/// A fold at work on a device.
pub enum Work<'f> {
    /// A loss of one margin.
    Linear(linear::Linear<'f>),
    /// What is made of tiled products.
    Tiles(tiles::Tiles<'f>),
}

impl<'f> Work<'f> {
    /// The kernel for a fold, or why there is none.
    pub fn new(worker: &Worker, fold: &'f Fold, places: &'f Places, blocks: &[Block]) -> Result<Self, Refusal> {
        let no = |why: &str| Refusal::Unsupported(why.into());
        let label = |wanted: &[Wanted]| {
            let fits = |block: &Block| {
                wanted.contains(&match block.label {
                    Label::None => Wanted::None,
                    Label::Value(_) => Wanted::Value,
                    Label::Class(_) => Wanted::Class,
                })
            };
            if blocks.iter().all(fits) { Ok(()) } else { Err(no("the label is of another kind")) }
        };
        match &fold.kernel {
            Kernel::Moments { .. } => Err(no("moments are one pass, and summed on the CPU")),
            Kernel::Candidates { .. } => Err(no("candidates for centres are gathered on the CPU")),
            Kernel::Lesson { .. } | Kernel::Network { .. } => Err(no("a network is no sum over rows")),
            Kernel::Scores { .. } => Err(no("held-out rows are scored on the CPU")),
            Kernel::Linear { loss, intercept, weights } => {
                match loss {
                    Loss::Squared => label(&[Wanted::Value])?,
                    Loss::Logistic => label(&[Wanted::Value, Wanted::Class])?,
                }
                Ok(Self::Linear(linear::Linear::new(worker, fold, places, *loss, *intercept, weights)?))
            }
            kernel => {
                match kernel {
                    Kernel::Softmax { .. } => label(&[Wanted::Class])?,
                    Kernel::Gram { label: Some(_), .. } => label(&[Wanted::Value])?,
                    _ => {}
                }
                Ok(Self::Tiles(tiles::Tiles::new(worker, fold, places)?))
            }
        }
    }

    /// Refuses labels outside the classes: the CPU says which.
    pub fn check_class(&self, top: Option<u32>) -> Result<(), Refusal> {
        let classes = match self {
            Self::Linear(linear) => linear.classes(),
            Self::Tiles(tiles) => tiles.classes(),
        };
        match (top, classes) {
            (Some(top), Some(classes)) if top as usize >= classes => {
                Err(Refusal::Unsupported(format!("a row has class {top} of {classes}")))
            }
            _ => Ok(()),
        }
    }

    /// Launches its kernels over some rows.
    pub fn launch(&mut self, worker: &mut Worker, rows: &View) -> Result<(), Refusal> {
        match self {
            Self::Linear(linear) => linear.launch(worker, rows),
            Self::Tiles(tiles) => tiles.launch(worker, rows),
        }
    }

    /// Waits for all that was launched, and adds it up.
    pub fn collect(self, worker: &mut Worker) -> Result<Found, Refusal> {
        match self {
            Self::Linear(linear) => linear.collect(worker),
            Self::Tiles(tiles) => tiles.collect(worker),
        }
    }
}

#[derive(PartialEq)]
enum Wanted {
    None,
    Value,
    Class,
}

/// The columns that decide what the rows of a fold count for.
fn row_columns(fold: &Fold, rows: &View) -> RowColumns {
    RowColumns { weight: rows.weight.is_some(), role: rows.role.is_some(), sample: fold.sample.is_some() }
}

/// The constants of a kernel over rows, as `weigh.wgsl` has them.
fn row_constants(fold: &Fold, rows: usize, per_group: usize, classes: usize, stride: usize) -> [u32; 12] {
    let halves = |v: u64| [v as u32, (v >> 32) as u32];
    let [train_low, train_high] = halves(fold.train.0);
    let [eval_low, eval_high] = halves(fold.eval.0);
    let (salt, below) = fold.sample.map_or((0, u64::MAX), |sample| (sample.salt, sample.threshold));
    let [salt_low, salt_high] = halves(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let [below_low, below_high] = halves(below);
    let [rows, per_group, classes, stride] = [rows, per_group, classes, stride].map(|n| n as u32);
    [
        rows, per_group, train_low, train_high, eval_low, eval_high, salt_low, salt_high, below_low, below_high,
        classes, stride,
    ]
}

/// The bindings of the columns beside the features.
fn row_parts(rows: &View) -> Vec<(u32, Part)> {
    let mut parts = vec![(0, rows.x.clone()), (1, rows.y.clone())];
    parts.extend(rows.weight.clone().map(|part| (5, part)));
    parts.extend(rows.role.clone().map(|part| (6, part)));
    parts.extend(rows.hash.clone().map(|part| (7, part)));
    parts
}

/// Rows of a group so that about `groups` of them share the rows, a multiple of `step`, within bounds.
fn per_group(rows: usize, groups: usize, step: usize, most: usize) -> usize {
    rows.div_ceil(groups).next_multiple_of(step).clamp(step, most.next_multiple_of(step).max(step))
}

/// The numbers of a result.
fn singles(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}
