//! The DataFusion context below a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use datafusion::catalog::Session as CatalogSession;
use datafusion::catalog::{DynamicFileCatalog, MemoryCatalogProviderList, UrlTableFactory};
use datafusion::datasource::source_as_provider;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{SessionConfig, SessionContext};
use sinew_ml::device::{Device, Devices};
use sinew_ml::kernels::Cpu;
use sinew_ml::operators::{LiftScores, Local, ScorePlanner, TrainPlanner};
use sinew_ml::runtime::{StepRunner, TrainRuntime};
use sinew_ml::store::BlockStore;

use super::home::Home;
use super::keeper::Keepers;
use super::share::Share;
use super::trainings::Trainings;
use crate::config::SessionOptions;
use crate::error::Result;
use crate::flight::Place;
use crate::frame;
use crate::storage::{self, Roots};
use crate::tables::copy::CopyPlanner;
use crate::tables::write::WritePlanner;
use crate::tables::{FileTables, ManagedTable};

/// Name of the catalog that holds a session's tables.
pub const CATALOG: &str = "sinew";
/// Name of the schema that holds a session's tables.
pub const SCHEMA: &str = "public";

/// Consumers that an error of memory names.
const NAMED_CONSUMERS: usize = 5;

/// DataFusion's planner, and ours for trainings and writes.
#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &dyn CatalogSession,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        // Statements come to the table in another way; this is a DataFrame's.
        if let LogicalPlan::Dml(dml) = plan
            && source_as_provider(&dml.target)?.is::<ManagedTable>()
        {
            return frame::insert(dml, state);
        }
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![
            Arc::new(TrainPlanner),
            Arc::new(ScorePlanner { usual: usual_device }),
            Arc::new(WritePlanner),
            Arc::new(CopyPlanner),
        ]);
        planner.create_physical_plan(plan, state).await
    }
}

/// The device of statements that do not say, as `SET sinew.device` says now.
fn usual_device(config: &SessionConfig) -> sinew_ml::Result<Device> {
    let options = config.options().extensions.get::<SessionOptions>();
    options.map_or(Ok(Device::Auto), |options| Device::parse(options.device()))
}

/// What the process that hosts sessions brings: where their plans run.
#[derive(Clone, Debug)]
pub struct Host {
    /// The config that sessions begin with.
    pub config: SessionConfig,
    /// Where the steps of a training run.
    pub runner: Arc<dyn StepRunner>,
    /// Rules that look at every logical plan, before DataFusion's own.
    pub logical_rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    /// Rules that look at every physical plan once its joins are chosen, before sorts and exchanges are placed.
    pub join_rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    /// Rules that look at every physical plan, after DataFusion's own.
    pub rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
    /// Runs queries so that clients fetch the results where they were made.
    pub place: Option<Arc<dyn Place>>,
}

impl Host {
    /// Everything runs in this process.
    pub fn embedded() -> Self {
        Self {
            config: SessionConfig::new(),
            runner: Arc::new(Local),
            logical_rules: Vec::new(),
            join_rules: Vec::new(),
            rules: Vec::new(),
            place: None,
        }
    }
}

/// Where a process with these options finds object stores and puts what does not fit into memory. What it touches
/// lies in the roots of its options, and in those of `bound` too.
///
/// # Errors
/// When a root of the options is none.
pub fn environment(options: &SessionOptions, bound: Roots) -> Result<RuntimeEnvBuilder> {
    // A listing that is kept would not see the files that come and change during a session.
    let environment = RuntimeEnvBuilder::new()
        .with_object_list_cache_limit(0)
        .with_object_store_registry(storage::confined(options, [Roots::of(options)?, bound])?);
    Ok(match options.spill_dir() {
        Some(folder) => environment.with_temp_file_path(folder),
        None => environment,
    })
}

/// The devices of a process with these options; none is opened yet.
#[cfg(feature = "gpu")]
pub fn devices(options: &SessionOptions) -> Devices {
    Devices::with_gpus(Arc::new(Cpu::new()), options.gpu())
}

/// The devices of a process with these options: this program was built without GPU support.
#[cfg(not(feature = "gpu"))]
pub fn devices(_: &SessionOptions) -> Devices {
    Devices::only(Arc::new(Cpu::new()))
}

/// What all sessions of a process share: memory, spill files, object stores, resident rows.
#[derive(Clone, Debug)]
pub struct Resources {
    host: Host,
    runtime: Arc<RuntimeEnv>,
    training: Arc<TrainRuntime>,
    keepers: Arc<Keepers>,
    trainings: Arc<Trainings>,
    roots: Arc<Roots>,
}

impl Resources {
    /// What runs queries whose results stay where they were made, when there is something to serve them.
    pub fn place(&self) -> Option<&Arc<dyn Place>> {
        self.host.place.as_ref().filter(|place| place.ready())
    }

    /// The resources of a process with these options; opens no file and no warehouse.
    ///
    /// # Errors
    /// When the folder for spilling cannot be used.
    pub fn new(options: &SessionOptions, host: Host) -> Result<Self> {
        let limit = usize::try_from(options.memory_limit()).unwrap_or(usize::MAX);
        let named = std::num::NonZeroUsize::new(NAMED_CONSUMERS).unwrap_or(std::num::NonZeroUsize::MIN);
        let pool = TrackConsumersPool::new(FairSpillPool::new(limit), named);
        let runtime = environment(options, Roots::default())?.with_memory_pool(Arc::new(pool));
        let store = Arc::new(BlockStore::default());
        store.keep(options.cache_limit());
        let devices = Arc::new(devices(options));
        let training = Arc::new(TrainRuntime::with_devices(devices, store, Arc::clone(&host.runner)));
        let (roots, keepers, trainings) = (Arc::new(Roots::of(options)?), Arc::default(), Arc::default());
        Ok(Self { host, runtime: runtime.build_arc()?, training, keepers, trainings, roots })
    }

    /// The same for one session, whose statements hold at most so many bytes.
    ///
    /// # Errors
    /// When the environment cannot be made anew.
    pub fn within(&self, bytes: usize) -> Result<Self> {
        let pool = Share::of(&self.runtime.memory_pool, bytes);
        let runtime = RuntimeEnvBuilder::from_runtime_env(&self.runtime).with_memory_pool(Arc::new(pool));
        Ok(Self { runtime: runtime.build_arc()?, ..self.clone() })
    }

    /// What statements may touch.
    pub fn roots(&self) -> &Arc<Roots> {
        &self.roots
    }

    /// Plans of a cluster have as many partitions as it has cores now, unless the session has SET another number
    /// than it `followed` last.
    pub fn follow(&self, context: &SessionContext, followed: &AtomicUsize) {
        let Some(slots) = self.host.runner.slots() else { return };
        let state = context.state_ref();
        let mut state = state.write();
        let partitions = &mut state.config_mut().options_mut().execution.target_partitions;
        if *partitions == followed.load(Ordering::Relaxed) {
            *partitions = slots.max(1);
            followed.store(*partitions, Ordering::Relaxed);
        }
    }

    /// The devices of this process.
    pub fn devices(&self) -> &Devices {
        &self.training.devices
    }

    /// What runs the steps of trainings.
    pub fn runner(&self) -> &Arc<dyn StepRunner> {
        &self.host.runner
    }

    /// Those who keep checkpoints.
    pub fn keepers(&self) -> &Arc<Keepers> {
        &self.keepers
    }

    /// The trainings that run.
    pub fn trainings(&self) -> &Arc<Trainings> {
        &self.trainings
    }

    /// The object stores.
    pub fn stores(&self) -> &dyn ObjectStoreRegistry {
        self.runtime.object_store_registry.as_ref()
    }

    /// A context with tables and settings of its own.
    pub fn context(&self, options: &SessionOptions, home: Arc<Home>) -> SessionContext {
        let mut config = self
            .host
            .config
            .clone()
            .with_information_schema(true)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_target_partitions(options.threads())
            .with_option_extension(options.clone())
            .with_extension(home);
        let execution = &mut config.options_mut().execution;
        // A plan that is executed again must read the same files again; a shared queue would be empty by then.
        execution.enable_file_stream_work_stealing = false;
        // Strings have the type they have in the file, the same for every format and on the wire.
        execution.parquet.schema_force_view_types = false;
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;

        let files = Arc::new(FileTables::default());
        let catalogs = Arc::new(MemoryCatalogProviderList::new());
        let catalogs = DynamicFileCatalog::new(catalogs, Arc::clone(&files) as Arc<dyn UrlTableFactory>);
        let mut state = SessionStateBuilder::new()
            .with_config(config.with_extension(Arc::clone(&self.training)))
            .with_query_planner(Arc::new(Planner))
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_default_features()
            .with_catalog_list(Arc::new(catalogs));
        let mut logical = self.host.logical_rules.clone();
        logical.extend(Optimizer::default().rules);
        logical.push(Arc::new(LiftScores));
        state = state.with_optimizer_rules(logical);
        let mut rules = PhysicalOptimizer::default().rules;
        let joined = rules.iter().position(|rule| rule.name() == "join_selection").map_or(0, |at| at + 1);
        rules.splice(joined..joined, self.host.join_rules.iter().cloned());
        rules.extend(self.host.rules.iter().cloned());
        state = state.with_physical_optimizer_rules(rules);
        let context = SessionContext::new_with_state(state.build());
        files.bind(context.state_weak_ref());
        context
    }
}
