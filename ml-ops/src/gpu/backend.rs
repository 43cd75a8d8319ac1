//! A device as a backend: what it refuses, the CPU does.

use std::sync::Arc;

use async_trait::async_trait;

use super::frame::Places;
use super::{Gpu, Refusal};
use crate::backend::{Backend, GpuUse, Ran};
use crate::block::{Block, Label};
use crate::error::Result;
use crate::fold::{Fold, Kernel, ROLE_TRAIN};
use crate::kernels::{Scores, Scoring};
use crate::partial::Partial;

/// A device, and the processor that stands in for it.
#[derive(Debug)]
pub struct GpuBackend {
    gpu: Arc<Gpu>,
    cpu: Arc<dyn Backend>,
    name: String,
}

impl GpuBackend {
    /// Folds on `gpu`, and on `cpu` what it refuses.
    pub fn new(gpu: Arc<Gpu>, cpu: Arc<dyn Backend>) -> Self {
        let name = gpu.name();
        Self { gpu, cpu, name }
    }

    /// What the CPU did instead of the device, and why, unless that was known before.
    fn instead(&self, refusal: &Refusal, ran: Ran, mut gpu: GpuUse, what: &str) -> Ran {
        if refusal.is_planned() {
            return Ran { reason: Some(refusal.to_string()), gpu, ..ran };
        }
        gpu.fallbacks = 1;
        let warning = format!("{} gave up: {refusal}; the {what} went on on the CPU", self.name);
        Ran { warning: Some(warning), gpu, ..ran }
    }

    /// What a network says of the held-out rows, as [`Kernel::Scores`] gathers it; the sums of a fold are not taken.
    async fn held(
        &self,
        fold: &Fold,
        network: &Kernel,
        blocks: &[Block],
        into: &mut Partial,
    ) -> (std::result::Result<(), Refusal>, GpuUse) {
        let scoring = Arc::new(Scoring { kernel: network.clone(), layout: fold.layout.clone() });
        // Cells, codes, and scores as singles and as doubles.
        let places = Places::of(&fold.layout);
        let row = 16 * places.cells() + 4 * places.codes.len() + 16 * scoring.outputs();
        let (mut rows, mut used) = (Vec::new(), GpuUse::default());
        for block in blocks {
            for piece in held_out(fold, block).chunks((HELD_BYTES / row).max(1)) {
                let piece = block.take(piece);
                let (found, cost) = self.gpu.score_counted(&scoring, std::slice::from_ref(&piece)).await;
                used += cost;
                match found {
                    Ok(found) => rows.extend(found.iter().flat_map(|scores| gathered(&piece, scores))),
                    Err(refusal) => return (Err(refusal), used),
                }
            }
        }
        into.gathered.rows.extend(rows);
        into.gathered.settle();
        into.single = true;
        (Ok(()), used)
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

/// The rows of a block that a fold holds out, those of some weight.
fn held_out(fold: &Fold, block: &Block) -> Vec<u32> {
    let held = |i: &u32| {
        let i = *i as usize;
        let role = block.role.as_ref().map_or(ROLE_TRAIN, |roles| roles[i]);
        fold.eval.contains(role) && block.weight.as_ref().is_none_or(|weights| weights[i] != 0.0)
    };
    (0..block.rows as u32).filter(held).collect()
}

/// Label, weight and scores of each row.
fn gathered<'s>(block: &'s Block, scores: &'s Scores) -> impl Iterator<Item = (u64, Vec<f64>)> + 's {
    (0..block.rows).map(move |i| {
        let label = match &block.label {
            Label::None => 0.0,
            Label::Value(values) => values[i],
            Label::Class(classes) => f64::from(classes[i]),
        };
        let weight = block.weight.as_ref().map_or(1.0, |weights| weights[i]);
        (0, [label, weight].into_iter().chain(scores.iter().map(|output| output[i])).collect())
    })
}

/// Bytes of held-out rows and their scores that are on the way at once.
const HELD_BYTES: usize = 16 << 20;
/// Bytes of rows that one call should bring: enough for a submission that is worth its overhead.
const BATCH_BYTES: usize = 256 << 20;

#[async_trait]
impl Backend for GpuBackend {
    fn name(&self) -> &str {
        &self.name
    }

    fn batch_bytes(&self) -> usize {
        BATCH_BYTES
    }

    async fn fold(&self, fold: &Fold, blocks: &[Block], into: &mut Partial) -> Result<Ran> {
        let (done, mut gpu) = match &fold.kernel {
            Kernel::Lesson { .. } => {
                let (taught, gpu) = self.gpu.lesson_counted(fold, blocks).await;
                let done = match taught {
                    Ok(partial) => {
                        into.merge(partial)?;
                        into.single = true;
                        Ok(())
                    }
                    Err(refusal) => Err(refusal),
                };
                (done, gpu)
            }
            // Other scores are no work: rows that are not there yet cost more to bring.
            Kernel::Scores { of } if matches!(**of, Kernel::Network { .. }) => self.held(fold, of, blocks, into).await,
            _ => {
                let (found, gpu) = self.gpu.fold_counted(fold, blocks).await;
                (found.map(|found| found.add_to(into)), gpu)
            }
        };
        let Err(refusal) = done else {
            gpu.calls = 1;
            return Ok(Ran { device: self.name.clone(), gpu, ..Ran::default() });
        };
        let ran = self.cpu.fold(fold, blocks, into).await?;
        Ok(self.instead(&refusal, ran, gpu, "training"))
    }

    async fn score(&self, scoring: &Arc<Scoring>, blocks: &[Block]) -> Result<(Vec<Scores>, Ran)> {
        let (scores, mut gpu) = self.gpu.score_counted(scoring, blocks).await;
        match scores {
            Ok(scores) => {
                gpu.calls = 1;
                Ok((scores, Ran { device: self.name.clone(), gpu, ..Ran::default() }))
            }
            Err(refusal) => {
                let (scores, ran) = self.cpu.score(scoring, blocks).await?;
                Ok((scores, self.instead(&refusal, ran, gpu, "prediction")))
            }
        }
    }
}
