//! Reading a client's plan on a stack of its own size: DataFusion reads plans by recursion, and a plan that is nested
//! deeply must not end the process. A few plans are read at the same time, and others wait.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::error::{Result, SinewError};

/// Bytes of the stack; only those that are used take memory. Protobuf ends a message at 100 levels, which take a tenth.
const STACK: usize = 256 << 20;
/// Plans that the process reads at the same time, whoever sent them.
const READERS: usize = 16;
/// Leave to read one.
static READING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(READERS)));

/// Runs a future to its end on a thread with a large stack; `work` must not call this again.
///
/// # Errors
/// The future's own, or that it panicked.
pub async fn read<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let closed = |_| SinewError::Internal("plans are not read any more".into());
    let turn = Arc::clone(&READING).acquire_owned().await.map_err(closed)?;
    let (handle, (done, result)) = (Handle::current(), oneshot::channel());
    let thread = std::thread::Builder::new().name("sinew-plans".into()).stack_size(STACK);
    let started = thread.spawn(move || {
        // The thread goes on where its caller has gone, and so does its turn.
        let _turn = turn;
        let result = handle.block_on(AssertUnwindSafe(async { work().await }).catch_unwind());
        // Nobody waits where the statement was cancelled.
        let _ = done.send(result.unwrap_or_else(|panic| Err(SinewError::from_panic(&*panic))));
    });
    started.map_err(|source| SinewError::Io { what: "starting a thread".into(), source })?;
    result.await.map_err(|_| SinewError::Internal("reading a plan ended without a result".into()))?
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn few_plans_are_read_at_the_same_time() -> Result<()> {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let one = || {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            read(move || async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(50)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        };
        futures::future::try_join_all((0..5 * READERS).map(|_| one())).await?;
        let most = most.load(Ordering::SeqCst);
        assert!((2..=READERS).contains(&most), "{most}");
        Ok(())
    }
}
