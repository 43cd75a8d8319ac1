//! Feed-forward networks: the passes that train them, and their outputs.
//!
//! ```text
//!  block of a shard -> Batch (standardised numbers, codes) -> Net: forward, loss, backward   on a Device
//!                      Lesson: which rows, which steps     -> a gathered row of the shard
//! ```
//! Products are computed by `matrixmultiply`, whose kernel depends on the processor, so weights are the same
//! to the last byte on processors of one kind. Everything else is as everywhere: the same order, whatever the
//! files, threads and executors.

mod batch;
mod device;
mod lesson;
mod net;
mod outputs;
mod shuffle;
#[cfg(test)]
mod tests;

pub(crate) use device::Processor;
pub(crate) use lesson::{HEAD, Lesson};
pub(super) use outputs::Outputs;
