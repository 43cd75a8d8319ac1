//! A device as a backend: what it refuses, the CPU does.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Gpu, Refusal};
use crate::backend::{Backend, GpuUse, Ran};
use crate::block::Block;
use crate::error::Result;
use crate::fold::{Fold, Kernel};
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
            return Ran { gpu, ..ran };
        }
        gpu.fallbacks = 1;
        let warning = format!("{} gave up: {refusal}; the {what} went on on the CPU", self.name);
        Ran { warning: Some(warning), gpu, ..ran }
    }

    /// The device.
    pub fn gpu(&self) -> &Arc<Gpu> {
        &self.gpu
    }
}

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
                        Ok(())
                    }
                    Err(refusal) => Err(refusal),
                };
                (done, gpu)
            }
            _ => {
                let (found, gpu) = self.gpu.fold_counted(fold, blocks).await;
                (found.map(|found| found.add_to(into)), gpu)
            }
        };
        let Err(refusal) = done else {
            gpu.calls = 1;
            return Ok(Ran { device: self.name.clone(), warning: None, gpu });
        };
        let ran = self.cpu.fold(fold, blocks, into).await?;
        Ok(self.instead(&refusal, ran, gpu, "training"))
    }

    async fn score(&self, scoring: &Arc<Scoring>, blocks: &[Block]) -> Result<(Vec<Scores>, Ran)> {
        let (scores, mut gpu) = self.gpu.score_counted(scoring, blocks).await;
        match scores {
            Ok(scores) => {
                gpu.calls = 1;
                Ok((scores, Ran { device: self.name.clone(), warning: None, gpu }))
            }
            Err(refusal) => {
                let (scores, ran) = self.cpu.score(scoring, blocks).await?;
                Ok((scores, self.instead(&refusal, ran, gpu, "prediction")))
            }
        }
    }
}
