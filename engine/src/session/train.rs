//! A training: planned, run, and published when its last row comes.

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{Fields, Schema, SchemaRef};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use sinew_ml::columns::Columns;
use sinew_ml::model::Model;
use sinew_ml::operators::TrainNode;
use sinew_ml::runtime::TrainRuntime;
use sinew_ml::training::{TrainSpec, report};
use sinew_sql::plan::WEIGHT_INPUT;
use sinew_sql::{PlannedTrain, Spelling, TrainStatement, plan_train};

use super::Session;
use super::execution::{Execution, ExecutionKind};
use super::models::load_models;
use crate::config::SessionOptions;
use crate::error::{Result, SinewError};
use crate::run::new_run;
use crate::warehouse::{Artifact, PublishMode};

/// Plans and starts a training. Its rows come while it runs; the last one after the model is published.
pub async fn run(session: &Session, train: &TrainStatement) -> Result<Execution> {
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
    let plan = plan(session, train).await?;
    keep_rows(session);
    let frame = session.context().execute_logical_plan(plan).await?;
    let task = Arc::new(frame.task_ctx());
    let plan = frame.create_physical_plan().await?;
    let rows = Execution::of_plan(Arc::clone(&plan), execute_stream(plan, task)?);
    let schema = rows.schema();
    let artifact = schema.index_of(report::ARTIFACT).map_err(|e| SinewError::Internal(e.to_string()))?;
    let kept: Vec<usize> = (0..schema.fields().len()).filter(|i| *i != artifact).collect();
    let shown = schema.project(&kept).map_err(|e| SinewError::Internal(e.to_string()))?;
    let (session, name) = (session.clone(), train.name.clone());
    let rows = rows.then(move |batch| {
        let (session, name, kept) = (session.clone(), name.clone(), kept.clone());
        async move {
            let batch = batch?;
            let version = match last_artifact(&batch, artifact)? {
                Some(bytes) => Some(publish(&session, &name, bytes, mode).await?),
                None => None,
            };
            finish(&batch, &kept, version)
        }
    });
    Ok(Execution::new(ExecutionKind::Training, Arc::new(shown), rows.boxed()))
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
    let plan = plan(session, train).await?;
    Ok(LogicalPlanBuilder::from(plan).explain(false, analyze)?.build()?)
}

/// The columns of the report of a training.
pub async fn schema(session: &Session, train: &TrainStatement) -> Result<SchemaRef> {
    let plan = plan(session, train).await?;
    let fields = plan.schema().fields().iter().filter(|field| field.name() != report::ARTIFACT);
    Ok(Arc::new(Schema::new(fields.cloned().collect::<Fields>())))
}

async fn plan(session: &Session, train: &TrainStatement) -> Result<LogicalPlan> {
    let state = session.context().state();
    let references = state.resolve_table_references(&train.query.statement)?;
    session.tables().refresh(session.context(), &references).await?;
    let models = load_models(session, &train.query.models).await?;
    let planned = plan_train(&state, train, models).await?;
    session.tables().refresh_scans(&planned.query, &[]).await?;
    let spec = spec(&planned)?;
    let node = TrainNode::new(Arc::new(spec), planned.query)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn spec(planned: &PlannedTrain) -> Result<TrainSpec> {
    let columns = Columns::assign(
        planned.query.schema().as_arrow(),
        planned.family.task(),
        planned.labels.first().map(String::as_str),
        planned.weight.as_deref(),
        &planned.split,
    )?;
    Ok(TrainSpec {
        model: planned.name.clone(),
        run: new_run(),
        statement: planned.statement.clone(),
        query: planned.query_text.clone(),
        family: planned.family.name().into(),
        params: planned.params.clone(),
        columns,
        weight_column: planned.weight.clone().filter(|weight| weight != WEIGHT_INPUT),
        split: planned.split.clone(),
        engine_version: env!("CARGO_PKG_VERSION").into(),
        volatile: is_volatile(&planned.query)?,
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

fn last_artifact(batch: &RecordBatch, column: usize) -> Result<Option<&[u8]>> {
    let column = batch.column(column);
    let column = column
        .as_binary_opt::<i32>()
        .ok_or_else(|| SinewError::Internal(format!("an artifact has type {}", column.data_type())))?;
    Ok((0..column.len()).rev().find(|row| column.is_valid(*row)).map(|row| column.value(row)))
}

async fn publish(session: &Session, name: &str, bytes: &[u8], mode: PublishMode) -> Result<u64> {
    let (manifest, weights) = Model::from_bytes(bytes)?.to_files()?;
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
