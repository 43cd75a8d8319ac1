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

    /// Adds what the rows of `blocks` contribute to `fold` into `into`.
    ///
    /// # Errors
    /// When a block does not have the fold's layout.
    async fn fold(&self, fold: &Fold, blocks: &[Block], into: &mut Partial) -> Result<()>;
}
