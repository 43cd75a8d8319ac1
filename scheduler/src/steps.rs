//! Steps of trainings on the cluster: a step is one job of a single stage, with one partition for each core.
//!
//! ```text
//!  GradientExec <- FeatureCacheExec <- query          what the loop asks for
//!  GradientExec <- FeatureCacheExec <- query over     partition p: the units of share p, on the executor
//!                                      units          that holds them
//! ```
//! A step is idempotent: its result is an exact sum over units that every result names. It is run again when
//! it took too long or does not cover every unit once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use parking_lot::Mutex;
use serde::Serialize;
use sinew::tables::{Materialized, put_in_run, remove_in_run, remove_run};
use sinew::warehouse::Location;
use sinew_ml::device::DeviceInfo;
use sinew_ml::operators::parcel::{Address, digest, encode};
use sinew_ml::operators::{
    FeatureCacheExec, GradientExec, MergeExec, Parcel, Pass, Placement, ShardExec, Stage, covered, units,
};
use sinew_ml::prepare::Frozen;
use sinew_ml::runtime::StepRunner;

use crate::assign::{Share, Sized, assign};
use crate::devices;
use crate::failure;
use crate::jobs::{Ended, Finished, Job, Jobs};
use crate::metrics::Metrics;
use crate::wire;

/// Parameters of at most so many bytes travel inside the plan.
const INLINE_BYTES: usize = 256 << 10;
/// How often a step is run when it does not come to a result.
const ATTEMPTS: usize = 5;
/// A step is late after so long, or so many times what the longest one before took.
const PATIENCE: Duration = Duration::from_secs(60);
const PATIENCE_FACTOR: u32 = 20;

/// Runs steps as jobs.
pub struct Cluster {
    jobs: Arc<Jobs>,
    warehouse: Location,
    /// Results of a step that are larger together are merged on executors first.
    merge_bytes: u64,
    runs: Mutex<HashMap<String, Arc<Run>>>,
    count: AtomicU64,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cluster({} runs)", self.runs.lock().len())
    }
}

/// One training.
struct Run {
    name: String,
    /// Held while a step runs: the steps of a run come one after another.
    state: tokio::sync::Mutex<State>,
}

/// A query, its units, and their names and sizes.
type Bound = (Arc<dyn ExecutionPlan>, Vec<PartitionedFile>, Vec<Sized>);

#[derive(Default)]
struct State {
    /// The query bound to units, and the units; settled by the first step.
    bound: Option<Bound>,
    /// Who holds which unit.
    holders: HashMap<u64, String>,
    /// What the longest step took.
    longest: Duration,
    /// Whether every unit was read once.
    loaded: bool,
    /// How often a step was late since the last that was not.
    late: u32,
    /// How rows are prepared, where that is large.
    frozen: Option<(Arc<Frozen>, Parcel<Frozen>)>,
    /// Bytes of the largest result of a partition so far.
    partial_bytes: u64,
    /// Whether something was stored in the warehouse.
    stored: bool,
}

impl Cluster {
    /// Steps as jobs of `jobs`; what is too large for a plan goes to the warehouse.
    pub fn new(jobs: Arc<Jobs>, warehouse: Location, merge_bytes: u64, metrics: Arc<Metrics>) -> Self {
        Self { jobs, warehouse, merge_bytes, runs: Mutex::default(), count: AtomicU64::new(0), metrics }
    }

    fn run_of(&self, key: &str) -> Arc<Run> {
        let mut runs = self.runs.lock();
        let run = || {
            self.metrics.run_begins();
            Arc::new(Run { name: key.replace('/', "-"), state: tokio::sync::Mutex::default() })
        };
        Arc::clone(runs.entry(key.to_string()).or_insert_with(run))
    }

    /// The query of a run as units: its own files, or files that its rows are written to first.
    async fn bind(
        &self,
        run: &Run,
        state: &mut State,
        cache: &FeatureCacheExec,
        context: &Arc<TaskContext>,
    ) -> Result<()> {
        if state.bound.is_some() {
            return Ok(());
        }
        self.jobs.wait_for_executors().await?;
        let slots = self.jobs.members.slots().max(1);
        let mut query = Arc::clone(cache.input());
        // Values of a volatile query would be others when a unit is read again.
        let alone = !cache.volatile() && cache.shards().is_none() && wire::travels(&query);
        let mut files = alone.then(|| units::of(&query, slots)).flatten();
        if files.is_none() {
            let mut rows = Materialized::new(&self.warehouse, &run.name, query.schema());
            if let Some(shards) = cache.shards() {
                (query, rows) = (ShardExec::arrange(query, shards)?, rows.whole());
            }
            state.stored = true;
            let written = self.materialize(&run.name, rows.write(query), context).await?;
            query = rows.read(&written).await?;
            files = match cache.shards() {
                // A shard lies whole in one file, and so must a unit.
                Some(_) => units::files(&query),
                None => units::of(&query, slots),
            };
        }
        let files = files.ok_or_else(|| DataFusionError::Internal("rows that were written have no units".into()))?;
        let store = units::scan(&query).map_or("", |scan| scan.object_store_url.as_str());
        let sizes = files.iter().map(|file| {
            let id = units::id(&units::name(store, file));
            Sized { id, bytes: units::bytes(file) }
        });
        let sizes = sizes.collect();
        state.bound = Some((query, files, sizes));
        Ok(())
    }

    /// Writes the rows of a query that cannot be read in parts, on the executors if it can travel there.
    async fn materialize(
        &self,
        run: &str,
        plan: Arc<dyn ExecutionPlan>,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<RecordBatch>> {
        if !wire::travels(&plan) {
            return datafusion::physical_plan::collect(plan, Arc::clone(context)).await;
        }
        let name = format!("rows of {run}");
        for _ in 0..ATTEMPTS {
            let (plan, context) = (Arc::clone(&plan), Arc::clone(context));
            let job = Job { name: name.clone(), plan, context, deadline: None, compressed: false };
            let Ended::Well(finished) = self.jobs.run(job).await? else {
                return Err(failure::cluster("writing rows has no deadline", "this is a defect"));
            };
            // An executor may be lost with the list of files that it wrote.
            match collect(&finished).await {
                Ok(rows) => return Ok(rows.into_iter().flatten().collect()),
                Err(error) => log::warn!("{name} are written again: {error}"),
            }
        }
        Err(failure::cluster(
            format!("the rows of the training's query were lost in {ATTEMPTS} attempts to write them"),
            "look at the executors' logs, and run the statement again",
        ))
    }

    /// A value that is too large for a plan, as an address.
    async fn parcel<T: Serialize>(
        &self,
        run: &Run,
        state: &mut State,
        value: &Arc<T>,
        kind: &str,
    ) -> Result<Parcel<T>> {
        let bytes = encode(value.as_ref())?;
        if bytes.len() <= INLINE_BYTES {
            return Ok(Parcel::Here(Arc::clone(value)));
        }
        let digest = digest(&bytes);
        let name = format!("{kind}-{digest:032x}");
        state.stored = true;
        let path = put_in_run(&self.warehouse, &run.name, &name, bytes).await?;
        let store = self.warehouse.url.as_str().to_string();
        Ok(Parcel::There(Address { store, path: path.to_string(), digest }))
    }

    /// The stage of a step, its frozen part by address where it is large.
    async fn stage(&self, run: &Run, state: &mut State, stage: &Stage) -> Result<Stage> {
        let (Stage::Prepared(frozen) | Stage::Sharded(frozen, _) | Stage::Sampled(frozen, _)) = stage else {
            return Ok(Stage::Raw);
        };
        let Some(value) = frozen.here() else { return Ok(stage.clone()) };
        let known =
            state.frozen.as_ref().filter(|(known, _)| Arc::ptr_eq(known, value)).map(|(_, parcel)| parcel.clone());
        let parcel = match known {
            Some(parcel) => parcel,
            None => {
                let parcel = self.parcel(run, state, value, "preparation").await?;
                state.frozen = Some((Arc::clone(value), parcel.clone()));
                parcel
            }
        };
        Ok(match stage {
            Stage::Sampled(_, sample) => Stage::Sampled(parcel, *sample),
            Stage::Sharded(_, shards) => Stage::Sharded(parcel, *shards),
            _ => Stage::Prepared(parcel),
        })
    }

    /// One attempt at a step; `None` if it came to nothing and may be tried again.
    async fn attempt(
        &self,
        run: &Run,
        state: &mut State,
        gradient: &GradientExec,
        step: (&FeatureCacheExec, &Stage, bool),
        context: &Arc<TaskContext>,
    ) -> Result<Option<Vec<RecordBatch>>> {
        self.jobs.wait_for_executors().await?;
        let (cache, stage, fold) = step;
        let Some((query, files, sizes)) = &state.bound else {
            return Err(DataFusionError::Internal("a step before its rows were bound".into()));
        };
        let shares = assign(sizes, &state.holders, &self.jobs.members.live());
        let group = |share: &Share| FileGroup::new(share.units.iter().map(|unit| files[*unit].clone()).collect());
        let bound = units::bind(query, shares.iter().map(group).collect())?;
        // By this an executor knows which part of the rows is its own, and whether that is work for its GPU.
        let unit_bytes = sizes.iter().map(|unit| unit.bytes).sum();
        let placement = Placement { unit_bytes, ..gradient.placement().clone() };
        let gradient = gradient.over(Arc::new(cache.bound(bound, stage.clone()))).placed(placement);
        let merged =
            fold && shares.len() > 2 && state.partial_bytes.saturating_mul(shares.len() as u64) > self.merge_bytes;
        let plan: Arc<dyn ExecutionPlan> = match merged {
            true => Arc::new(MergeExec::over(gradient, shares.len().isqrt())?),
            false => Arc::new(gradient),
        };
        let name = format!("step {} of {}", self.count.fetch_add(1, Ordering::Relaxed), run.name);
        self.jobs.members.place(&name, shares.iter().map(|share| share.executor.clone()).collect());
        // Reading a unit from its file takes as long as it takes.
        let stays = |share: &Share, unit: &usize| state.holders.get(&sizes[*unit].id) == Some(&share.executor);
        let resident = state.loaded && shares.iter().all(|share| share.units.iter().all(|unit| stays(share, unit)));
        let patience = PATIENCE.max(state.longest * PATIENCE_FACTOR).saturating_mul(1 << state.late.min(16));
        let deadline = resident.then_some(patience);
        let started = Instant::now();
        let compressed = state.partial_bytes > INLINE_BYTES as u64;
        let job = Job { name: name.clone(), plan, context: Arc::clone(context), deadline, compressed };
        let ended = self.jobs.run(job).await;
        self.jobs.members.forget(&name);
        let finished = match ended? {
            Ended::Well(finished) => finished,
            Ended::Late => {
                log::warn!("{name} did not end within {deadline:?}; it is run again");
                state.late += 1;
                return Ok(None);
            }
        };
        let batches = match collect(&finished).await {
            Ok(batches) => batches,
            Err(error) => {
                log::warn!("{name} is run again: {error}");
                return Ok(None);
            }
        };
        let mut seen: Vec<u64> = Vec::with_capacity(sizes.len());
        for (location, rows) in finished.partitions.iter().zip(&batches) {
            let executor = location.executor_meta.as_ref().map(|meta| meta.id.clone()).unwrap_or_default();
            for batch in rows {
                let units = covered(batch)?.concat();
                if !merged {
                    state.holders.extend(units.iter().map(|unit| (*unit, executor.clone())));
                    state.partial_bytes = state.partial_bytes.max(batch.column(0).get_buffer_memory_size() as u64);
                }
                seen.extend(units);
            }
        }
        if merged {
            // Merged results do not say who folded what; tasks run where they were placed unless an executor is lost.
            let placed = shares
                .iter()
                .flat_map(|share| share.units.iter().map(|unit| (sizes[*unit].id, share.executor.clone())));
            state.holders.extend(placed);
        }
        seen.sort_unstable();
        let mut wanted: Vec<u64> = sizes.iter().map(|unit| unit.id).collect();
        wanted.sort_unstable();
        if seen != wanted || (!merged && batches.len() != shares.len()) {
            log::warn!("{name} covered {} of {} units; it is run again", seen.len(), wanted.len());
            return Ok(None);
        }
        state.longest = state.longest.max(started.elapsed());
        (state.loaded, state.late) = (true, 0);
        let batches: Vec<RecordBatch> = batches.into_iter().flatten().collect();
        self.metrics.step(started.elapsed(), &batches);
        Ok(Some(batches))
    }
}

/// The rows of a job, partition by partition; all are fetched at once.
async fn collect(finished: &Finished) -> Result<Vec<Vec<RecordBatch>>> {
    let mut fetches = Vec::with_capacity(finished.partitions.len());
    for location in finished.partitions.clone() {
        let jobs = Arc::clone(finished.jobs());
        fetches.push(async move { jobs.fetch(&location).await?.try_collect::<Vec<_>>().await });
    }
    futures::future::try_join_all(fetches).await
}

#[async_trait]
impl StepRunner for Cluster {
    async fn run(&self, plan: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<Vec<RecordBatch>> {
        let odd = || DataFusionError::Internal("a step is no pass over cached rows".into());
        let gradient = plan.downcast_ref::<GradientExec>().ok_or_else(odd)?;
        let cache = gradient.input().downcast_ref::<FeatureCacheExec>().ok_or_else(odd)?;
        let run = self.run_of(cache.key());
        let mut state = run.state.lock().await;
        self.bind(&run, &mut state, cache, &context).await?;
        let stage = self.stage(&run, &mut state, cache.stage()).await?;
        let fold = matches!(gradient.pass().here().map(Arc::as_ref), Some(Pass::Fold(_)));
        let gradient = match gradient.pass().here() {
            Some(pass) => gradient.with_pass(self.parcel(&run, &mut state, pass, "parameters").await?),
            None => gradient.clone(),
        };
        for _ in 0..ATTEMPTS {
            let attempt = self.attempt(&run, &mut state, &gradient, (cache, &stage, fold), &context).await?;
            if let Some(batches) = attempt {
                if let Parcel::There(address) = gradient.pass() {
                    // The parameters of a step are of no use after it, and a network has many steps.
                    remove_in_run(&self.warehouse, &address.path).await;
                }
                return Ok(batches);
            }
        }
        Err(failure::cluster(
            format!("a step of the training came to no result in {ATTEMPTS} attempts"),
            "look at the scheduler's and the executors' logs, and run the statement again",
        ))
    }

    fn slots(&self) -> Option<usize> {
        Some(self.jobs.members.slots().max(1))
    }

    async fn devices(&self, context: Arc<TaskContext>) -> Vec<(String, Result<Vec<DeviceInfo>>)> {
        devices::of_executors(&self.jobs, &context).await
    }

    fn iterated(&self, _run: &str) {
        self.metrics.iteration();
    }

    fn release(&self, key: &str) {
        let Some(run) = self.runs.lock().remove(key) else { return };
        self.metrics.run_ends();
        let warehouse = self.warehouse.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if run.state.lock().await.stored {
                    remove_run(&warehouse, &run.name).await;
                }
            });
        }
    }
}
