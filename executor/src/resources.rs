//! What every task of this process shares: object stores, spill files, the feature cache and the device.
//!
//! ```text
//!  memory_limit ─┬─ cache_limit: prepared rows of trainings, one pool for the process
//!                └─ the rest: queries, one pool for each task
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ballista_core::extension::SessionConfigExt;
use ballista_core::{ConfigProducer, RuntimeProducer};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use sinew::storage::roots::Travelling;
use sinew::{Result, SessionOptions};
use sinew_ml::operators::Local;
use sinew_ml::runtime::TrainRuntime;
use sinew_ml::store::BlockStore;

/// Environments that are kept, one for each list of roots that tasks have brought.
const KINDS: usize = 16;

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
            let mut config = SessionConfig::new_with_ballista()
                .with_extension(Arc::clone(&training))
                .with_option_extension(Travelling::default());
            config.options_mut().execution.enable_file_stream_work_stealing = false;
            config
        });
        let (options, folder) = (options.clone(), folder.to_path_buf());
        // One for all tasks of a session's kind: each has clients of object stores, a folder on disk and what it
        // read of files' footers. A task touches what its session may touch, and nothing that this executor may not.
        let shared: Mutex<BTreeMap<String, Arc<RuntimeEnv>>> = Mutex::default();
        let runtime: RuntimeProducer = Arc::new(move |config: &SessionConfig| {
            let theirs = config.options().extensions.get::<Travelling>().cloned().unwrap_or_default();
            let mut shared = shared.lock();
            if let Some(known) = shared.get(theirs.text()) {
                return Ok(Arc::clone(known));
            }
            // They change when a scheduler is started with others.
            if shared.len() >= KINDS {
                shared.clear();
            }
            let made = sinew::environment(&options, theirs.roots(&options)?)?;
            let made = made.with_temp_file_path(folder.clone()).build_arc()?;
            shared.insert(theirs.text().into(), Arc::clone(&made));
            Ok(made)
        });
        Ok(Self { query_bytes, store, config, runtime })
    }
}

#[cfg(test)]
mod tests {
    use ballista_core::extension::SessionConfigHelperExt;
    use datafusion::error::Result as DataFusionResult;

    use super::*;

    #[test]
    fn a_task_touches_what_its_session_may_touch() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let inside = place.path().join("inside");
        std::fs::create_dir(&inside)?;
        for file in [inside.join("x.csv"), place.path().join("y.csv")] {
            std::fs::write(file, "a\n1\n")?;
        }
        let resources = Resources::new(&SessionOptions::in_memory(), place.path())?;
        let mut session = SessionOptions::in_memory();
        let readable = |session: &SessionOptions| -> DataFusionResult<[bool; 2]> {
            // As Ballista carries the settings of a session to its tasks.
            let sent = SessionConfig::new_with_ballista().with_option_extension(session.clone()).to_key_value_pairs();
            let config = (resources.config)().update_from_key_value_pair(&sent);
            let store = (resources.runtime)(&config)?
                .object_store_registry
                .get_store(datafusion::execution::object_store::ObjectStoreUrl::local_filesystem().as_ref())?;
            let read = |path: &Path| {
                let path = object_store::path::Path::from_absolute_path(path).unwrap_or_default();
                futures::executor::block_on(object_store::ObjectStoreExt::head(&store, &path)).is_ok()
            };
            Ok([read(&inside.join("x.csv")), read(&place.path().join("y.csv"))])
        };
        assert_eq!(readable(&session)?, [true, true]);
        session.set("roots", "roots", &inside.display().to_string())?;
        assert_eq!(readable(&session)?, [true, false]);
        session.set("roots", "roots", "warehouse")?;
        assert_eq!(readable(&session)?, [false, false]);
        Ok(())
    }
}
