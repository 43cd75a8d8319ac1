//! Where kernels run.

use std::fmt::Debug;
use std::ops::{AddAssign, Sub};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::block::Block;
use crate::error::Result;
use crate::fold::Fold;
use crate::kernels::{Scores, Scoring, scores};
use crate::partial::Partial;

/// A processor that runs folds over resident blocks, and scores rows. How blocks are cut into tiles is its own business.
#[async_trait]
pub trait Backend: Debug + Send + Sync {
    /// What reports and plans call it, such as `cpu (avx2)`.
    fn name(&self) -> &str;

    /// Bytes of blocks that one call should bring where there are so many; 0 means one block a call.
    fn batch_bytes(&self) -> usize {
        0
    }

    /// Adds what the rows of `blocks` contribute to `fold` into `into`.
    ///
    /// # Errors
    /// When a block does not have the fold's layout.
    async fn fold(&self, fold: &Fold, blocks: &[Block], into: &mut Partial) -> Result<Ran>;

    /// The scores of every row of each block, whatever its role; on the calling thread, unless a backend has a device.
    ///
    /// # Errors
    /// When the kernel has no scores, or a block does not have the layout.
    async fn score(&self, scoring: &Arc<Scoring>, blocks: &[Block]) -> Result<(Vec<Scores>, Ran)> {
        let mut found = Vec::with_capacity(blocks.len());
        for block in blocks {
            found.push(scores(scoring, block)?);
            // What is cancelled ends here, and others have their turn.
            tokio::task::yield_now().await;
        }
        Ok((found, Ran { device: self.name().into(), ..Ran::default() }))
    }
}

/// What calls of a GPU cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuUse {
    /// Calls that it did.
    pub calls: u64,
    /// Calls that the CPU did because something went wrong with it.
    pub fallbacks: u64,
    /// Pieces of rows that were uploaded.
    pub uploads: u64,
    /// Bytes that were uploaded, parameters included.
    pub uploaded_bytes: u64,
    /// Microseconds that its kernels were waited for.
    pub busy_us: u64,
}

impl AddAssign for GpuUse {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.fallbacks += other.fallbacks;
        self.uploads += other.uploads;
        self.uploaded_bytes += other.uploaded_bytes;
        self.busy_us += other.busy_us;
    }
}

impl Sub for GpuUse {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            fallbacks: self.fallbacks - before.fallbacks,
            uploads: self.uploads - before.uploads,
            uploaded_bytes: self.uploaded_bytes - before.uploaded_bytes,
            busy_us: self.busy_us - before.busy_us,
        }
    }
}

/// Which device ran a fold, and what went wrong with the one that should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Its name.
    pub device: String,
    /// Why it was another one than asked for, in words for the reader.
    pub warning: Option<String>,
    /// Why that one has no kernel for it, which was known before.
    pub reason: Option<String>,
    /// What it cost a GPU.
    pub gpu: GpuUse,
}
