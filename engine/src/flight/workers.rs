//! The threads that run statements, apart from those that talk to clients.

use std::panic::AssertUnwindSafe;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status::to_status;
use crate::error::{Result, SinewError};

/// Batches that may lie between a statement and the client that reads it.
const AHEAD: usize = 2;

/// Where statements run.
#[derive(Clone, Debug)]
pub struct Workers(pub Handle);

/// Stops the task when it is dropped.
#[derive(Debug)]
struct Stop(AbortHandle);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Workers {
    /// Runs a future on the workers; dropping this one stops it.
    ///
    /// # Errors
    /// The future's own, or that it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let task: JoinHandle<Result<T>> = self.0.spawn(work);
        let _stop = Stop(task.abort_handle());
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(SinewError::from_panic(&*error.into_panic())),
            Err(_) => Err(SinewError::Cancelled),
        }
    }

    /// Polls a stream on the workers, a few items ahead; dropping the returned stream stops it. A panic is the
    /// stream's last error, so that rows that are missing are never taken for the end.
    pub fn stream<T: Send + 'static>(
        &self,
        items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> BoxStream<'static, Result<T, Status>> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut items = AssertUnwindSafe(items.boxed()).catch_unwind();
        let task = self.0.spawn(async move {
            while let Some(item) = items.next().await {
                let item = item.unwrap_or_else(|panic| Err(to_status(&SinewError::from_panic(&*panic))));
                if sender.send(item).await.is_err() {
                    return;
                }
            }
            // What the statement held is free when its reader sees the end.
            drop(items);
            drop(sender);
        });
        let stop = Stop(task.abort_handle());
        let items = ReceiverStream::new(receiver).map(move |item| {
            let _held = &stop;
            item
        });
        items.boxed()
    }
}
