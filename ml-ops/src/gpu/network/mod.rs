//! Networks on a device: the same passes as on the processor (`kernels/network/`), over another `Device`.
//!
//! ```text
//!  Gpu::lesson ── job ──> teach: Lesson over GpuDevice for every shard, results read once at its end
//!    rows.rs     a shard's rows as the network takes them, resident or streamed; batches picked of them by index
//!    device.rs   the operations, as dispatches that are sent off together
//! ```
//! Single precision throughout; losses of groups of rows and gradients of some tiles are added in double
//! precision on the host. Nothing of a pass counts before all of it has come back.

mod device;
mod rows;
#[cfg(test)]
mod tests;

pub(super) use device::{GpuDevice, Held};
pub(super) use rows::{GpuBatch, Lying};

use super::worker::Worker;
use super::{Refusal, fold};
use crate::block::Block;
use crate::error::MlError;
use crate::fold::{Fold, Kernel};
use crate::kernels::check_kernel;
use crate::kernels::network::Lesson;
use crate::partial::Partial;

/// Whatever is wrong with a fold or a block, the processor says it.
fn left(error: &MlError) -> Refusal {
    Refusal::Unsupported(error.to_string())
}

/// Does the work of a fold on some shards.
pub(super) fn teach(worker: &mut Worker, fold: &Fold, blocks: &[Block]) -> Result<Partial, Refusal> {
    let Kernel::Lesson { network, parameters, work, shards } = &fold.kernel else {
        return Err(Refusal::Unsupported("a fold that is no lesson".into()));
    };
    check_kernel(&fold.kernel, &fold.layout).map_err(|e| left(&e))?;
    let mut partial = Partial::empty(fold);
    for block in blocks.iter().filter(|block| block.rows > 0) {
        fold::check(block, &fold.layout, fold.sample.is_some())?;
        let device = GpuDevice::new(worker, network, &fold.layout);
        let asked = (*work, *shards);
        let mut lesson = Lesson::new(device, network, &fold.layout, parameters, asked, block).map_err(|e| left(&e))?;
        while lesson.device().goes_on()? && lesson.advance().map_err(|e| left(&e))? {}
        lesson.finish(&mut partial);
        lesson.device().goes_on()?;
        lesson.device().release();
        let row = partial.gathered.rows.last();
        if row.is_none_or(|(_, row)| row.iter().any(|value| !value.is_finite())) {
            return Err(Refusal::Numeric);
        }
    }
    Ok(partial)
}
