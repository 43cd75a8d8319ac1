//! A training through its operators, without SQL: planned, run, and the same in every arrangement.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array, Int32Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Int32Type};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{ExecutionPlan, collect};
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::prelude::*;
use sinew_ml::columns::Columns;
use sinew_ml::families::FAMILIES;
use sinew_ml::family::find;
use sinew_ml::kernels::{Cpu, Isa};
use sinew_ml::model::{IterationRecord, Model};
use sinew_ml::operators::{Local, TrainExec};
use sinew_ml::params::{ParamValue, Params};
use sinew_ml::runtime::TrainRuntime;
use sinew_ml::split::SplitSpec;
use sinew_ml::store::BlockStore;
use sinew_ml::training::TrainSpec;
use sinew_ml::training::checkpoint::Checkpoint;

/// Rows with numbers in both precisions, gaps, a category and a label; the order of rows is `order`.
fn table(rows: usize, order: &[usize]) -> RecordBatch {
    let noise = |i: usize, salt: u64| sinew_ml::fold::uniform(sinew_ml::fold::mix(i as u32, salt)) * 2.0 - 1.0;
    let pick = |f: &dyn Fn(usize) -> Option<f64>| order.iter().map(|&i| f(i)).collect::<Vec<_>>();
    assert_eq!(order.len(), rows);
    let a = pick(&|i| Some(noise(i, 1) * 3.0 + 10.0));
    let b = pick(&|i| (i % 7 != 3).then(|| noise(i, 2) * 100.0));
    let kinds = ["red", "green", "blue"];
    let c: Vec<_> = order.iter().map(|&i| if i % 11 == 5 { None } else { Some(kinds[i % 3]) }).collect();
    let y = order.iter().map(|&i| {
        let margin = noise(i, 1) * 2.0 + noise(i, 2) + if i % 3 == 0 { 0.7 } else { -0.2 };
        i32::from(margin + 2.0 * noise(i, 3) > 0.0) + i32::from(margin > 1.5)
    });
    RecordBatch::try_from_iter([
        ("a", Arc::new(a.into_iter().map(|v| v.map(|v| v as f32)).collect::<Float32Array>()) as ArrayRef),
        ("b", Arc::new(Float64Array::from(b)) as ArrayRef),
        ("c", Arc::new(StringArray::from(c)) as ArrayRef),
        ("y", Arc::new(Int32Array::from(y.collect::<Vec<_>>())) as ArrayRef),
    ])
    .unwrap()
}

struct Arrangement {
    threads: usize,
    isa: Isa,
    batch: usize,
    memory: Option<usize>,
}

impl Default for Arrangement {
    fn default() -> Self {
        Self { threads: 2, isa: Isa::best(), batch: 1000, memory: None }
    }
}

async fn train(
    family: &str,
    options: &[(&str, ParamValue)],
    data: &RecordBatch,
    how: &Arrangement,
) -> Result<Model, String> {
    report(family, options, data, how, |_| {}).await.and_then(|batches| model(&batches))
}

/// The rows of a training whose spec was changed.
async fn report(
    family: &str,
    options: &[(&str, ParamValue)],
    data: &RecordBatch,
    how: &Arrangement,
    change: impl FnOnce(&mut TrainSpec),
) -> Result<Vec<RecordBatch>, String> {
    let backend = Arc::new(Cpu::with_isa(how.isa));
    let runtime = Arc::new(TrainRuntime::new(backend, Arc::new(BlockStore::default()), Arc::new(Local)));
    let config = SessionConfig::new().with_target_partitions(how.threads).with_extension(runtime);
    let mut environment = RuntimeEnvBuilder::new();
    if let Some(bytes) = how.memory {
        environment = environment.with_memory_limit(bytes, 1.0);
    }
    let context = SessionContext::new_with_config_rt(config, environment.build_arc().unwrap());
    let chunks: Vec<_> =
        (0..data.num_rows()).step_by(how.batch).map(|i| data.slice(i, how.batch.min(data.num_rows() - i))).collect();
    let mut parts = vec![Vec::new(); how.threads];
    for (i, chunk) in chunks.into_iter().enumerate() {
        parts[i % how.threads].push(chunk);
    }
    let plan: Arc<dyn ExecutionPlan> =
        datafusion::datasource::memory::MemorySourceConfig::try_new_exec(&parts, data.schema(), None).unwrap();
    let family = find(family).map_err(|e| e.to_string())?;
    let given: Vec<_> = options.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
    let params = Params::resolve(family.name(), family.params(), &given).map_err(|e| e.to_string())?;
    let split = SplitSpec::Random { fraction: 0.2, seed: Some(3) };
    let columns = Columns::assign(&data.schema(), family.task(), Some("y"), None, &split).map_err(|e| e.to_string())?;
    let mut spec = TrainSpec {
        model: "m".into(),
        run: "run".into(),
        family: family.name().into(),
        params,
        columns,
        split,
        ..TrainSpec::default()
    };
    change(&mut spec);
    let exec: Arc<dyn ExecutionPlan> = Arc::new(TrainExec::over(Arc::new(spec), plan, how.threads, "cpu"));
    collect(exec, context.task_ctx()).await.map_err(|e| e.to_string())
}

fn model(batches: &[RecordBatch]) -> Result<Model, String> {
    let last = batches.last().ok_or("no rows")?;
    let artifact = last.column_by_name("artifact").unwrap().as_binary::<i32>();
    Model::from_bytes(artifact.value(last.num_rows() - 1)).map_err(|e| e.to_string())
}

fn weights(model: &Model) -> Vec<u64> {
    model.weights.values().flat_map(|t| t.data.iter().map(|v| v.to_bits())).collect()
}

fn in_order(rows: usize) -> Vec<usize> {
    (0..rows).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_gives_the_same_bytes_in_every_arrangement() {
    let rows = 6_001;
    let data = table(rows, &in_order(rows));
    let backwards = table(rows, &in_order(rows).into_iter().rev().collect::<Vec<_>>());
    for (family, options) in [
        ("logistic_regression", vec![("reg_param", ParamValue::Float(0.01))]),
        ("logistic_regression", vec![("solver", ParamValue::text("lbfgs"))]),
        (
            "logistic_regression",
            vec![("reg_param", ParamValue::Float(0.02)), ("elastic_net_param", ParamValue::Float(0.5))],
        ),
        ("linear_regression", vec![]),
        ("linear_regression", vec![("solver", ParamValue::text("lbfgs"))]),
        ("kmeans", vec![("k", ParamValue::Int(4))]),
        ("mlp_classifier", network(&[("max_iter", ParamValue::Int(4)), ("dropout", ParamValue::Float(0.2))])),
        ("mlp_regressor", network(&[("solver", ParamValue::text("lbfgs")), ("max_iter", ParamValue::Int(5))])),
    ] {
        let base = train(family, &options, &data, &Arrangement { threads: 1, ..Arrangement::default() }).await.unwrap();
        for threads in [2, 3, 8] {
            for batch in [97, 6_001] {
                let other = train(family, &options, &data, &Arrangement { threads, batch, ..Arrangement::default() })
                    .await
                    .unwrap();
                assert_eq!(
                    weights(&base),
                    weights(&other),
                    "{family} {options:?} {threads} threads, batches of {batch}"
                );
            }
        }
        let other = train(family, &options, &backwards, &Arrangement::default()).await.unwrap();
        assert_eq!(weights(&base), weights(&other), "{family} {options:?} backwards");
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let other = train(family, &options, &data, &Arrangement { isa, ..Arrangement::default() }).await.unwrap();
            assert_eq!(weights(&base), weights(&other), "{family} {options:?} on {isa:?}");
        }
        let spilled = Arrangement { memory: Some(60_000), ..Arrangement::default() };
        let other = train(family, &options, &data, &spilled).await.unwrap();
        assert_eq!(weights(&base), weights(&other), "{family} {options:?} spilled");
        assert!(base.manifest.data.eval_rows > 1_000 && !base.manifest.metrics.is_empty());
    }
}

/// A small network with more options.
fn network(more: &[(&'static str, ParamValue)]) -> Vec<(&'static str, ParamValue)> {
    [("hidden_units", ParamValue::Ints(vec![5, 4].into()))].into_iter().chain(more.iter().cloned()).collect()
}

/// The checkpoints of a training, in order.
fn checkpoints(batches: &[RecordBatch]) -> Vec<Vec<u8>> {
    let column = |batch: &RecordBatch| batch.column_by_name("checkpoint").unwrap().as_binary::<i32>().clone();
    batches.iter().flat_map(|batch| column(batch).iter().flatten().map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
}

/// What the report says of iterations, times aside.
fn iterations(model: &Model) -> Vec<String> {
    let timeless = |record: &IterationRecord| format!("{:?}", IterationRecord { duration_ms: 0.0, ..record.clone() });
    model.manifest.iterations.iter().map(timeless).collect()
}

/// Rows with a category of so many values that descent begins on a sample.
fn wide(rows: usize) -> RecordBatch {
    let narrow = table(rows, &in_order(rows));
    let kinds: StringArray = (0..rows).map(|i| Some(format!("k{}", i * 7919 % 400))).collect();
    let (kinds, label) = (Arc::new(kinds) as ArrayRef, Arc::clone(narrow.column(3)));
    let label =
        datafusion::arrow::compute::kernels::cmp::gt(&label.as_primitive::<Int32Type>(), &Int32Array::new_scalar(0));
    let label = datafusion::arrow::compute::cast(&label.unwrap(), &DataType::Int32).unwrap();
    RecordBatch::try_from_iter([("a", Arc::clone(narrow.column(0))), ("c", kinds), ("y", label)]).unwrap()
}

/// A family, its options, and rows.
type Case = (&'static str, Vec<(&'static str, ParamValue)>, RecordBatch);

#[tokio::test(flavor = "multi_thread")]
async fn a_training_goes_on_from_every_checkpoint_to_the_same_bytes() {
    let float = |name: &'static str, value: f64| (name, ParamValue::Float(value));
    let solver = |name: &'static str| ("solver", ParamValue::text(name));
    let data = table(3_001, &in_order(3_001));
    let mut cases: Vec<Case> = Vec::new();
    for family in ["logistic_regression", "linear_regression"] {
        for name in ["auto", "newton", "lbfgs", "gd", "sgd", "adam"] {
            for penalty in [vec![], vec![float("reg_param", 0.02), float("elastic_net_param", 0.5)]] {
                let more = [solver(name), ("max_iter", ParamValue::Int(12))];
                cases.push((family, more.into_iter().chain(penalty).collect(), data.clone()));
            }
        }
        let batches = vec![solver("sgd"), float("mini_batch_fraction", 0.3), ("max_iter", ParamValue::Int(9))];
        cases.push((family, batches, data.clone()));
    }
    for mode in ["k-means||", "random"] {
        cases.push(("kmeans", vec![("k", ParamValue::Int(5)), ("init_mode", ParamValue::text(mode))], data.clone()));
    }
    cases.push(("logistic_regression", vec![float("reg_param", 0.001)], wide(30_000)));
    for name in ["sgd", "adam", "adamw", "lbfgs"] {
        cases.push(("mlp_classifier", network(&[solver(name), ("max_iter", ParamValue::Int(4))]), data.clone()));
    }
    let whole = network(&[solver("adamw"), ("batch_size", ParamValue::Int(0)), ("max_iter", ParamValue::Int(4))]);
    let rounds = network(&[("local_steps", ParamValue::Int(3)), ("max_iter", ParamValue::Int(3))]);
    let stopped = network(&[float("tol", 0.5), ("n_iter_no_change", ParamValue::Int(2))]);
    cases.extend([whole, rounds, stopped].map(|options| ("mlp_regressor", options, data.clone())));
    for family in FAMILIES {
        assert!(cases.iter().any(|(name, ..)| *name == family.name()), "{} is not tried", family.name());
    }
    let how = Arrangement::default();
    let (mut fewer, mut sampled) = (0, 0);
    for (family, options, data) in &cases {
        let every = |spec: &mut TrainSpec| spec.checkpoint_interval = Some(0);
        let whole = report(family, options, data, &how, every).await.unwrap_or_else(|e| panic!("{options:?}: {e}"));
        let (taken, whole) = (checkpoints(&whole), model(&whole).unwrap());
        assert!(!taken.is_empty(), "{family} {options:?}");
        assert_eq!(
            weights(&train(family, options, data, &how).await.unwrap()),
            weights(&whole),
            "{family} {options:?}"
        );
        for (at, checkpoint) in taken.iter().enumerate() {
            // Elsewhere, with other threads.
            let how = Arrangement { threads: 1 + at % 3, ..Arrangement::default() };
            let rest =
                report(family, options, data, &how, |spec| spec.resume = Some(checkpoint.clone())).await.unwrap();
            let resumed = model(&rest).unwrap();
            assert_eq!(weights(&resumed), weights(&whole), "{family} {options:?} from checkpoint {at}");
            assert_eq!(iterations(&resumed), iterations(&whole), "{family} {options:?} from checkpoint {at}");
            fewer += usize::from(rest.len() < whole.manifest.iterations.len());
            sampled += usize::from(Checkpoint::decode(checkpoint).unwrap().iterations.is_empty());
        }
    }
    assert!(fewer > 100 && sampled > 3, "{fewer} did less than a whole training, {sampled} began before its first row");
}

#[tokio::test]
async fn a_checkpoint_of_other_rows_or_another_statement_is_refused() {
    let options = vec![("solver", ParamValue::text("lbfgs"))];
    let (data, how) = (table(2_000, &in_order(2_000)), Arrangement::default());
    let every = |spec: &mut TrainSpec| spec.checkpoint_interval = Some(0);
    let whole = report("logistic_regression", &options, &data, &how, every).await.unwrap();
    let checkpoint = checkpoints(&whole).remove(1);
    let resume = |spec: &mut TrainSpec| spec.resume = Some(checkpoint.clone());
    let fewer = data.slice(0, 1_999);
    let error = report("logistic_regression", &options, &fewer, &how, resume).await.unwrap_err();
    assert!(error.contains("SINEW-2014") && error.contains("rows of its query have changed"), "{error}");
    let other = [options.clone(), vec![("reg_param", ParamValue::Float(0.5))]].concat();
    let error = report("logistic_regression", &other, &data, &how, resume).await.unwrap_err();
    assert!(error.contains("SINEW-2014") && error.contains("statement means something else"), "{error}");
    let newer = |spec: &mut TrainSpec| {
        resume(spec);
        spec.engine_version = "99.0.0".into();
    };
    let error = report("logistic_regression", &options, &data, &how, newer).await.unwrap_err();
    assert!(error.contains("SINEW-2014") && error.contains("version 99.0.0"), "{error}");
}

#[tokio::test]
async fn a_missing_value_is_the_training_mean_and_a_category_its_own() {
    let data = table(2_000, &in_order(2_000));
    let model = train("linear_regression", &[], &data, &Arrangement::default()).await.unwrap();
    let text = serde_json::to_string(&model.manifest.transform).unwrap();
    assert!(text.contains(r#""categories":["blue","green","red"],"null":true"#), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Section 5 of the design: any order of rows, any batches, any number of threads.
    #[test]
    fn rows_may_come_in_any_order(seed in any::<u64>(), batch in 1usize..700, threads in 1usize..6) {
        let rows = 700;
        let mut order = in_order(rows);
        order.sort_by_key(|&i| sinew_ml::fold::mix(i as u32, seed));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            for (family, options) in [
                ("logistic_regression", vec![]),
                ("linear_regression", vec![]),
                ("kmeans", vec![]),
                ("mlp_classifier", network(&[("max_iter", ParamValue::Int(2))])),
            ] {
                let data = table(rows, &in_order(rows));
                let base = train(family, &options, &data, &Arrangement::default()).await.unwrap();
                let how = Arrangement { threads, batch, ..Arrangement::default() };
                let other = train(family, &options, &table(rows, &order), &how).await.unwrap();
                assert_eq!(weights(&base), weights(&other), "{}", family);
            }
        });
    }
}
