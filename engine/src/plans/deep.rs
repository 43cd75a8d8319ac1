//! Reading a client's plan on a stack of its own size: DataFusion reads plans by recursion, and a plan that is nested
//! deeply must not end the process.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Result, SinewError};

/// Bytes of the stack; only those that are used take memory. Protobuf ends a message at 100 levels, which take a tenth.
const STACK: usize = 256 << 20;

/// Runs a future to its end on a thread with a large stack.
///
/// # Errors
/// The future's own, or that it panicked.
pub async fn read<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let (handle, (done, result)) = (Handle::current(), oneshot::channel());
    let thread = std::thread::Builder::new().name("sinew-plans".into()).stack_size(STACK);
    let started = thread.spawn(move || {
        let result = handle.block_on(AssertUnwindSafe(async { work().await }).catch_unwind());
        // Nobody waits where the statement was cancelled.
        let _ = done.send(result.unwrap_or_else(|panic| Err(SinewError::from_panic(&*panic))));
    });
    started.map_err(|source| SinewError::Io { what: "starting a thread".into(), source })?;
    result.await.map_err(|_| SinewError::Internal("reading a plan ended without a result".into()))?
}
