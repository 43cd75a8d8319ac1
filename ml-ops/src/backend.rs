//! Where kernels run.

use async_trait::async_trait;
use std::fmt::Debug;

use crate::block::Block;
use crate::error::Result;
use crate::fold::Fold;
use crate::partial::Partial;

/// A processor that runs folds over resident blocks. How blocks are cut into tiles is its own business.
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
}

/// Which device ran a fold, and what went wrong with the one that should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Its name.
    pub device: String,
    /// Why it was another one than asked for, in words for the reader.
    pub warning: Option<String>,
}
