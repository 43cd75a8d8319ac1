//! The loop of a training: bind parameters, run a pass, merge, ask the optimizer, stop.
//!
//! ```text
//!  profile ── means ── transform, split ── moments ── [ ask ── pass ── merge ── tell ]* ── metrics ── model
//!  └─ raw rows, read once ─┘               └─ prepared rows, resident ────────────────────────┘
//! ```

pub mod checkpoint;
pub mod devices;
mod fit;
mod history;
pub mod means;
pub mod report;
mod spec;
mod warnings;

use std::mem::discriminant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryReservation};
use datafusion::physical_plan::metrics::Count;
use log::debug;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;

pub use spec::TrainSpec;

use crate::device::{Device, Work};
use crate::error::{MlError, Result};
use crate::family::{Family, Learner, Setup, Task, Weights, find};
use crate::fold::{Fold, Kernel, RoleSet};
use crate::kernels::Isa;
use crate::metrics;
use crate::model::{DataSummary, FORMAT, Manifest, Model};
use crate::objective::{Evaluation, Objective, Want};
use crate::operators::{
    DeviceCounts, FeatureCacheExec, GradientExec, Parcel, Pass, Placement, Sources, Stage, ran, results, spent,
};
use crate::optimizer::{Ask, Iteration, Outcome};
use crate::partial::Partial;
use crate::prepare::Frozen;
use crate::profile::{FeatureProfile, Profile};
use crate::runtime::TrainRuntime;
use crate::store::{Entry, Fitted};
use crate::transform::{Encoding, OnMissing};
use checkpoint::{Checkpoint, Clock, Origin};
use devices::Devices;
use history::History;
use means::{MeanSpec, Means};
use report::ReportRow;

/// Bytes that the driver holds for each parameter: the point, its gradient, their last ten differences,
/// the merged sums and their grids.
const DRIVER_BYTES: u64 = 320;
/// Bytes that each thread holds for each parameter: its sums, carried and pending, and their encoded form.
const THREAD_BYTES: u64 = 64;

/// One training while it runs.
pub struct Run {
    spec: Arc<TrainSpec>,
    family: &'static dyn Family,
    gradient: Arc<GradientExec>,
    cache: Arc<FeatureCacheExec>,
    sources: Sources,
    runtime: Arc<TrainRuntime>,
    entry: Arc<Entry>,
    context: Arc<TaskContext>,
    /// Rows of every pass so far; each must see the same.
    rows: Option<u64>,
    passes: Count,
    counts: DeviceCounts,
    devices: Devices,
}

/// A label of so many numbers with fractions can be one of classes.
const MOST_FRACTIONS: u64 = 100;
/// Passes of a training that is expected to take as many as it may.
const LIKELY_PASSES: i64 = 30;

/// Releases a run's rows however it ends.
struct Lease {
    runtime: Arc<TrainRuntime>,
    run: String,
    rows: Option<String>,
    ended: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.runtime.store.close(&self.run, self.rows.as_deref().filter(|_| self.ended));
        self.runtime.runner.release(&self.run);
    }
}

/// Trains as `spec` says and sends one row for each iteration, the last with the model.
///
/// # Errors
/// Whatever the data, the options or the query give reason for; nothing is left behind then.
pub async fn train(
    spec: Arc<TrainSpec>,
    gradient: Arc<GradientExec>,
    cache: Arc<FeatureCacheExec>,
    sources: Sources,
    context: Arc<TaskContext>,
    rows: Sender<datafusion::error::Result<RecordBatch>>,
    passes: Count,
) -> Result<()> {
    // A plan may be executed again while it runs.
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let runtime = TrainRuntime::of(&context)?;
    // Shards take the place of the blocks, which others must not see.
    let shared = (sources.reusable() && spec.shards().is_none()).then(|| cache.key().to_string());
    let own = format!("{}/{}", spec.run, RUNS.fetch_add(1, Ordering::Relaxed));
    let mut entry = runtime.store.open(&own, shared.as_deref());
    if let (Some(key), true) = (&shared, entry.fitted().is_some())
        && sources.check_unchanged(&context).await.is_err()
    {
        runtime.store.forget(key);
        entry = runtime.store.open(&own, None);
    }
    // Dropped last: a failed or cancelled run gives its memory back.
    let mut lease = Lease { runtime: Arc::clone(&runtime), run: own.clone(), rows: shared, ended: false };
    let family = find(&spec.family)?;
    let cache = Arc::new(cache.with_key(own));
    let counts = gradient.device_counts();
    let mut run = Run {
        spec,
        family,
        gradient,
        cache,
        sources,
        runtime,
        entry,
        context,
        rows: None,
        passes,
        counts,
        devices: Devices::default(),
    };
    run.whole(rows).await?;
    lease.ended = true;
    Ok(())
}

impl Run {
    async fn whole(&mut self, rows: Sender<datafusion::error::Result<RecordBatch>>) -> Result<()> {
        let (setup, frozen, dropped) = self.prepare().await?;
        let _state = self.reserve(&setup)?;
        self.place(&setup).await?;
        let mut learner = self.family.learner(&setup)?;
        let origin = Origin::of(&self.spec, &setup, &learner, &self.sources.files())?;
        let mut log = History {
            rows,
            last: None,
            since: Instant::now(),
            iterations: Vec::new(),
            run: self.template(),
            clock: Clock::new(self.spec.checkpoint_interval),
        };
        if let Some(bytes) = &self.spec.resume {
            let checkpoint = Checkpoint::decode(bytes)?;
            checkpoint.restore(&self.spec, &origin, &mut learner)?;
            self.devices.learnt = checkpoint.devices.clone();
            log.go_on(checkpoint);
        }
        let outcome = self.iterate(&mut learner, &origin, &mut log).await?;
        let weights = self.family.finish(&setup, &outcome)?;
        check_finite(&weights)?;
        let (metrics, squares) = self.metrics(&setup, &frozen, &weights).await?;
        if let Some(squares) = squares.filter(|_| learner.solver == "normal") {
            // The pass that solved it knew no solution to measure.
            log.held_out(squares / 2.0);
        }
        let mut transform = frozen.transform.clone();
        impute_means(&mut transform, &setup, &self.entry);
        let model = Model {
            manifest: Manifest {
                format: FORMAT,
                run: self.spec.run.clone(),
                engine_version: self.spec.engine_version.clone(),
                statement: self.spec.statement.clone(),
                query: self.spec.query.clone(),
                family: self.spec.family.clone(),
                params: self.spec.params.clone(),
                solver: learner.solver.into(),
                seed: self.spec.seed(),
                split: self.spec.split.clone(),
                transform,
                weight_column: self.spec.weight_column.clone(),
                data: DataSummary {
                    rows: setup.moments.rows,
                    eval_rows: setup.moments.eval_rows,
                    dropped_rows: dropped,
                    fingerprint: self.sources.fingerprint().into(),
                },
                iterations: log.iterations.clone(),
                converged: outcome.converged,
                stop_reason: outcome.reason.into(),
                metrics,
                processor: self.spec.shards().map(|_| Isa::best().to_string()),
                device: Some(self.spec.device.clone()).filter(|device| *device != Device::Auto),
                gpus: self.devices.learnt.gpus.iter().cloned().collect(),
                warnings: self.warnings(&setup, &frozen, &outcome, &log),
                notes: self.notes(),
            },
            weights,
        };
        debug!("run {}: {} passes over {} rows", self.spec.run, self.passes.value(), setup.bounds.rows);
        log.finish(model.to_bytes()?).await
    }

    /// Chooses the device of this process, or asks each executor to choose its own.
    async fn place(&mut self, setup: &Setup) -> Result<()> {
        let outputs = match self.family.task() {
            Task::Classification if setup.classes > 2 => setup.classes as u64,
            Task::Clustering => setup.params.int("k").unwrap_or(1).max(1) as u64,
            _ => 1,
        };
        let passes = setup.params.int("max_iter").unwrap_or(LIKELY_PASSES).clamp(1, LIKELY_PASSES) as u64;
        let columns = setup.layout.width() as u64;
        let rows = setup.bounds.rows;
        let effort = self.family.effort(&setup.params, columns, setup.classes.max(1) as u64, rows);
        let work = Work { rows: Some(rows), columns, outputs, passes, effort, results: 0 };
        let mut device = self.spec.device.clone();
        if self.runtime.runner.slots().is_none() {
            let picked = self.runtime.devices.pick(&device, &work).await?;
            debug!("run {}: {picked}", self.spec.run);
            if picked.backend.name() == self.runtime.devices.cpu().name() {
                device = Device::Cpu;
            } else if device == Device::Auto {
                device = Device::Gpu;
            }
        }
        self.devices.place(Placement { device, work, unit_bytes: 0 }, setup.around());
        Ok(())
    }

    /// Reads the rows, unless they are resident, and settles everything that is fitted to them.
    async fn prepare(&mut self) -> Result<(Setup, Arc<Frozen>, u64)> {
        let fitted = match self.entry.fitted() {
            Some(fitted) => fitted,
            None => self.load().await?,
        };
        let Fitted { profile, frozen } = fitted;
        self.check_weights(profile.weight.high)?;
        let bounds = fit::bounds(&frozen.columns, &profile, &frozen.transform)?;
        let fold = fit::moments_fold(&frozen.transform, &bounds)?;
        let partial = self.fold(&frozen, fold.clone()).await?;
        let moments = fit::moments(&frozen.transform, &fold, &partial)?;
        self.entry.set_fitted(Fitted { profile: Arc::clone(&profile), frozen: Arc::clone(&frozen) });
        let counted = moments.rows + moments.eval_rows;
        if self.rows != Some(profile.rows) || counted > profile.rows {
            let seen = self.rows.unwrap_or(0);
            return Err(MlError::Internal(format!("{} rows were read and {seen} were kept", profile.rows)));
        }
        let dropped = profile.rows - counted;
        if moments.rows == 0 {
            return Err(MlError::Data {
                reason: format!(
                    "none of the {} rows can train ({} held out, {dropped} without a label or with missing values); \
                     hold fewer rows out, or fill in what is missing",
                    profile.rows, moments.eval_rows
                ),
            });
        }
        if moments.weight <= 0.0 {
            return Err(MlError::Data {
                reason: "all weights of the training rows are 0; WEIGHT BY needs a column with positive values".into(),
            });
        }
        let classes = frozen.transform.label.as_ref().map_or(0, |l| l.classes.len());
        let layout = frozen.transform.layout();
        let seed = self.spec.seed();
        let setup = Setup { params: self.spec.params.clone(), layout, moments, bounds, classes, seed };
        Ok((setup, frozen, dropped))
    }

    /// Weights count relative to each other, so their scale is free as long as squares keep their digits.
    fn check_weights(&self, largest: f64) -> Result<()> {
        if self.spec.columns.weight.is_none() || largest <= 0.0 || (fit::LEAST..1.0 / fit::LEAST).contains(&largest) {
            return Ok(());
        }
        Err(MlError::BadValue {
            column: self.spec.weight_column.clone().unwrap_or_else(|| "WEIGHT BY".into()),
            value: format!("{largest:e} as its largest weight"),
            hint: "its square leaves double precision; multiply all weights by one factor".into(),
        })
    }

    /// Sets aside what the parameters of this training take, before anything of that size is allocated.
    fn reserve(&self, setup: &Setup) -> Result<MemoryReservation> {
        let (rows, columns) = self.family.parameters(setup);
        let threads = self.context.session_config().target_partitions() as u64;
        let needed = rows.saturating_mul(columns).saturating_mul(DRIVER_BYTES + threads * THREAD_BYTES);
        let pool = self.context.memory_pool();
        let state = MemoryConsumer::new(format!("parameters of run {}", self.spec.run)).register(pool);
        let grow = || usize::try_from(needed).is_ok_and(|bytes| state.try_grow(bytes).is_ok());
        if grow() {
            return Ok(state);
        }
        // Rows can wait on disk, parameters cannot.
        self.runtime.store.evict_idle();
        self.entry.give_back(needed, &self.context)?;
        if !grow() {
            let limit = match pool.memory_limit() {
                MemoryLimit::Finite(bytes) => bytes.saturating_sub(pool.reserved()) as u64,
                _ => u64::MAX,
            };
            let (what, hint) = match self.spec.shards() {
                Some(_) => (
                    format!("training {} parameters", rows.saturating_mul(columns)),
                    "take fewer hidden_units, leave wide columns out, or raise the memory limit".into(),
                ),
                None => (
                    format!("training {rows} x {columns} parameters"),
                    "group rare categories or classes, leave wide columns out, or raise the memory limit".into(),
                ),
            };
            return Err(MlError::TooLarge { what, needed, limit, hint });
        }
        Ok(state)
    }

    /// The first pass over the query, and what is fitted to it.
    async fn load(&mut self) -> Result<Fitted> {
        let columns = &self.spec.columns.clone();
        let mut profile = Profile::empty(columns);
        for (part, _) in self.pass::<Profile>(Pass::Profile(columns.clone()), Stage::Raw).await? {
            profile.merge(columns, part)?;
        }
        self.entry.set_loaded();
        self.sources.check_unchanged(&self.context).await?;
        if profile.rows == 0 {
            return Err(MlError::Data {
                reason: "the training query returned no rows; look at its FROM and WHERE clauses".into(),
            });
        }
        check_classes(columns.label.as_ref().map(|label| label.name.as_str()), &profile)?;
        let labelled = profile.rows - profile.label.missing;
        if labelled == 0 {
            let label = columns.label.as_ref().map_or("label", |l| l.name.as_str());
            let reason = format!(
                "column '{label}' is NULL in all {} rows; name another label, or fill it in the query",
                profile.rows
            );
            return Err(MlError::Data { reason });
        }
        let split = self.spec.split.settle(labelled, self.spec.seed());
        let wanted = fit::columns_to_impute(columns, &profile);
        let mut means = Vec::new();
        if !wanted.is_empty() {
            let weight = if columns.weight.is_some() { profile.weight.high } else { 1.0 };
            let spec = MeanSpec { columns: columns.clone(), split: split.clone(), wanted, weight };
            let mut total = Means::empty(&spec)?;
            for (part, _) in self.pass::<Means>(Pass::Means(spec), Stage::Raw).await? {
                total.merge(&part)?;
            }
            means = total.values();
        }
        let transform = fit::transform(columns, &profile, &means, on_missing(&self.spec)?)?;
        let frozen = Frozen::new(columns.clone(), transform, split);
        Ok(Fitted { profile: Arc::new(profile), frozen: Arc::new(frozen) })
    }

    /// Asks and tells until the optimizer has ended.
    async fn iterate(&mut self, learner: &mut Learner, origin: &Origin, log: &mut History) -> Result<Outcome> {
        let frozen = self.entry.fitted().ok_or_else(|| MlError::Internal("rows were not prepared".into()))?.frozen;
        loop {
            let (at, want) = match learner.optimizer.ask() {
                Ask::Done(outcome) => return Ok(outcome),
                Ask::Evaluate { at, want } => (at, want),
            };
            let evaluation = self.evaluate(&frozen, learner.objective.as_ref(), &at, want).await?;
            if !matches!(want, Want::Curvature | Want::Candidates { .. }) && !evaluation.value.is_finite() {
                return Err(MlError::Numeric {
                    reason: format!(
                        "the loss became {}; try a smaller learning_rate, a larger reg_param, or solver = 'auto'",
                        evaluation.value
                    ),
                });
            }
            if let Some(iteration) = learner.optimizer.tell(evaluation)? {
                self.runtime.runner.iterated(self.cache.key());
                let names = self.devices.take_names();
                if !names.is_empty() {
                    log.run.device = names;
                }
                log.add(iteration).await?;
            }
            if log.clock.is_due(self.runtime.is_ending()) {
                let known = (&self.devices.learnt, learner.optimizer.state());
                log.checkpoint(&self.spec, origin, known).await?;
            }
        }
    }

    /// What the rows say at a point.
    async fn evaluate(
        &mut self,
        frozen: &Arc<Frozen>,
        objective: &dyn Objective,
        at: &[f64],
        want: Want,
    ) -> Result<Evaluation> {
        let mut fold = objective.fold(at, want)?;
        fold.around = self.devices.around(&fold.kernel);
        let mut partial = self.fold(frozen, fold.clone()).await?;
        if partial.rows == 0 && fold.sample.is_some_and(|sample| sample.resident) {
            // Equal rows come or stay out together, so a sample of few distinct rows can be empty.
            fold.sample = None;
            partial = self.fold(frozen, fold.clone()).await?;
        }
        let evaluation = objective.read(at, want, &partial)?;
        if evaluation.single && evaluation.is_doubtful() {
            debug!("run {}: curvature is near the rounding of single precision, taken again exactly", self.spec.run);
            self.devices.distrust_curvature();
            let partial = self.fold(frozen, fold).await?;
            return objective.read(at, want, &partial);
        }
        Ok(evaluation)
    }

    /// Metrics over the held-out rows, empty when there are none, and for one output its mean squared distance from the
    /// label, by weight.
    async fn metrics(
        &mut self,
        setup: &Setup,
        frozen: &Arc<Frozen>,
        weights: &Weights,
    ) -> Result<(Vec<(String, Option<f64>)>, Option<f64>)> {
        if setup.moments.eval_rows == 0 {
            return Ok((Vec::new(), None));
        }
        let scorer = self.family.scorer(&setup.params, &setup.layout, weights)?;
        let kernel = Kernel::Scores { of: Box::new(scorer.clone()) };
        let mut fold = fit::moments_fold(&frozen.transform, &setup.bounds)?;
        fold = Fold { kernel, train: RoleSet::NONE, grids: Vec::new(), ..fold };
        let partial = self.fold(frozen, fold).await?;
        let threshold = setup.params.float("threshold").unwrap_or(0.5);
        let rows = &partial.gathered.rows;
        let (mut weight, mut squares) = (0.0, 0.0);
        for (_, row) in rows {
            let [y, w, score] = row[..] else { continue };
            weight += w;
            squares += w * (y - score) * (y - score);
        }
        let mean = (weight > 0.0).then(|| squares / weight);
        Ok((metrics::of_gathered(&scorer, setup.classes, rows, threshold), mean))
    }

    /// One pass of a kernel over all prepared rows.
    async fn fold(&mut self, frozen: &Arc<Frozen>, fold: Fold) -> Result<Partial> {
        let mut total = Partial::empty(&fold);
        let mut rows = 0;
        let sample = fold.sample.filter(|sample| sample.resident);
        let prepared = Parcel::Here(Arc::clone(frozen));
        let stage = match (sample, &fold.kernel) {
            (Some(sample), _) => Stage::Sampled(prepared, sample),
            (None, Kernel::Lesson { shards, .. }) => Stage::Sharded(prepared, *shards),
            (None, _) => Stage::Prepared(prepared),
        };
        for (part, seen) in self.pass::<Partial>(Pass::Fold(fold), stage).await? {
            total.merge(part)?;
            rows += seen;
        }
        total.gathered.settle();
        let first = *self.rows.get_or_insert(rows);
        if rows != first && sample.is_none() {
            return Err(MlError::Internal(format!("a pass saw {rows} rows, the first saw {first}")));
        }
        Ok(total)
    }

    /// Runs a pass wherever steps run; returns what its partitions found, with the rows each covered.
    async fn pass<T: DeserializeOwned>(&mut self, pass: Pass, stage: Stage) -> Result<Vec<(T, u64)>> {
        self.passes.add(1);
        let threads = self.context.session_config().target_partitions();
        let kernel = if let Pass::Fold(fold) = &pass { Some(&fold.kernel) } else { None };
        let placement = self.devices.of(kernel);
        let gathered = kernel.filter(|kernel| self.devices.gathers(kernel)).map(discriminant);
        let works = kernel.is_some_and(devices::works);
        let partitions = match stage {
            Stage::Sharded(_, shards) => (shards as usize).clamp(1, threads),
            _ if self.entry.loaded() && gathered.is_some() => 1,
            _ if self.entry.loaded() => self.entry.len().clamp(1, threads),
            _ => threads,
        };
        let cache = Arc::new(self.cache.next_pass(stage, partitions));
        let plan = Arc::new(self.gradient.next_pass(cache, pass).placed(placement));
        let batches = self.runtime.runner.run(plan, Arc::clone(&self.context)).await?;
        for one in spent(&batches)? {
            self.counts.add(&one);
        }
        self.devices.ran(ran(&batches), gathered, works);
        results(&batches)
    }

    fn template(&self) -> ReportRow {
        ReportRow {
            model: self.spec.model.clone(),
            run: self.spec.run.clone(),
            iteration: Iteration {
                number: 0,
                objective: f64::NAN,
                gradient_norm: f64::NAN,
                learning_rate: f64::NAN,
                eval_loss: None,
                rows: 0,
            },
            duration_ms: 0.0,
            device: self.runtime.devices.cpu().name().into(),
            artifact: None,
        }
    }
}

/// Numbers with fractions that are nearly all different are a quantity, not classes.
fn check_classes(label: Option<&str>, profile: &Profile) -> Result<()> {
    let different = profile.classes.keys().filter(|class| class.has_fraction()).count() as u64;
    let rows = profile.rows - profile.label.missing;
    if different <= MOST_FRACTIONS || different * 10 < rows {
        return Ok(());
    }
    Err(MlError::Data {
        reason: format!(
            "column '{}' has {different} different numbers with fractions in {rows} rows, which are no classes; \
             linear_regression and mlp_regressor predict numbers (cast it to a string if they are classes)",
            label.unwrap_or("label")
        ),
    })
}

fn on_missing(spec: &TrainSpec) -> Result<OnMissing> {
    match spec.params.text("on_missing") {
        "" | "impute" => Ok(OnMissing::Impute),
        "skip" => Ok(OnMissing::Skip),
        "error" => Ok(OnMissing::Error),
        other => Err(MlError::Internal(format!("on_missing = '{other}' passed the checks"))),
    }
}

/// Prediction may meet a missing value in a column that had none at training: it takes the mean then, too.
/// What was imputed at training stays as it was.
fn impute_means(transform: &mut crate::transform::FittedTransform, setup: &Setup, entry: &Entry) {
    let Some(Fitted { profile, .. }) = entry.fitted() else { return };
    for ((span, feature), seen) in setup.layout.spans().zip(&mut transform.features).zip(&profile.features) {
        let complete = matches!(seen, FeatureProfile::Number(range) if range.missing == 0);
        if let (Encoding::Numeric { impute }, true) = (&mut feature.encoding, complete) {
            *impute = setup.moments.mean[span.offset];
        }
    }
}

fn check_finite(weights: &Weights) -> Result<()> {
    for (name, tensor) in weights {
        if let Some(value) = tensor.data.iter().find(|v| !v.is_finite()) {
            return Err(MlError::Numeric {
                reason: format!("{name} contains {value}; try a larger reg_param or solver = 'auto'"),
            });
        }
    }
    Ok(())
}
