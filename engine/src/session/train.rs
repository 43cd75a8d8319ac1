//! A training: planned, run, and published when its last row comes.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::{filter_record_batch, is_null};
use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use sinew_ml::columns::Columns;
use sinew_ml::device::Device;
use sinew_ml::model::Model;
use sinew_ml::operators::TrainNode;
use sinew_ml::runtime::TrainRuntime;
use sinew_ml::training::{TrainSpec, report};
use sinew_sql::plan::WEIGHT_INPUT;
use sinew_sql::{PlannedTrain, Spelling, TrainStatement, plan_train};

use super::Session;
use super::execution::{Execution, ExecutionKind, Warnings};
use super::keeper::{Keeper, Place};
use super::models::load_models;
use super::resume::{self, Resumed};
use super::trainings::Running;
use crate::config::SessionOptions;
use crate::error::{Result, SinewError};
use crate::run::new_run;
use crate::warehouse::runs::RunFolder;
use crate::warehouse::{Artifact, PublishMode};

/// Plans and starts a training. Its rows come while it runs; the last one after the model is published.
pub async fn run(session: &Session, train: &TrainStatement) -> Result<Execution> {
    let train = &crate::plans::as_sql(session, train).await;
    let resumed = if train.resume { resume::same(session, train).await? } else { None };
    if train.background {
        allowed(session)?;
    }
    let execution = go_on(session, train, resumed).await?;
    match execution.kind() {
        ExecutionKind::Training if train.background => in_background(train, execution),
        _ => Ok(execution),
    }
}

/// Trainings of one user that may go on by themselves.
const MOST_BACKGROUND: usize = 8;

fn allowed(session: &Session) -> Result<()> {
    let viewer = session.viewer();
    let own = session.trainings().seen_by(&viewer).iter().filter(|training| training.user == viewer.user).count();
    if own < MOST_BACKGROUND {
        return Ok(());
    }
    Err(SinewError::TooMany {
        what: format!("{MOST_BACKGROUND} trainings of one user, for one more that goes on by itself,"),
        hint: "wait for one (SHOW TRAINING), or stop one (CANCEL TRAINING 'run')".into(),
    })
}

/// What a training that goes on by itself returns at once.
fn background_schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![text("model"), text("run"), text("state")]))
}

/// Leaves a training to itself. It ends with the process, if nothing else ends it.
fn in_background(train: &TrainStatement, mut rows: Execution) -> Result<Execution> {
    let (model, run) = (train.name.clone(), rows.run().unwrap_or_default().to_string());
    let columns = [model.clone(), run.clone(), "running".into()];
    let columns = columns.map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef);
    tokio::spawn(async move {
        while let Some(batch) = rows.next().await {
            if let Err(error) = batch {
                log::warn!("the training {run} of '{model}', which went on by itself, failed: {error}");
                return;
            }
        }
        for warning in rows.warnings() {
            log::warn!("the training {run} of '{model}', which went on by itself: {warning}");
        }
        log::info!("the training {run} of '{model}', which went on by itself, has ended");
    });
    let started = RecordBatch::try_new(background_schema(), columns.to_vec()).map_err(DataFusionError::from)?;
    Ok(Execution::of_batch(started))
}

/// As [`run`], from where an earlier run was interrupted, if it was.
pub async fn go_on(session: &Session, train: &TrainStatement, resumed: Option<Resumed>) -> Result<Execution> {
    let taken = resumed.as_ref().map(|resumed| resumed.place.folder.clone());
    let started = start(session, train, resumed).await;
    let runs = started.as_ref().is_ok_and(|execution| execution.kind() == ExecutionKind::Training);
    if let (Some(folder), false) = (taken, runs) {
        folder.release().await;
    }
    started
}

async fn start(session: &Session, train: &TrainStatement, resumed: Option<Resumed>) -> Result<Execution> {
    let mut mode = PublishMode::default();
    if let Spelling::Create { or_replace, if_not_exists } = train.spelling
        && !or_replace
    {
        mode.must_be_new = true;
        // Known before the first row is read, and checked once more when the model is published.
        if session.models().find(&train.name).await?.is_some() {
            if if_not_exists {
                return Ok(Execution::done());
            }
            return Err(SinewError::ModelExists { name: train.name.clone() });
        }
    }
    let (way, place) = way(session, train, resumed);
    let run = way.run.clone();
    let plan = plan(session, train, way).await?;
    let steps = steps(&plan);
    keep_rows(session);
    let frame = session.context().execute_logical_plan(plan).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    let rows = Execution::of_plan(Arc::clone(&plan), execute_stream(plan, task)?);
    let keeper = place.map(|place| Keeper::start(session, place));
    let running = session.trainings().begin(&run, &train.name, &train.text, session.viewer());
    Ok(Report::new(session, &train.name, mode, rows, keeper, running)?.execution()?.with_steps(steps).with_run(run))
}

/// The most iterations that a training makes, as its options say.
fn steps(plan: &LogicalPlan) -> Option<u64> {
    let LogicalPlan::Extension(Extension { node }) = plan else { return None };
    let most = node.as_any().downcast_ref::<TrainNode>()?.spec.params.int("max_iter")?;
    u64::try_from(most).ok()
}

/// What a run has of its own, whatever its statement says.
#[derive(Default)]
struct Way {
    run: String,
    checkpoint_interval: Option<u64>,
    resume: Option<Vec<u8>>,
}

/// How a training runs, and where its checkpoints go: nowhere in a warehouse that ends with the process, nor where
/// its statement could not be run again.
fn way(session: &Session, train: &TrainStatement, resumed: Option<Resumed>) -> (Way, Option<Place>) {
    let every = checkpoint_interval(session);
    if let Some(Resumed { attempt, checkpoint, place }) = resumed {
        return (Way { run: attempt, checkpoint_interval: Some(every), resume: Some(checkpoint) }, Some(place));
    }
    let run = new_run();
    if session.options().warehouse().starts_with("memory:") || session.relations().is_some() {
        return (Way { run, ..Way::default() }, None);
    }
    let (model, statement) = (train.name.clone(), train.text.clone());
    let place = Place { folder: RunFolder::new(session.location(), &run), newest: None, model, statement, every };
    (Way { run, checkpoint_interval: Some(every), resume: None }, Some(place))
}

/// Seconds between two checkpoints, as `SET sinew.checkpoint_interval` says now.
pub fn checkpoint_interval(session: &Session) -> u64 {
    let state = session.context().state();
    let options = state.config_options().extensions.get::<SessionOptions>();
    options.unwrap_or(session.options()).checkpoint_interval()
}

/// The rows of a training on their way to the reader: checkpoints and the model stay here.
struct Report {
    session: Session,
    model: String,
    mode: PublishMode,
    rows: Execution,
    keeper: Option<Keeper>,
    /// Its line in the list of trainings, until it has ended.
    running: Option<Running>,
    warnings: Warnings,
    artifact: usize,
    checkpoint: usize,
    shown: Vec<usize>,
}

impl Report {
    fn new(
        session: &Session,
        model: &str,
        mode: PublishMode,
        rows: Execution,
        keeper: Option<Keeper>,
        running: Running,
    ) -> Result<Self> {
        let schema = rows.schema();
        let column = |name| schema.index_of(name).map_err(|e| SinewError::Internal(e.to_string()));
        let (artifact, checkpoint) = (column(report::ARTIFACT)?, column(report::CHECKPOINT)?);
        let shown = (0..schema.fields().len()).filter(|i| *i != artifact && *i != checkpoint).collect();
        let (session, model, running) = (session.clone(), model.into(), Some(running));
        let warnings = Warnings::default();
        Ok(Self { session, model, mode, rows, keeper, running, warnings, artifact, checkpoint, shown })
    }

    fn execution(self) -> Result<Execution> {
        let schema = self.rows.schema().project(&self.shown).map_err(|e| SinewError::Internal(e.to_string()))?;
        let warnings = self.warnings.clone();
        let rows = futures::stream::unfold(self, |mut report| async move {
            let item = report.next().await?;
            Some((item, report))
        });
        Ok(Execution::new(ExecutionKind::Training, Arc::new(schema), rows.boxed()).with_warnings(warnings))
    }

    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            let next = match &self.running {
                Some(running) => tokio::select! {
                    biased;
                    () = running.training().cancelled() => return Some(Err(self.cancel())),
                    next = self.rows.next() => next,
                },
                None => self.rows.next().await,
            };
            let batch = match next? {
                Ok(batch) => self.pass(&batch).await,
                Err(error) => Err(error),
            };
            match batch {
                Ok(batch) if batch.num_rows() == 0 => {}
                Ok(batch) => return Some(Ok(batch)),
                Err(error) => {
                    if let Some(keeper) = self.keeper.take() {
                        keeper.failed().await;
                    }
                    return Some(Err(error));
                }
            }
        }
    }

    /// Ends the training as if its reader had gone: nothing is published, and no checkpoint stays.
    fn cancel(&mut self) -> SinewError {
        self.rows = Execution::done();
        (self.keeper, self.running) = (None, None);
        SinewError::Cancelled
    }

    /// The rows that the reader gets of these; the last names the version, once the model is published.
    async fn pass(&mut self, batch: &RecordBatch) -> Result<RecordBatch> {
        let checkpoints = binary(batch, self.checkpoint)?;
        let mut reader = batch.clone();
        if checkpoints.null_count() < checkpoints.len() {
            if let (Some(keeper), Some(newest)) = (&self.keeper, checkpoints.iter().flatten().next_back()) {
                keeper.offer(newest.to_vec());
            }
            let rows = is_null(checkpoints).and_then(|rows| filter_record_batch(batch, &rows));
            reader = rows.map_err(|e| SinewError::Internal(e.to_string()))?;
        }
        if let Some(running) = &self.running {
            running.training().saw(&reader);
        }
        let version = match binary(&reader, self.artifact)?.iter().flatten().next_back() {
            Some(bytes) => {
                let model = Model::from_bytes(bytes)?;
                let version = publish(&self.session, &self.model, &model, self.mode).await?;
                self.warnings.set(model.manifest.warnings);
                Some(version)
            }
            None => None,
        };
        if version.is_some() {
            self.running = None;
            if let Some(keeper) = self.keeper.take() {
                keeper.done().await;
            }
        }
        finish(&reader, &self.shown, version)
    }
}

/// How much memory rows may take after their training, as `SET sinew.cache_limit` says now.
fn keep_rows(session: &Session) {
    let state = session.context().state();
    let options = state.config_options().extensions.get::<SessionOptions>();
    if let (Some(options), Some(runtime)) = (options, state.config().get_extension::<TrainRuntime>()) {
        runtime.store.keep(options.cache_limit());
    }
}

/// The plan of `EXPLAIN [ANALYZE] TRAIN MODEL`. With ANALYZE the training runs, and nothing is published.
pub async fn explain(session: &Session, train: &TrainStatement, analyze: bool) -> Result<LogicalPlan> {
    let plan = plan(session, train, Way { run: new_run(), ..Way::default() }).await?;
    Ok(LogicalPlanBuilder::from(plan).explain(false, analyze)?.build()?)
}

/// The columns of the report of a training, once it is known that it can be planned.
pub async fn schema(session: &Session, train: &TrainStatement) -> Result<SchemaRef> {
    plan(session, train, Way::default()).await?;
    Ok(if train.background { background_schema() } else { report_schema() })
}

/// The columns of the report of every training.
pub fn report_schema() -> SchemaRef {
    let hidden = [report::ARTIFACT, report::CHECKPOINT];
    let all = report::schema();
    let fields = all.fields().iter().filter(|field| !hidden.contains(&field.name().as_str()));
    Arc::new(Schema::new(fields.cloned().collect::<Fields>()))
}

/// The parameters of a training's query, with their types where it tells.
pub async fn parameters(session: &Session, train: &TrainStatement) -> Result<HashMap<String, Option<DataType>>> {
    Ok(look_up(session, train).await?.query.get_parameter_types()?)
}

async fn look_up(session: &Session, train: &TrainStatement) -> Result<PlannedTrain> {
    let state = session.context().state();
    let references = state.resolve_table_references(&train.query.statement)?;
    session.tables().refresh(session.context(), &references).await?;
    let models = load_models(session, &train.query.models).await?;
    Ok(plan_train(&state, train, models).await?)
}

async fn plan(session: &Session, train: &TrainStatement, way: Way) -> Result<LogicalPlan> {
    let planned = look_up(session, train).await?;
    session.roots().admit_plan(&planned.query)?;
    session.tables().refresh_scans(&planned.query, &[]).await?;
    let spec = spec(session, &planned, way)?;
    let node = TrainNode::new(Arc::new(spec), planned.query)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// The device of trainings that do not say, as `SET sinew.device` says now.
fn usual_device(session: &Session) -> Result<Device> {
    let state = session.context().state();
    let options = state.config_options().extensions.get::<SessionOptions>();
    Ok(Device::parse(options.unwrap_or(session.options()).device())?)
}

fn spec(session: &Session, planned: &PlannedTrain, way: Way) -> Result<TrainSpec> {
    let device = planned.device.clone().map_or_else(|| usual_device(session), Ok)?;
    let columns = Columns::assign(
        planned.query.schema().as_arrow(),
        planned.family.task(),
        planned.labels.first().map(String::as_str),
        planned.weight.as_deref(),
        &planned.split,
    )?;
    Ok(TrainSpec {
        model: planned.name.clone(),
        run: way.run,
        statement: planned.statement.clone(),
        query: planned.query_text.clone(),
        family: planned.family.name().into(),
        params: planned.params.clone(),
        columns,
        weight_column: planned.weight.clone().filter(|weight| weight != WEIGHT_INPUT),
        split: planned.split.clone(),
        engine_version: env!("CARGO_PKG_VERSION").into(),
        volatile: is_volatile(&planned.query)?,
        checkpoint_interval: way.checkpoint_interval,
        device,
        resume: way.resume,
    })
}

/// Whether reading the query again may give other rows: a volatile function, or a LIMIT that no order decides.
fn is_volatile(query: &LogicalPlan) -> Result<bool> {
    let mut volatile = false;
    query.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            volatile |= !is_ordered(&limit.input);
        }
        node.apply_expressions(|expr| {
            volatile |= expr.is_volatile();
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(volatile)
}

fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(node) => is_ordered(&node.input),
        LogicalPlan::SubqueryAlias(node) => is_ordered(&node.input),
        _ => false,
    }
}

fn binary(batch: &RecordBatch, column: usize) -> Result<&BinaryArray> {
    let column = batch.column(column);
    column
        .as_binary_opt::<i32>()
        .ok_or_else(|| SinewError::Internal(format!("bytes of a training have type {}", column.data_type())))
}

async fn publish(session: &Session, name: &str, model: &Model, mode: PublishMode) -> Result<u64> {
    let (manifest, weights) = model.to_files()?;
    Ok(session.models().publish(name, &Artifact { manifest, weights }, mode).await?.version)
}

/// The batch without the artifact; its last row names the version, if one was published.
fn finish(batch: &RecordBatch, kept: &[usize], version: Option<u64>) -> Result<RecordBatch> {
    let failed = |e: datafusion::arrow::error::ArrowError| SinewError::Internal(e.to_string());
    let batch = batch.project(kept).map_err(failed)?;
    let (Some(version), Ok(at)) = (version, batch.schema().index_of("version")) else { return Ok(batch) };
    let last = batch.num_rows().saturating_sub(1);
    let versions = (0..batch.num_rows()).map(|row| (row == last).then_some(version as i64));
    let mut columns = batch.columns().to_vec();
    columns[at] = Arc::new(versions.collect::<Int64Array>());
    RecordBatch::try_new(batch.schema(), columns).map_err(failed)
}
