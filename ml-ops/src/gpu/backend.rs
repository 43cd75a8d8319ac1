//! A device as a backend: what it refuses, the CPU does.

use std::sync::Arc;

use async_trait::async_trait;

use super::Gpu;
use crate::backend::{Backend, Ran};
use crate::block::Block;
use crate::error::Result;
use crate::fold::{Fold, Kernel};
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
        if refusal.is_planned() {
            return Ok(Ran { gpu, ..ran });
        }
        gpu.fallbacks = 1;
        let warning = format!("{} gave up: {refusal}; the training went on on the CPU", self.name);
        Ok(Ran { warning: Some(warning), gpu, ..ran })
    }
}
