//! The DataFusion context below a session.

use std::sync::Arc;

use datafusion::catalog::{DynamicFileCatalog, MemoryCatalogProviderList, UrlTableFactory};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::config::SessionOptions;
use crate::error::Result;
use crate::tables::FileTables;

/// Name of the catalog that holds a session's tables.
pub const CATALOG: &str = "sinew";
/// Name of the schema that holds a session's tables.
pub const SCHEMA: &str = "public";

/// Consumers that an error of memory names.
const NAMED_CONSUMERS: usize = 5;

/// A context with these options; opens no file and no warehouse.
///
/// # Errors
/// When the folder for spilling cannot be used.
pub fn build(options: &SessionOptions) -> Result<SessionContext> {
    let mut config = SessionConfig::new()
        .with_information_schema(true)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_target_partitions(options.threads())
        .with_option_extension(options.clone());
    let execution = &mut config.options_mut().execution;
    // A plan that is executed again must read the same files again; a shared queue would be empty by then.
    execution.enable_file_stream_work_stealing = false;
    // Strings have the type they have in the file, the same for every format and on the wire.
    execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;

    let limit = usize::try_from(options.memory_limit()).unwrap_or(usize::MAX);
    let named = std::num::NonZeroUsize::new(NAMED_CONSUMERS).unwrap_or(std::num::NonZeroUsize::MIN);
    let pool = TrackConsumersPool::new(FairSpillPool::new(limit), named);
    let mut runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool));
    if let Some(folder) = options.spill_dir() {
        runtime = runtime.with_temp_file_path(folder);
    }

    let files = Arc::new(FileTables::default());
    let catalogs = Arc::new(MemoryCatalogProviderList::new());
    let catalogs = DynamicFileCatalog::new(catalogs, Arc::clone(&files) as Arc<dyn UrlTableFactory>);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime.build_arc()?)
        .with_default_features()
        .with_catalog_list(Arc::new(catalogs))
        .build();
    let context = SessionContext::new_with_state(state);
    files.bind(context.state_weak_ref());
    Ok(context)
}
