//! The processor as a backend: the reference that every other one is measured against.

use async_trait::async_trait;

use super::candidates::Candidates;
use super::centroids::Centroids;
use super::drive::{Driver, Pass};
use super::gram::Gram;
use super::isa::Isa;
use super::linear::Linear;
use super::moments::Moments;
use super::network::{Lesson, Processor};
use super::scores::{Gather, Scorer};
use super::softmax::Softmax;
use crate::backend::{Backend, Ran};
use crate::block::{Block, Label};
use crate::error::{MlError, Result};
use crate::fold::{Curvature, Fold, Kernel, Layout};
use crate::network::Work;
use crate::partial::Partial;

/// Runs folds on the calling thread with vector instructions. Results are the same bits whatever the
/// instructions, the tiles, and the order of rows and blocks.
#[derive(Clone, Debug)]
pub struct Cpu {
    isa: Isa,
    tile_rows: Option<usize>,
    name: String,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// With the best instructions this processor has.
    pub fn new() -> Self {
        Self::with_isa(Isa::best())
    }

    /// With the given instructions; portable ones where the processor lacks them.
    pub fn with_isa(isa: Isa) -> Self {
        let isa = if isa.available() { isa } else { Isa::Portable };
        Self { isa, tile_rows: None, name: format!("cpu ({isa})") }
    }

    /// With tiles of about `rows` rows (1 to 2048), which changes the speed and nothing else.
    pub fn with_tile_rows(mut self, rows: usize) -> Self {
        self.tile_rows = Some(rows);
        self
    }

    /// [`Backend::fold`], without a runtime.
    ///
    /// # Errors
    /// As [`Backend::fold`].
    pub fn fold_blocks(&self, fold: &Fold, blocks: &[Block], into: &mut Partial) -> Result<()> {
        check_fold(fold, blocks, into)?;
        match &fold.kernel {
            Kernel::Moments { shift, label_shift } => {
                let classes = blocks.iter().any(|b| matches!(b.label, Label::Class(_)));
                self.run(fold, Moments::new(fold, shift, *label_shift, classes), blocks, into)
            }
            Kernel::Linear { loss, intercept, weights } => {
                self.run(fold, Linear::new(fold, *loss, *intercept, weights), blocks, into)
            }
            Kernel::Softmax { intercepts, weights } => {
                self.run(fold, Softmax::new(fold, intercepts, weights), blocks, into)
            }
            Kernel::Gram { shift, scale, label, curvature } => {
                self.run(fold, Gram::new(fold, shift, scale, *label, curvature)?, blocks, into)
            }
            Kernel::Centroids { shift, scale, centers } => {
                self.run(fold, Centroids::new(fold, shift, scale, centers), blocks, into)
            }
            Kernel::Candidates { shift, scale, centers, salt, factor, keep } => {
                let pass = Candidates::new(fold, (shift, scale), centers, *salt, *factor, *keep);
                self.run(fold, pass, blocks, into)?;
                into.gathered.settle();
                Ok(())
            }
            Kernel::Network { .. } => Err(MlError::Internal("a network alone has no sums".into())),
            Kernel::Lesson { .. } => {
                for block in blocks.iter().filter(|block| block.rows > 0) {
                    let mut lesson = self::lesson(fold, block)?;
                    while lesson.advance()? {}
                    lesson.finish(into);
                }
                Ok(())
            }
            Kernel::Scores { of } => {
                let pass = Gather { scorer: Scorer::new(of, &fold.layout)?, scores: vec![] };
                self.run(fold, pass, blocks, into)?;
                into.gathered.settle();
                Ok(())
            }
        }
    }

    fn run<P: Pass>(&self, fold: &Fold, pass: P, blocks: &[Block], into: &mut Partial) -> Result<()> {
        let mut driver = Driver::new(self.isa, self.tile_rows, fold, pass);
        for block in blocks {
            driver.block(block, into)?;
        }
        driver.finish(into);
        Ok(())
    }
}

#[async_trait]
impl Backend for Cpu {
    fn name(&self) -> &str {
        &self.name
    }

    async fn fold(&self, fold: &Fold, blocks: &[Block], into: &mut Partial) -> Result<Ran> {
        let ran = Ran { device: self.name.clone(), ..Ran::default() };
        if !matches!(fold.kernel, Kernel::Lesson { .. }) {
            self.fold_blocks(fold, blocks, into)?;
            return Ok(ran);
        }
        check_fold(fold, blocks, into)?;
        for block in blocks.iter().filter(|block| block.rows > 0) {
            // A shard can be long: whoever cancels gets a turn between two steps.
            let mut lesson = lesson(fold, block)?;
            while lesson.advance()? {
                tokio::task::yield_now().await;
            }
            lesson.finish(into);
        }
        Ok(ran)
    }
}

/// The work of a fold on one shard, in the precision that suits it.
fn lesson<'f>(fold: &'f Fold, block: &'f Block) -> Result<Taught<'f>> {
    let Kernel::Lesson { network, parameters, work, shards } = &fold.kernel else {
        return Err(MlError::Internal("a fold that is no lesson".into()));
    };
    let asked = (*work, *shards);
    Ok(match work {
        Work::Steps(_) => {
            Taught::Single(Lesson::new(Processor::default(), network, &fold.layout, parameters, asked, block)?)
        }
        Work::Loss | Work::Gradient => {
            Taught::Double(Lesson::new(Processor::default(), network, &fold.layout, parameters, asked, block)?)
        }
    })
}

enum Taught<'f> {
    Single(Lesson<'f, Processor<f32>>),
    Double(Lesson<'f, Processor<f64>>),
}

impl Taught<'_> {
    fn advance(&mut self) -> Result<bool> {
        match self {
            Self::Single(lesson) => lesson.advance(),
            Self::Double(lesson) => lesson.advance(),
        }
    }

    fn finish(self, into: &mut Partial) {
        match self {
            Self::Single(mut lesson) => lesson.finish(into),
            Self::Double(mut lesson) => lesson.finish(into),
        }
    }
}

fn shaped(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(MlError::Internal(format!("a fold has {found} {what} where its layout asks for {expected}")))
}

/// Checks that the parameters of a kernel have the layout's shape.
pub(crate) fn check_kernel(kernel: &Kernel, layout: &Layout) -> Result<()> {
    let width = layout.width();
    match kernel {
        Kernel::Moments { shift, .. } => shaped("shifts", shift.len(), width),
        Kernel::Linear { weights, .. } => shaped("weights", weights.len(), width),
        Kernel::Softmax { intercepts, weights } => {
            if intercepts.is_empty() {
                return Err(MlError::Internal("a softmax fold has no classes".into()));
            }
            shaped("weights", weights.len(), width * intercepts.len())
        }
        Kernel::Gram { shift, scale, curvature, .. } => {
            shaped("shifts", shift.len(), width)?;
            shaped("scales", scale.len(), width)?;
            match curvature {
                Curvature::Weight => Ok(()),
                Curvature::Logistic { weights, .. } => shaped("weights", weights.len(), width),
            }
        }
        Kernel::Centroids { shift, scale, centers } | Kernel::Candidates { shift, scale, centers, .. } => {
            shaped("shifts", shift.len(), width)?;
            shaped("scales", scale.len(), width)?;
            shaped("coordinates of centres", centers.len(), centers.len() / width.max(1) * width)
        }
        Kernel::Network { network, parameters } => {
            shaped("shifts", network.shift.len(), width)?;
            shaped("scales", network.scale.len(), width)?;
            shaped("parameters", parameters.len(), network.parameters())
        }
        Kernel::Lesson { network, parameters, work, .. } => {
            shaped("shifts", network.shift.len(), width)?;
            shaped("scales", network.scale.len(), width)?;
            let copies = if let Work::Steps(steps) = work { 1 + steps.rule.memory() } else { 1 };
            shaped("parameters", parameters.len(), copies * network.parameters())
        }
        Kernel::Scores { of } => check_kernel(of, layout),
    }
}

/// Checks a fold against itself, its blocks and the partial it is added into.
fn check_fold(fold: &Fold, blocks: &[Block], into: &Partial) -> Result<()> {
    check_kernel(&fold.kernel, &fold.layout)?;
    let width = fold.layout.width();
    let triangle = |n: usize| n * (n + 1) / 2;
    let sums = match &fold.kernel {
        Kernel::Moments { .. } => {
            let label = fold.grids.len().wrapping_sub(1 + 2 * width);
            let fits = |block: &Block| match block.label {
                Label::None => label == 0,
                Label::Value(_) => label == 0 || label == 2,
                Label::Class(_) => label < u32::MAX as usize,
            };
            let one_kind = blocks
                .windows(2)
                .all(|pair| std::mem::discriminant(&pair[0].label) == std::mem::discriminant(&pair[1].label));
            if !one_kind || !blocks.iter().all(fits) {
                return Err(MlError::Internal(format!("a fold of moments has {} grids for its label", label as isize)));
            }
            fold.grids.len()
        }
        Kernel::Linear { .. } => 1 + width,
        Kernel::Softmax { intercepts, .. } => (1 + width) * intercepts.len(),
        Kernel::Gram { label, .. } => triangle(1 + width + usize::from(label.is_some())),
        Kernel::Centroids { centers, .. } => centers.len() / width.max(1) * (1 + width),
        Kernel::Network { .. } | Kernel::Lesson { .. } => 0,
        Kernel::Candidates { .. } | Kernel::Scores { .. } => fold.grids.len(),
    };
    shaped("grids", fold.grids.len(), sums)?;
    let totals = [fold.weight_grid, fold.loss_grid, fold.weight_grid, fold.loss_grid];
    if into.sums.grids() != fold.grids || into.totals.grids() != totals {
        return Err(MlError::Internal("a fold is added into the partial of another".into()));
    }
    Ok(())
}
