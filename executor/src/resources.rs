//! What every task of this process shares: object stores, spill files, the feature cache and the device.
//!
//! ```text
//!  memory_limit ─┬─ cache_limit: prepared rows of trainings, one pool for the process
//!                └─ the rest: queries, one pool for each task
//! ```

use std::path::Path;
use std::sync::Arc;

use ballista_core::extension::SessionConfigExt;
use ballista_core::{ConfigProducer, RuntimeProducer};
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::prelude::SessionConfig;
use sinew::{Result, SessionOptions};
use sinew_ml::operators::Local;
use sinew_ml::runtime::TrainRuntime;
use sinew_ml::store::BlockStore;

/// What tasks find in their session.
pub struct Resources {
    /// Bytes that queries may hold, all tasks together.
    pub query_bytes: u64,
    /// Rows that stay between the steps of trainings.
    pub store: Arc<BlockStore>,
    /// Makes the config of a task.
    pub config: ConfigProducer,
    /// Makes the environment of a session.
    pub runtime: RuntimeProducer,
}

impl Resources {
    /// The resources of an executor; rows that do not fit into memory go to `folder`.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub fn new(options: &SessionOptions, folder: &Path) -> Result<Self> {
        let cache_bytes = options.cache_limit();
        let query_bytes = options.memory_limit().saturating_sub(cache_bytes).max(1 << 20);
        let pool = GreedyMemoryPool::new(usize::try_from(cache_bytes).unwrap_or(usize::MAX));
        let store = Arc::new(BlockStore::with_pool(Arc::new(pool)));
        let devices = Arc::new(sinew::devices(options));
        let training = Arc::new(TrainRuntime::with_devices(devices, Arc::clone(&store), Arc::new(Local)));
        let config: ConfigProducer = Arc::new(move || {
            let mut config = SessionConfig::new_with_ballista().with_extension(Arc::clone(&training));
            config.options_mut().execution.enable_file_stream_work_stealing = false;
            config
        });
        let (options, folder) = (options.clone(), folder.to_path_buf());
        let runtime: RuntimeProducer = Arc::new(move |_: &SessionConfig| -> DataFusionResult<_> {
            sinew::environment(&options).with_temp_file_path(folder.clone()).build_arc()
        });
        Ok(Self { query_bytes, store, config, runtime })
    }
}
