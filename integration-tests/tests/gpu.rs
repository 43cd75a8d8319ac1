//! Trainings on a GPU beside the same trainings on the CPU: embedded, on a cluster of two, and when the device is
//! lost. Without an adapter they say so aloud and pass, unless SINEW_REQUIRE_GPU=1.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use sinew::{Session, SessionOptions};
use sinew_integration_tests::cluster::{Cluster, binary};
use sinew_integration_tests::{number, run};
use sinew_ml::runtime::TrainRuntime;

/// Rows of all kinds of columns, with weights, missing values and a split.
const ROWS: &str = "SELECT sin(value) AS a, CASE WHEN value % 11 > 0 THEN (value * 7919 % 1000) / 8.0 END AS b, \
    value % 101 AS c, concat('k', value % 5) AS d, concat('w', value % 23) AS w, \
    1.0 + value % 3 AS weight, value % 3 AS class, \
    CASE WHEN sin(value) + (value * 31 % 17) / 17.0 > 0.5 THEN 1 ELSE 0 END AS yes, \
    3.0 * sin(value) + value % 101 / 10.0 AS y FROM generate_series(1, 12000) t(value)";

const TRAININGS: &[(&str, &str)] = &[
    ("logistic_regression PREDICT yes OPTIONS (reg_param = 0.001)", "a, b, c, d, w, yes"),
    (
        "logistic_regression PREDICT yes WEIGHT BY weight SPLIT RANDOM 0.2 OPTIONS (solver = 'lbfgs', reg_param = 0.01)",
        "a, b, c, w, yes, weight",
    ),
    ("logistic_regression PREDICT class OPTIONS (reg_param = 0.1)", "a, b, c, d, class"),
    ("linear_regression PREDICT y", "a, b, c, d, y"),
    ("linear_regression PREDICT y OPTIONS (solver = 'lbfgs', reg_param = 0.1)", "a, b, c, w, y"),
    ("kmeans OPTIONS (k = 4)", "a, b, c"),
];

/// What DESCRIBE MODEL says of sums that a GPU took, and of those that were left to the CPU.
const SINGLE: &str = "computed in single precision on gpu (";
const EXACT: &str = "their cross products were taken on the CPU";

/// Real rows, whose columns are not independent: categories that cover all rows, without a penalty; measures of one thing;
/// outliers. Numbers in units of their deviations, so that weights tell how much they matter. Each with its columns, its file,
/// and whether its sums are a GPU's and the CPU's.
const REAL: &[(&str, &str, &str, (bool, bool))] = &[
    (
        "logistic_regression PREDICT survived",
        "survived, pclass, sex, age / 14.5 AS age, sibsp, parch, fare / 50 AS fare, embarked",
        "titanic",
        (true, false),
    ),
    (
        "logistic_regression PREDICT survived",
        "survived, sex, age / 14.5 AS age, fare / 50 AS fare, round(fare / 2.5) / 20 AS about",
        "titanic",
        (true, false),
    ),
    (
        "logistic_regression PREDICT diagnosis OPTIONS (reg_param = 0.01)",
        "diagnosis, mean_radius / 3.5 AS radius, mean_perimeter / 24 AS perimeter, mean_area / 350 AS area, mean_texture / 4.3 AS \
         texture, worst_radius / 4.8 AS worst, mean_concavity / 0.08 AS concavity",
        "breast_cancer",
        (true, false),
    ),
    ("logistic_regression PREDICT species OPTIONS (reg_param = 0.01)", "*", "penguins", (true, false)),
    ("linear_regression PREDICT progression", "*", "diabetes", (true, false)),
    (
        "linear_regression PREDICT fare",
        "fare, distance, 2.0 * distance + 1.0 AS twice, passengers, payment",
        "taxis",
        (false, true),
    ),
    (
        "logistic_regression PREDICT long OPTIONS (reg_param = 0.01, elastic_net_param = 1.0)",
        "distance > 3 AS long, fare / 11 AS fare, fare / 11 + 1.0 AS same, tip, payment",
        "taxis",
        (true, true),
    ),
];

fn software() -> bool {
    std::env::var("SINEW_GPU_ALLOW_SOFTWARE").is_ok()
}

/// Whether there is an adapter; without one it says so.
fn there_is_one() -> bool {
    let found = sinew_ml::gpu::adapters().iter().any(|adapter| software() || !adapter.software);
    if !found {
        assert!(std::env::var("SINEW_REQUIRE_GPU").is_err(), "SINEW_REQUIRE_GPU is set, and there is no adapter");
        eprintln!("NOT TESTED: trainings on a GPU, because there is no Vulkan adapter");
    }
    found
}

fn session() -> Session {
    let mut options = SessionOptions::in_memory();
    options.set("gpu_allow_software", "gpu_allow_software", if software() { "true" } else { "false" }).unwrap();
    Session::embedded(options.with_threads(2).unwrap()).unwrap()
}

/// A session with the table `rows`, where there is an adapter.
async fn with_rows() -> Option<Session> {
    if !there_is_one() {
        return None;
    }
    let session = session();
    run(&session, &format!("CREATE TABLE rows AS {ROWS}")).await.unwrap();
    Some(session)
}

/// A training's statement; the options it has stay.
fn statement(model: &str, (family, columns): (&str, &str), device: &str, from: &str) -> String {
    let family = match family.split_once("OPTIONS (") {
        Some((before, options)) => format!("{before}OPTIONS (device = '{device}', {options}"),
        None => format!("{family} OPTIONS (device = '{device}')"),
    };
    format!("TRAIN MODEL {model} USING {family} AS SELECT {columns} FROM {from}")
}

/// Every number of a result, row by row.
fn numbers(batches: &[RecordBatch]) -> Vec<f64> {
    let numeric = |batch: &RecordBatch, row: usize| -> Vec<f64> {
        let columns = batch.columns().iter().filter(|c| c.data_type() == &DataType::Float64);
        columns.map(|column| number(column.as_ref(), row)).collect()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).flat_map(move |row| numeric(batch, row))).collect()
}

fn texts(batches: &[RecordBatch], name: &str) -> Vec<String> {
    let text = |batch: &RecordBatch| -> Vec<String> {
        let column = datafusion::arrow::compute::cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        let strings = datafusion::arrow::array::AsArray::as_string::<i32>(&column).clone();
        strings.iter().map(|s| s.unwrap_or_default().to_string()).collect()
    };
    batches.iter().flat_map(text).collect()
}

/// The last loss of a report.
fn loss(report: &[RecordBatch]) -> f64 {
    let batch = report.iter().rfind(|batch| batch.num_rows() > 0).unwrap();
    number(batch.column_by_name("loss").unwrap().as_ref(), batch.num_rows() - 1)
}

async fn agree(session: &Session, cluster: bool) {
    let file = |name: &str| format!("'{}'", sinew_integration_tests::file(&format!("examples/data/{name}.csv")));
    let made = TRAININGS.iter().map(|(family, columns)| (*family, *columns, "rows".to_string(), (true, false)));
    let real = REAL.iter().map(|(family, columns, name, says)| (*family, *columns, file(name), *says));
    for (i, (family, columns, from, says)) in made.chain(real).enumerate() {
        let (training, from) = ((family, columns), from.as_str());
        let [cpu, gpu] = ["cpu", "gpu"].map(|device| statement(&format!("{device}{i}"), training, device, from));
        let on_cpu = run(session, &cpu).await.unwrap_or_else(|e| panic!("{cpu}\n{e}"));
        let on_gpu = run(session, &gpu).await.unwrap_or_else(|e| panic!("{gpu}\n{e}"));
        let devices = texts(&on_gpu, "device");
        assert!(!says.0 || devices.iter().any(|device| device.contains("gpu (")), "{gpu}: {devices:?}");
        assert!(texts(&on_cpu, "device").iter().all(|device| device.starts_with("cpu (")), "{cpu}");
        let (a, b) = (loss(&on_cpu), loss(&on_gpu));
        assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "{gpu}: loss {b}, on the CPU {a}");
        if training.0.starts_with("kmeans") {
            continue;
        }
        let weights = |device: &str| format!("SELECT * FROM ML.WEIGHTS(MODEL {device}{i})");
        let expected = numbers(&run(session, &weights("cpu")).await.unwrap());
        let found = numbers(&run(session, &weights("gpu")).await.unwrap());
        assert!(expected.len() == found.len() && !found.is_empty());
        for (a, b) in expected.iter().zip(&found) {
            assert!(
                (a - b).abs() <= 1e-4 * a.abs().max(1.0) || (a.is_nan() && b.is_nan()),
                "{gpu}: {b}, on the CPU {a}"
            );
        }
        let described = texts(&run(session, &format!("DESCRIBE MODEL gpu{i}")).await.unwrap(), "value").join("\n");
        assert_eq!((described.contains(SINGLE), described.contains(EXACT)), says, "{cluster} {gpu} {described}");
        assert!(
            !described.contains("gave up") && !described.contains("had nothing to do"),
            "{cluster} {gpu} {described}"
        );
        metrics_agree(session, &format!("cpu{i}"), &format!("SELECT {columns} FROM {from}")).await;
    }
}

/// The metrics of one model over scores of both devices.
async fn metrics_agree(session: &Session, model: &str, query: &str) {
    let mut metrics = Vec::new();
    for device in ["cpu", "gpu"] {
        let sql = format!("SELECT * FROM ML.EVALUATE(MODEL {model}, ({query}), STRUCT('{device}' AS device))");
        metrics.push(numbers(&run(session, &sql).await.unwrap_or_else(|e| panic!("{sql}\n{e}"))));
        let plan = texts(&run(session, &format!("EXPLAIN ANALYZE {sql}")).await.unwrap(), "plan").join("\n");
        let there = plan.contains("ScoreExec: scores[") && plan.contains(&format!("device={device}"));
        assert!(there, "{plan}");
    }
    assert!(metrics[0].len() == metrics[1].len() && metrics[0].len() >= 4, "{metrics:?}");
    for (a, b) in metrics[0].iter().zip(&metrics[1]) {
        // A row on the border between two classes may change sides.
        assert!((a - b).abs() <= 2e-4 * a.abs().max(1.0) || (a.is_nan() && b.is_nan()), "{model}: {metrics:?}");
    }
}

/// Networks over the handwritten digits: step for step they part from the CPU's by rounding, so it is how good they are
/// that agrees.
async fn networks_agree(session: &Session) {
    let digits = sinew_integration_tests::file("examples/data/digits.csv");
    run(session, &format!("CREATE TABLE digits AS SELECT * FROM '{digits}'")).await.unwrap();
    for (solver, more) in [("adam", "learn_rate = 0.01, dropout = 0.1"), ("lbfgs", "reg_param = 0.001")] {
        let mut accuracy = Vec::new();
        for device in ["cpu", "gpu"] {
            let options = format!("hidden_units = [24], solver = '{solver}', max_iter = 25, shards = 2, {more}");
            let train = format!(
                "TRAIN MODEL net_{device} USING mlp_classifier PREDICT digit SPLIT RANDOM 0.2 \
                 OPTIONS (device = '{device}', {options}) AS SELECT * FROM digits"
            );
            let report = run(session, &train).await.unwrap_or_else(|e| panic!("{train}\n{e}"));
            let devices = texts(&report, "device");
            let used = devices.iter().any(|device| device.contains("gpu ("));
            assert!(used == (device == "gpu"), "{train}: {devices:?}");
            let evaluated = run(session, &format!("SELECT * FROM ML.EVALUATE(MODEL net_{device}, TABLE digits)")).await;
            let batches = evaluated.unwrap_or_else(|e| panic!("{e}"));
            accuracy.push(number(batches[0].column_by_name("accuracy").unwrap().as_ref(), 0));
        }
        metrics_agree(session, "net_gpu", "SELECT * FROM digits").await;
        assert!(accuracy[0] > 0.8 && (accuracy[0] - accuracy[1]).abs() < 0.03, "{solver}: {accuracy:?}");
        let described = texts(&run(session, "DESCRIBE MODEL net_gpu").await.unwrap(), "value").join("\n");
        assert!(described.contains(SINGLE), "{described}");
        assert!(!described.contains("gave up"), "{described}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_agree_embedded() {
    if let Some(session) = with_rows().await {
        agree(&session, false).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_agree_embedded() {
    if there_is_one() {
        networks_agree(&session()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_agree_on_a_cluster_of_two() {
    if !there_is_one() {
        return;
    }
    let mut cluster = Cluster::start(0);
    let flags: &[&str] = if software() { &["--gpu-allow-software", "true"] } else { &[] };
    cluster.add_executor_with(flags);
    cluster.add_executor_with(flags);
    cluster.wait_for(2);
    let session = cluster.session().await;
    run(&session, &format!("CREATE TABLE rows AS {ROWS}")).await.unwrap();
    agree(&session, true).await;
    networks_agree(&session).await;
    let metric = |name: &str| cluster.metric(name).unwrap();
    assert!(metric("sinew_gpu_folds_total") > 0.0 && metric("sinew_gpu_busy_seconds_total") > 0.0);
    assert!(metric("sinew_gpu_uploaded_bytes_total") > 12_000.0);
    assert_eq!(metric("sinew_gpu_fallbacks_total"), 0.0);
    assert!(metric("sinew_gpu_resident_bytes") > 0.0);
    let devices = run(&session, "SHOW DEVICES").await.unwrap();
    let (processes, states) = (texts(&devices, "process"), texts(&devices, "state"));
    let folds = texts(&devices, "folds");
    // The rows are one file, which one of them folds.
    let busy = |i: &usize| processes[*i].starts_with("executor ") && folds[*i] != "0" && states[*i] == "ready";
    assert!((0..processes.len()).any(|i| busy(&i)), "{processes:?} {states:?} {folds:?}");
    let analyzed = format!("EXPLAIN ANALYZE {}", statement("analyzed", TRAININGS[0], "gpu", "rows"));
    let plan = texts(&run(&session, &analyzed).await.unwrap(), "plan").join("\n");
    assert!(plan.contains("gpu_calls=") && plan.contains("gpu_uploaded_bytes="), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_lists_its_devices_and_decides_by_its_own_rows() {
    let cluster = Cluster::start(2);
    let session = cluster.session().await;
    // Two files, one for each.
    run(&session, &format!("CREATE TABLE rows AS {ROWS}; INSERT INTO rows {ROWS}")).await.unwrap();
    run(&session, &statement("m", TRAININGS[0], "auto", "rows")).await.unwrap();
    let rows_of = |executor: usize| -> u64 {
        let log = cluster.log_of(executor);
        let line = log
            .lines()
            .find(|line| line.contains("[auto: too little work for a GPU] for "))
            .unwrap_or_else(|| panic!("{log}"));
        line.rsplit_once(" for ").unwrap().1.trim_end_matches(" rows").parse().unwrap()
    };
    let (one, other) = (rows_of(0), rows_of(1));
    assert!(one > 1000 && other > 1000 && (24_000..=24_001).contains(&(one + other)), "{one} and {other}");
    let devices = run(&session, "SHOW DEVICES").await.unwrap();
    let processes = texts(&devices, "process");
    let processors = texts(&devices, "kind").iter().filter(|kind| *kind == "cpu").count();
    assert_eq!((processes[0].as_str(), processors), ("here", 3), "{processes:?}");
    assert_eq!(cluster.metric("sinew_gpu_folds_total"), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_analyze_says_what_a_gpu_cost() {
    let Some(session) = with_rows().await else { return };
    let analyze = async |device: &str| {
        let sql = format!("EXPLAIN ANALYZE {}", statement("m", TRAININGS[1], device, "rows"));
        texts(&run(&session, &sql).await.unwrap(), "plan").join("\n")
    };
    let gpu = analyze("gpu").await;
    for name in ["gpu_calls=", "gpu_uploads=", "gpu_uploaded_bytes=", "gpu_busy=", "gpu_fallbacks=0", "cpu_calls="] {
        assert!(gpu.contains(name), "no {name} in {gpu}");
    }
    let cpu = analyze("cpu").await;
    assert!(cpu.contains("cpu_calls=") && !cpu.contains("gpu_calls"), "{cpu}");
}

#[tokio::test(flavor = "multi_thread")]
async fn predictions_run_where_the_call_the_session_or_the_model_says() {
    let Some(session) = with_rows().await else { return };
    run(&session, &statement("m", TRAININGS[2], "cpu", "rows")).await.unwrap();
    run(&session, &statement("g", TRAININGS[2], "gpu", "rows")).await.unwrap();
    let plan = async |sql: &str| {
        let found = run(&session, &format!("EXPLAIN ANALYZE {sql}")).await.unwrap_or_else(|e| panic!("{sql}\n{e}"));
        texts(&found, "plan").join("\n")
    };
    let by_call = plan("SELECT * FROM ML.PREDICT(MODEL m, TABLE rows, STRUCT('gpu' AS device))").await;
    assert!(by_call.contains("device=gpu (") && by_call.contains("[device = 'gpu']"), "{by_call}");
    for name in ["gpu_calls=", "gpu_uploaded_bytes=", "gpu_busy=", "gpu_fallbacks=0", "cpu_calls=0"] {
        assert!(by_call.contains(name), "no {name} in {by_call}");
    }
    let usual = "SELECT PREDICT(m, *), PREDICT_PROBA(m, 1, *) FROM rows";
    assert!(plan(usual).await.contains("[device = 'cpu']"));
    let by_model = plan("SELECT avg(PREDICT_PROBA(g, 2, *)) FROM rows WHERE PREDICT(g, *) = 1").await;
    assert!(by_model.contains("device=gpu (") && by_model.contains("gpu_calls="), "{by_model}");
    run(&session, "SET sinew.device = 'cpu'").await.unwrap();
    let by_session = plan("SELECT PREDICT(g, *) FROM rows").await;
    assert!(by_session.contains("device=cpu (") && !by_session.contains("gpu_calls="), "{by_session}");
    // The same rows, one by one.
    let rows = |device: &str| {
        format!(
            "SELECT a, b, c, predicted_class FROM ML.PREDICT(MODEL m, TABLE rows, STRUCT('{device}' AS device)) \
             ORDER BY a, b, c"
        )
    };
    let [cpu, gpu] = [run(&session, &rows("cpu")).await.unwrap(), run(&session, &rows("gpu")).await.unwrap()];
    let (cpu, gpu) = (texts(&cpu, "predicted_class"), texts(&gpu, "predicted_class"));
    let other = cpu.iter().zip(&gpu).filter(|(a, b)| a != b).count();
    assert!(cpu.len() == 12_000 && gpu.len() == 12_000 && other <= 2, "{other} rows differ");
    let wrong = run(&session, "SELECT * FROM ML.PREDICT(MODEL m, TABLE rows, STRUCT('none' AS device))").await;
    assert!(wrong.unwrap_err().contains("SINEW-2015"));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_show_devices_say_what_is_there() {
    let session = session();
    run(&session, &format!("CREATE TABLE rows AS {ROWS}")).await.unwrap();
    let network = "EXPLAIN TRAIN MODEL m USING mlp_classifier PREDICT yes OPTIONS (hidden_units = [4096, 4096]) \
                   AS SELECT a, b, c, yes FROM rows";
    let network = texts(&run(&session, network).await.unwrap(), "plan").join("\n");
    // Few rows, but many operations of each.
    assert!(!network.contains("too little work for a GPU"), "{network}");
    let explain = |device: &str| format!("EXPLAIN {}", statement("m", TRAININGS[0], device, "rows"));
    let plan = |batches: Vec<RecordBatch>| texts(&batches, "plan").join("\n");
    let auto = plan(run(&session, &explain("auto")).await.unwrap());
    assert!(auto.contains("[auto: too little work for a GPU]"), "{auto}");
    let cpu = plan(run(&session, &explain("cpu")).await.unwrap());
    assert!(cpu.contains("[device = 'cpu']"), "{cpu}");
    // An EXPLAIN shows the error of a plan in its place.
    let wrong = plan(run(&session, &explain("no such adapter")).await.unwrap());
    assert!(wrong.contains("SINEW-2015"), "{wrong}");
    assert!(wrong.contains("named like 'no such adapter'") || !there_is_one(), "{wrong}");
    if there_is_one() {
        let gpu = plan(run(&session, &explain("gpu")).await.unwrap());
        assert!(gpu.contains("device=gpu (") && gpu.contains("[device = 'gpu']"), "{gpu}");
    }
    let devices = run(&session, "SHOW DEVICES").await.unwrap();
    assert_eq!(texts(&devices, "name")[0], "cpu");
    assert!(there_is_one() == texts(&devices, "state").iter().skip(1).any(|state| state == "ready"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_with_nothing_to_do_says_why() {
    let Some(session) = with_rows().await else { return };
    let training = ("linear_regression PREDICT y", "a, w, y");
    run(&session, &statement("m", training, "gpu", "rows")).await.unwrap();
    let described = run(&session, "DESCRIBE MODEL m").await.unwrap();
    let of = |property: &str| {
        let pairs = texts(&described, "property").into_iter().zip(texts(&described, "value"));
        pairs.filter(|(name, _)| name == property).map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(of("device"), ["cpu"]);
    let warning = of("warning").join("\n");
    assert!(warning.contains("had nothing to do") && warning.contains("a feature has 23 categories"), "{warning}");
    run(&session, &statement("m", TRAININGS[0], "gpu", "rows")).await.unwrap();
    let described = run(&session, "DESCRIBE MODEL m").await.unwrap();
    let (names, values) = (texts(&described, "property"), texts(&described, "value"));
    let at = |property: &str| names.iter().position(|name| name == property).map(|at| values[at].as_str());
    assert!(at("device").unwrap().starts_with("gpu (") && at("note").unwrap().contains(SINGLE), "{values:?}");
    assert_eq!(at("warning"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn software_is_no_gpu_unless_it_is_allowed() {
    if sinew_ml::gpu::adapters().iter().any(|adapter| !adapter.software) {
        return;
    }
    let session = Session::embedded(SessionOptions::in_memory()).unwrap();
    run(&session, &format!("CREATE TABLE rows AS {ROWS}")).await.unwrap();
    let refused = run(&session, &statement("m", TRAININGS[0], "gpu", "rows")).await.unwrap_err();
    assert!(refused.contains("SINEW-2015") && refused.contains("device = 'gpu'"), "{refused}");
    let misspelt = run(&session, &statement("m", TRAININGS[0], "gpuu", "rows")).await.unwrap_err();
    assert!(misspelt.contains("SINEW-2015") && !misspelt.contains("ALLOW_SOFTWARE"), "{misspelt}");
    run(&session, "SET sinew.device = 'gpu'").await.unwrap();
    let usual = run(&session, "TRAIN MODEL m USING kmeans AS SELECT a FROM rows").await.unwrap_err();
    assert!(usual.contains("SINEW-2015"), "{usual}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_outlives_its_device() {
    let Some(session) = with_rows().await else { return };
    let runtime = session.context().state().config().get_extension::<TrainRuntime>().unwrap();
    let training =
        ("logistic_regression PREDICT yes OPTIONS (solver = 'gd', max_iter = 40, tol = 0)", "a, b, c, d, yes");
    run(&session, &statement("m", training, "cpu", "rows")).await.unwrap();
    let gpu = runtime.devices.gpu(None).await.unwrap();
    let before = gpu.gpu().stats().folds.load(std::sync::atomic::Ordering::Relaxed);
    let statements = statement("lost", training, "gpu", "rows");
    let running = run(&session, &statements);
    let destroy = async {
        // In the middle of the run.
        for _ in 0..60_000 {
            if gpu.gpu().stats().folds.load(std::sync::atomic::Ordering::Relaxed) >= before + 5 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        gpu.gpu().destroy().await;
    };
    let (report, ()) = tokio::join!(running, destroy);
    let devices = texts(&report.unwrap(), "device");
    assert!(devices.first().unwrap().contains("gpu ("), "{devices:?}");
    assert!(devices.last().unwrap().starts_with("cpu ("), "{devices:?}");
    let described = texts(&run(&session, "DESCRIBE MODEL lost").await.unwrap(), "value").join("\n");
    assert_eq!(described.matches("gave up: the device was lost").count(), 1, "{described}");
    let weights = |model: &str| format!("SELECT * FROM ML.WEIGHTS(MODEL {model})");
    let expected = numbers(&run(&session, &weights("m")).await.unwrap());
    let found = numbers(&run(&session, &weights("lost")).await.unwrap());
    for (a, b) in expected.iter().zip(&found) {
        assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0) || (a.is_nan() && b.is_nan()), "{b}, on the CPU {a}");
    }
}

#[test]
fn a_process_that_used_a_gpu_ends_well() {
    if !there_is_one() {
        return;
    }
    // A driver that takes itself apart beside a thread in use brings a process down now and then.
    let training = "TRAIN MODEL m USING logistic_regression PREDICT y OPTIONS (device = 'gpu') SPLIT NONE \
        AS SELECT sin(value) AS x, value % 2 AS y FROM generate_series(1, 2000) t(value)";
    for _ in 0..12 {
        let mut command = std::process::Command::new(binary("sinew"));
        let output = command.args(["--warehouse", "memory://", "--format", "csv", "-c", training]).output().unwrap();
        let (rows, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && rows.contains("gpu ("), "{}: {rows}{errors}", output.status);
    }
}
