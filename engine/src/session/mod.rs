//! A session: SQL in, streams of rows out.

mod bound;
mod bounds;
mod context;
mod elsewhere;
mod execution;
mod home;
mod keeper;
mod models;
mod plain;
mod prepared;
mod resume;
mod share;
mod show;
mod split;
mod template;
mod train;
mod trainings;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::RwLock;
use sinew_ml::device::DeviceInfo;
use sinew_ml::runtime::TrainRuntime;
use sinew_sql::Statement;

pub(crate) use bound::{Bound, numbered};
pub(crate) use context::{CATALOG, SCHEMA};
pub use context::{Host, devices, environment};
pub(crate) use execution::Warnings;
pub use execution::{Execution, ExecutionKind, Statements};
pub(crate) use home::Home;
#[cfg(test)]
pub(crate) use plain::physical;
pub(crate) use prepared::{MOST_PARTS, Prepared, only_reads};
pub use resume::Interrupted;
pub(crate) use show::matches;
pub(crate) use split::{Offsets, tokens};
pub use split::{Piece, split};
pub(crate) use trainings::Viewer;

use crate::config::SessionOptions;
use crate::error::{Result, SinewError};
use crate::flight::{ConnectOptions, Remote};
use crate::frame;
use crate::plans::Over;
use crate::storage::Roots;
use crate::tables::StoredTables;
use crate::warehouse::models::unknown_model;
use crate::warehouse::{Location, MemoryCatalog, ModelCatalog, StoreCatalog};

/// SQL and machine learning, in this process or on a server. Cloning is cheap; clones share tables, models and
/// settings.
#[derive(Clone, Debug)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    context: SessionContext,
    options: SessionOptions,
    models: Arc<dyn ModelCatalog>,
    location: Location,
    tables: Arc<StoredTables>,
    resources: context::Resources,
    /// The server that runs the statements, where this process does not.
    remote: Option<Arc<Remote>>,
    /// Relations that its one statement sees.
    over: Option<Over>,
    /// The number of partitions that followed from the size of the cluster.
    followed: AtomicUsize,
    /// Whose trainings it sees.
    viewer: Arc<RwLock<Viewer>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("options", &self.options).field("models", &self.models).finish_non_exhaustive()
    }
}

impl Session {
    /// Opens an engine in this process. The warehouse is neither read nor created before it is needed.
    ///
    /// # Errors
    /// When an option cannot be used.
    pub fn embedded(options: SessionOptions) -> Result<Self> {
        Self::hosted(options, Host::embedded())
    }

    /// Whether results of queries may stay where they were made.
    pub(crate) fn places(&self) -> bool {
        self.inner.resources.place().is_some()
    }

    /// Opens a session whose plans run where `host` says.
    ///
    /// # Errors
    /// When an option cannot be used.
    pub fn hosted(options: SessionOptions, host: Host) -> Result<Self> {
        let resources = context::Resources::new(&options, host)?;
        let location = Location::open(options.warehouse(), resources.stores())?;
        location.check()?;
        let models: Arc<dyn ModelCatalog> = match options.warehouse() {
            "memory://" => Arc::new(MemoryCatalog::default()),
            _ => Arc::new(StoreCatalog::new(&location)),
        };
        Ok(Self::open(options, models, location, resources, None))
    }

    /// A session with temporary tables and settings of its own; it shares this one's warehouse, memory and
    /// resident rows.
    pub fn sibling(&self) -> Self {
        let inner = &self.inner;
        let (models, location) = (Arc::clone(&inner.models), inner.location.clone());
        let remote = inner.remote.as_ref().map(|remote| remote.sibling());
        Self::open(inner.options.clone(), models, location, inner.resources.clone(), remote)
    }

    /// As [`Self::sibling`], for statements that hold at most so many bytes of memory.
    ///
    /// # Errors
    /// When it cannot have an environment of its own.
    pub(crate) fn sibling_within(&self, bytes: usize) -> Result<Self> {
        if bytes as u64 >= self.options().memory_limit() {
            return Ok(self.sibling());
        }
        let inner = &self.inner;
        let (models, location) = (Arc::clone(&inner.models), inner.location.clone());
        Ok(Self::open(inner.options.clone(), models, location, inner.resources.within(bytes)?, None))
    }

    /// A session on the server at `url`, such as `grpc://127.0.0.1:50051`: statements and plans of DataFrames run
    /// there, and their rows come here as they would from [`Self::embedded`]. [`Self::models`] reaches nothing there
    /// in this version; use [`Self::sql`].
    ///
    /// # Errors
    /// When the address cannot be used, or no server answers there.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, ConnectOptions::default()).await
    }

    /// As [`Self::connect`], with what the server wants to know: a user or a token, and certificates.
    ///
    /// # Errors
    /// As for [`Self::connect`], and when the server does not let that user in.
    pub async fn connect_with(url: &str, login: ConnectOptions) -> Result<Self> {
        let remote = Remote::connect(url, login).await?;
        let options = SessionOptions::in_memory();
        let location = Location::parse(options.warehouse())?;
        let resources = context::Resources::new(&options, Host::embedded())?;
        Ok(Self::open(options, Arc::new(elsewhere::ElsewhereCatalog), location, resources, Some(remote)))
    }

    fn open(
        options: SessionOptions,
        models: Arc<dyn ModelCatalog>,
        location: Location,
        resources: context::Resources,
        remote: Option<Remote>,
    ) -> Self {
        let (remote, home) = (remote.map(Arc::new), Arc::new(Home::default()));
        let context = match &remote {
            None => resources.context(&options, Arc::clone(&home)),
            Some(remote) => frame::context(remote, Arc::clone(&home)),
        };
        let tables = Arc::new(StoredTables::new(&location));
        let followed = AtomicUsize::new(context.copied_config().target_partitions());
        let viewer = Arc::default();
        let inner =
            Inner { context, options, models, location, tables, resources, remote, over: None, followed, viewer };
        let session = Self { inner: Arc::new(inner) };
        home.bind(&session);
        session
    }

    /// This session for one statement that also sees relations, which come into what is returned beside it.
    pub(crate) fn over(&self) -> (Self, Over) {
        let relations = Over::new(self);
        let state = SessionStateBuilder::new_from_existing(self.context().state());
        let context = SessionContext::new_with_state(state.with_catalog_list(relations.catalogs()).build());
        let inner = &self.inner;
        let over = Inner {
            context,
            options: inner.options.clone(),
            models: Arc::clone(&inner.models),
            location: inner.location.clone(),
            tables: Arc::clone(&inner.tables),
            resources: inner.resources.clone(),
            remote: None,
            over: Some(relations.clone()),
            followed: AtomicUsize::new(inner.followed.load(Ordering::Relaxed)),
            viewer: Arc::clone(&inner.viewer),
        };
        (Self { inner: Arc::new(over) }, relations)
    }

    /// The relations, if this is a session of [`Self::over`]. A statement cannot be run again without them.
    pub(crate) fn relations(&self) -> Option<&Over> {
        self.inner.over.as_ref()
    }

    /// The server that runs the statements, where this process does not.
    pub(crate) fn remote(&self) -> Option<&Arc<Remote>> {
        self.inner.remote.as_ref()
    }

    /// The statements of a script, to be started one after another.
    pub fn sql(&self, script: &str) -> Statements {
        Statements::new(self.clone(), script)
    }

    /// The DataFusion context below. That of a connected session has the server's tables, and its plans run there.
    pub fn context(&self) -> &SessionContext {
        &self.inner.context
    }

    /// The models.
    pub fn models(&self) -> &Arc<dyn ModelCatalog> {
        &self.inner.models
    }

    /// The options this session was opened with.
    pub fn options(&self) -> &SessionOptions {
        &self.inner.options
    }

    /// Names of tables and models, for completion; what cannot be read is left out.
    pub async fn names(&self) -> Vec<String> {
        if self.inner.remote.is_some() {
            return elsewhere::names(self).await;
        }
        let mut names = self.inner.tables.names().await.unwrap_or_default();
        let catalog = self.inner.context.catalog(CATALOG).and_then(|c| c.schema(SCHEMA));
        names.extend(catalog.map(|schema| schema.table_names()).unwrap_or_default());
        names.extend(self.inner.models.list().await.unwrap_or_default().into_iter().map(|m| m.name));
        names.sort();
        names.dedup();
        names
    }

    /// The trainings in this session's warehouse whose process died, each as what `RETRAIN MODEL .. RESUME` would
    /// go on with; among them those that another process may still run.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn interrupted(&self) -> Result<Vec<Interrupted>> {
        resume::all(self).await
    }

    /// Says that the process is about to end: trainings that are dropped from now on were not cancelled, and keep
    /// their checkpoints. Those that run take one with their next step.
    pub fn keep_checkpoints(&self) {
        if let Some(runtime) = self.inner.context.state().config().get_extension::<TrainRuntime>() {
            runtime.end();
        }
        self.keepers().keep();
    }

    /// Waits until trainings that were cancelled have removed their checkpoints, at most so long.
    pub async fn settle(&self, most: std::time::Duration) {
        self.keepers().settle(most).await;
    }

    /// From now on this session runs the statements of a user, and sees the trainings that `viewer` does.
    pub(crate) fn act_for(&self, viewer: Viewer) {
        *self.inner.viewer.write() = viewer;
    }

    pub(crate) fn viewer(&self) -> Viewer {
        self.inner.viewer.read().clone()
    }

    pub(crate) fn trainings(&self) -> &Arc<trainings::Trainings> {
        self.inner.resources.trainings()
    }

    pub(crate) fn keepers(&self) -> &Arc<keeper::Keepers> {
        self.inner.resources.keepers()
    }

    /// What statements may touch. Plans that do not come as text are shown to [`Roots::admit_plan`]; those that
    /// [`plain::start`] starts are.
    pub(crate) fn roots(&self) -> &Arc<Roots> {
        self.inner.resources.roots()
    }

    pub(crate) fn location(&self) -> &Location {
        &self.inner.location
    }

    pub(crate) fn tables(&self) -> &StoredTables {
        &self.inner.tables
    }

    /// Parses, plans and starts one statement.
    ///
    /// # Errors
    /// When it does not parse or cannot be planned.
    pub async fn run(&self, piece: &Piece) -> Result<Execution> {
        if let Some(remote) = &self.inner.remote {
            return remote.run(piece).await;
        }
        guarded(async {
            match sinew_sql::parse(&piece.in_place())?.pop() {
                Some(statement) => self.start(statement).await,
                None => Ok(Execution::done()),
            }
        })
        .await
    }

    /// Parses one statement, and plans it if DataFusion does.
    pub(crate) async fn prepare(&self, piece: &Piece) -> Result<Prepared> {
        self.follow();
        guarded(Prepared::new(self, &piece.in_place())).await
    }

    /// Brings plans up to the size of the cluster.
    fn follow(&self) {
        self.inner.resources.follow(&self.inner.context, &self.inner.followed);
    }

    /// The devices of this process and of those that work for it, each with its process.
    async fn devices(&self) -> Vec<(String, DeviceInfo)> {
        let here = self.inner.resources.devices().list().await;
        let mut all: Vec<(String, DeviceInfo)> = here.into_iter().map(|device| ("here".into(), device)).collect();
        for (process, found) in self.inner.resources.runner().devices(self.inner.context.task_ctx()).await {
            let found = found.unwrap_or_else(|error| {
                let state = format!("unknown: {}", SinewError::from(error));
                vec![DeviceInfo { name: "unknown".into(), kind: "unknown".into(), state, ..DeviceInfo::default() }]
            });
            all.extend(found.into_iter().map(|device| (process.clone(), device)));
        }
        all
    }

    /// Starts a statement. What it takes to plan one lies on the heap: callers' stacks would not hold it.
    fn start(&self, statement: Statement) -> BoxFuture<'_, Result<Execution>> {
        Box::pin(self.started(statement))
    }

    async fn started(&self, statement: Statement) -> Result<Execution> {
        self.follow();
        let batch = match statement {
            Statement::Query(query) => return plain::run(self, &query).await,
            Statement::Train(train) => return train::run(self, &train).await,
            Statement::Retrain { name, resume } => return resume::retrain(self, &name, resume).await,
            Statement::ExplainTrain { analyze, train } => {
                let plan = train::explain(self, &train, analyze).await?;
                return plain::run_plan(self, plan, "").await;
            }
            Statement::DropModel { if_exists, name, version } => {
                return match self.models().remove(&name, version).await {
                    Err(SinewError::UnknownModel { .. } | SinewError::UnknownVersion { .. }) if if_exists => {
                        Ok(Execution::done())
                    }
                    other => other.map(|()| Execution::done()),
                };
            }
            Statement::NotYet(refused) => return Err(sinew_sql::SqlError::from(refused).into()),
            Statement::ShowModels { like } => show::models(&self.models().list().await?, like.as_deref())?,
            Statement::ShowVersions { name } => match self.models().find(&name).await? {
                Some(model) => show::versions(&model)?,
                None => return Err(unknown_model(&name, &self.models().list().await?)),
            },
            Statement::CancelTraining { run } => {
                self.trainings().cancel(&run, &self.viewer()).await?;
                return Ok(Execution::done());
            }
            Statement::ShowTraining => show::trainings(&self.trainings().seen_by(&self.viewer()))?,
            Statement::ShowModelFamilies => show::families()?,
            Statement::ShowDevices => show::devices(&self.devices().await)?,
            Statement::DescribeModel(reference) => {
                let (info, model) = models::load_model(self, &reference).await?;
                show::describe(&reference.name, &info, &model)?
            }
            Statement::ShowCreateModel(reference) => {
                show::create(&reference.name, &models::load_model(self, &reference).await?.1)?
            }
        };
        Ok(Execution::of_batch(batch))
    }
}

/// A panic of the engine below becomes an error of the statement.
pub(crate) async fn guarded<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => Err(SinewError::from_panic(&*panic)),
    }
}
