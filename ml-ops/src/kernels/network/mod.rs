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
mod processor;
mod shuffle;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use batch::{Batch, Inputs, Rows};
pub(crate) use device::{Device, Dropout, Input, Tally};
pub(crate) use lesson::{HEAD, Lesson};
pub(crate) use net::Net;
pub(super) use outputs::Outputs;
pub(crate) use processor::Processor;
