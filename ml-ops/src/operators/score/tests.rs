//! Functions of models leave their expressions, are computed once, and give what they gave inside.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::Session;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::{Expr, LogicalPlan, col, lit};
use datafusion::optimizer::Optimizer;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::physical_planner::{DefaultPhysicalPlanner, PhysicalPlanner};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::DefaultPhysicalExtensionCodec;

use super::{LiftScores, ScoreExec, ScorePlanner};
use crate::device::Device;
use crate::family::{Tensor, find};
use crate::functions::{Called, ModelFunction};
use crate::kernels::Cpu;
use crate::model::Model;
use crate::model::testing::{label, model, number, text};
use crate::operators::{Local, SinewPhysicalCodec};
use crate::params::Params;
use crate::runtime::TrainRuntime;
use crate::store::BlockStore;

#[derive(Debug)]
struct Planner;

#[async_trait]
impl QueryPlanner for Planner {
    async fn create_physical_plan(
        &self,
        plan: &LogicalPlan,
        state: &dyn Session,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        let score = ScorePlanner { usual: |_| Ok(Device::Auto) };
        let planner = DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(score)]);
        planner.create_physical_plan(plan, state).await
    }
}

/// A session that lifts scores, or leaves functions where they are.
fn session(lifts: bool) -> SessionContext {
    let runtime = TrainRuntime::new(Arc::new(Cpu::new()), Arc::new(BlockStore::default()), Arc::new(Local));
    let config = SessionConfig::new().with_target_partitions(2).with_extension(Arc::new(runtime));
    let mut rules = Optimizer::default().rules;
    if lifts {
        rules.push(Arc::new(LiftScores));
    }
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_optimizer_rules(rules)
        .with_query_planner(Arc::new(Planner));
    let context = SessionContext::new_with_state(state.build());
    let x: Vec<Option<f64>> = (0..50).map(|i| (i % 7 != 3).then_some(f64::from(i) - 25.0)).collect();
    let c: Vec<&str> = (0..50).map(|i| ["a", "b", "z"][i % 3]).collect();
    let y: Vec<&str> = (0..50).map(|i| if i > 20 { "yes" } else { "no" }).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("x", Arc::new(Float64Array::from(x))),
        ("c", Arc::new(StringArray::from(c))),
        ("y", Arc::new(StringArray::from(y))),
    ];
    context.register_batch("t", RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    context
}

fn churn(device: Option<Device>) -> Arc<Model> {
    let features = vec![number("x", 0.5), text("c", &["a", "b"], false)];
    let mut model = model("run-1", features, Some(label("y", "Utf8", &["no", "yes"])));
    let family = find("logistic_regression").unwrap();
    model.manifest.family = family.name().into();
    model.manifest.params = Params::resolve(family.name(), family.params(), &[]).unwrap();
    model.manifest.device = device;
    let tensor = |data: &[f64], shape: &[usize]| Tensor { shape: shape.to_vec(), data: data.to_vec() };
    model.weights = [
        ("coefficients".to_string(), tensor(&[0.3, 0.5, -0.5], &[3])),
        ("intercept".to_string(), tensor(&[0.1], &[1])),
    ]
    .into_iter()
    .collect();
    Arc::new(model)
}

fn call(function: ModelFunction, x: Expr) -> Expr {
    function.scalar(&churn(None)).unwrap().call(vec![x, col("c")])
}

fn predicted() -> Expr {
    call(ModelFunction::PredictLabel { threshold: None }, col("x"))
}

fn probability(x: Expr) -> Expr {
    call(ModelFunction::PredictProba { class: None }, x)
}

async fn rows(frame: DataFrame) -> String {
    pretty_format_batches(&frame.collect().await.unwrap()).unwrap().to_string()
}

async fn plan(frame: DataFrame) -> String {
    let plan = frame.create_physical_plan().await.unwrap();
    displayable(plan.as_ref()).indent(false).to_string()
}

/// The same query with and without the rule; the plan with it.
async fn lifted(query: impl Fn(DataFrame) -> DataFrame) -> String {
    let mut answers = Vec::new();
    for lifts in [true, false] {
        let table = session(lifts).table("t").await.unwrap();
        answers.push(rows(query(table)).await);
    }
    assert_eq!(answers[0], answers[1]);
    let plan = plan(query(session(true).table("t").await.unwrap())).await;
    // A function that was left stands over columns of the rows; a name holds those of the query.
    assert!(!plan.contains("](x@") && !plan.contains("](CAST(x@"), "{plan}");
    plan
}

#[tokio::test]
async fn functions_of_one_model_are_computed_together() {
    let order = |frame: DataFrame| frame.sort_by(vec![col("x"), col("c")]).unwrap();
    let plan = lifted(|t| {
        let both = vec![col("x"), col("c"), predicted().alias("p"), probability(col("x")) * lit(2.0)];
        order(t.select(both).unwrap())
    })
    .await;
    assert_eq!(plan.matches("ScoreExec").count(), 1, "{plan}");
    assert!(plan.contains("device=cpu (") && plan.contains("[auto: too little work for a GPU]"), "{plan}");
    // Other arguments are another computation.
    let plan = lifted(|t| {
        let other = probability(col("x") + lit(1.0)).alias("q");
        order(t.select(vec![col("x"), col("c"), predicted().alias("p"), other]).unwrap())
    })
    .await;
    assert_eq!(plan.matches("ScoreExec").count(), 2, "{plan}");
}

#[tokio::test]
async fn rows_are_filtered_before_they_are_scored() {
    let plan = lifted(|t| {
        let wanted = col("c").not_eq(lit("z")).and(probability(col("x")).gt(lit(0.5)));
        let kept = t.filter(wanted).unwrap();
        kept.select(vec![col("x"), probability(col("x")).alias("p")]).unwrap().sort_by(vec![col("x")]).unwrap()
    })
    .await;
    assert_eq!(plan.matches("ScoreExec").count(), 1, "{plan}");
    let at = |what: &str| plan.find(what).unwrap_or_else(|| panic!("no {what} in {plan}"));
    assert!(at("> 0.5") < at("ScoreExec") && at("ScoreExec") < at("!= z"), "{plan}");
    // A limit comes before the scores as well.
    let plan = lifted(|t| t.select(vec![col("y"), predicted().alias("p")]).unwrap().limit(0, Some(3)).unwrap()).await;
    assert!(plan.find("ScoreExec") < plan.find("fetch=3"), "{plan}");
}

#[tokio::test]
async fn groups_and_metrics_are_over_scores() {
    use datafusion::functions_aggregate::expr_fn::{avg, count};
    let plan = lifted(|t| {
        let groups = t.aggregate(vec![predicted().alias("p")], vec![avg(probability(col("x"))), count(col("c"))]);
        groups.unwrap().sort_by(vec![col("p")]).unwrap()
    })
    .await;
    assert_eq!(plan.matches("ScoreExec").count(), 1, "{plan}");
    let evaluate = || {
        let evaluate = ModelFunction::Evaluate { threshold: Some(0.4) }.aggregate(&churn(None)).unwrap();
        evaluate.call(vec![col("y"), col("x"), col("c")])
    };
    let plan = lifted(|t| t.aggregate(vec![], vec![evaluate().alias("m")]).unwrap()).await;
    assert!(plan.contains("ScoreExec: scores[run-1]"), "{plan}");
}

#[tokio::test]
async fn calls_that_differ_by_a_cast_are_different_calls() {
    use datafusion::arrow::datatypes::DataType;
    use datafusion::logical_expr::cast;
    let whole = || cast(cast(col("x") / lit(10.0), DataType::Int32), DataType::Float64);
    let plan = lifted(|t| {
        let t = t.filter(probability(col("x")).gt(lit(0.5))).unwrap();
        let both =
            vec![col("x"), probability(col("x")).alias("p"), probability(cast(col("x"), DataType::Float32)).alias("q")];
        t.select(both).unwrap().sort_by(vec![col("x")]).unwrap()
    })
    .await;
    assert_eq!(plan.matches("ScoreExec").count(), 2, "{plan}");
    let all = vec![col("c"), col("x"), probability(whole()).alias("p"), probability(whole() + lit(0.0)).alias("q")];
    lifted(|t| t.select(all.clone()).unwrap().sort_by(vec![col("x"), col("c")]).unwrap()).await;
}

/// A session whose SQL knows `p(x, c)` and `q(x, c)`, the probabilities of both classes.
fn with_functions() -> (SessionContext, impl Fn(&str) -> String) {
    let context = session(true);
    for class in [None, Some("no".to_string())] {
        let udf = ModelFunction::PredictProba { class }.scalar(&churn(None)).unwrap();
        context.register_udf(udf.as_ref().clone());
    }
    let names =
        |sql: &str| sql.replace("p(", "\"predict_proba[run-1]\"(").replace("q(", "\"predict_proba[run-1, no]\"(");
    (context, names)
}

/// Whether a plan of a query over `t` has a scoring, and its answer.
async fn scores(sql: &str) -> (bool, String) {
    let (context, names) = with_functions();
    let frame = context.sql(&names(sql)).await.unwrap();
    let plan = frame.clone().create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(false).to_string();
    (plan.contains("ScoreExec"), rows(frame).await)
}

#[tokio::test]
async fn what_a_condition_guards_stays_behind_it() {
    for (sql, expected) in [
        ("SELECT CASE WHEN x > 0 THEN p(x, c) END FROM t", false),
        ("SELECT CASE WHEN p(x, c) > 0.5 THEN 1 ELSE 0 END FROM t", true),
        ("SELECT coalesce(x, p(x, c)) FROM t", false),
        ("SELECT x > 1 OR p(x, c) > 0.5 FROM t", false),
        ("SELECT count(*) FROM t WHERE x IS NULL OR p(x, c) > 0.5", false),
        ("SELECT count(*) FROM t WHERE x > 1 AND p(x, c) > 0.5", true),
        ("SELECT avg(p(x, c)) FILTER (WHERE x > 1) FROM t", false),
        ("SELECT avg(p(x, c)) FILTER (WHERE q(x, c) > 0.1) FROM t", true),
        ("SELECT p(x + random(), c) > 2 FROM t", false),
        ("SELECT p(1.0, 'a') > 2 FROM t", false),
        ("SELECT x, row_number() OVER (PARTITION BY p(x, c) > 0.5 ORDER BY x) FROM t", true),
        ("SELECT x FROM t WHERE p(x, c) > (SELECT avg(p(x, c)) FROM t)", true),
        ("SELECT p(x, c) FROM t WHERE false", false),
    ] {
        assert_eq!(scores(sql).await.0, expected, "{sql}");
    }
}

#[tokio::test]
async fn parameters_and_later_rewritings_reach_the_arguments() {
    let (there, found) = scores("SELECT p(coalesce(b.x, 0.0), 'a') AS r FROM t LEFT JOIN (SELECT x FROM t WHERE x > 20) b ON t.x = b.x WHERE b.x > 23").await;
    assert!(there && found.matches("0.99").count() >= 1, "{found}");
    let (context, names) = with_functions();
    let run = async |sql: &str| rows(context.sql(&names(sql)).await.unwrap()).await;
    run("PREPARE moved(DOUBLE) AS SELECT p(x, c) AS r FROM (SELECT x + $1 AS x, c FROM t) WHERE x > 20 ORDER BY 1")
        .await;
    let expected = run("SELECT p(x + 1.5, c) AS r FROM t WHERE x + 1.5 > 20 ORDER BY 1").await;
    assert_eq!(run("EXECUTE moved(1.5)").await, expected);
}

#[tokio::test]
async fn a_table_deletes_by_a_model() {
    let (context, names) = with_functions();
    let run = async |sql: &str| rows(context.sql(&names(sql)).await.unwrap()).await;
    run("DELETE FROM t WHERE p(x, c) > 0.5").await;
    assert!(run("SELECT count(*) AS n FROM t WHERE p(x, c) > 0.5").await.contains("| 0 |"));
}

#[tokio::test]
async fn the_query_of_a_training_keeps_its_functions() {
    use crate::operators::TrainNode;
    use datafusion::logical_expr::Extension;
    use datafusion::optimizer::{OptimizerContext, OptimizerRule};
    let query = session(true).table("t").await.unwrap().select(vec![predicted()]).unwrap().into_unoptimized_plan();
    let node = TrainNode::new(Arc::default(), query).unwrap();
    let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
    let after = LiftScores.rewrite(plan.clone(), &OptimizerContext::new()).unwrap();
    assert!(!after.transformed && after.data == plan);
}

#[tokio::test]
async fn a_plan_travels_with_its_model_and_place() {
    let context = session(true);
    let frame = context.table("t").await.unwrap().select(vec![probability(col("x") * lit(2.0))]).unwrap();
    let expected = rows(frame.clone()).await;
    let plan = frame.create_physical_plan().await.unwrap();
    let codec = SinewPhysicalCodec::new(Arc::new(DefaultPhysicalExtensionCodec {}));
    let bytes = physical_plan_to_bytes_with_extension_codec(Arc::clone(&plan), &codec).unwrap();
    let back = physical_plan_from_bytes_with_extension_codec(&bytes, &context.task_ctx(), &codec).unwrap();
    let text = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(true).to_string();
    assert_eq!(text(&plan), text(&back));
    let found = collect(back, context.task_ctx()).await.unwrap();
    assert_eq!(pretty_format_batches(&found).unwrap().to_string(), expected);
}

fn place(plan: &Arc<dyn ExecutionPlan>) -> (Device, bool) {
    match plan.downcast_ref::<ScoreExec>() {
        Some(score) => (score.place().device.clone(), score.place().firm),
        None => place(plan.children()[0]),
    }
}

#[tokio::test]
async fn a_call_then_the_model_say_where() {
    let spec = ModelFunction::PredictLabel { threshold: None };
    let planned = async |device: Option<Device>, model: Option<Device>| {
        let called = Called { function: spec.clone(), device };
        let call = called.scalar(&churn(model)).unwrap().call(vec![col("x"), col("c")]);
        session(true).table("t").await.unwrap().select(vec![call]).unwrap().create_physical_plan().await
    };
    let cpu = planned(Some(Device::Cpu), Some(Device::Gpu)).await.unwrap();
    assert_eq!(place(&cpu), (Device::Cpu, true));
    // This process has no GPU: a model that had one works all the same, a call that wants one does not.
    let model = planned(None, Some(Device::Gpu)).await.unwrap();
    assert_eq!(place(&model), (Device::Gpu, false));
    let shown = displayable(model.as_ref()).indent(false).to_string();
    assert!(shown.contains("[the model was trained with device = 'gpu': this process"), "{shown}");
    assert_eq!(place(&planned(None, None).await.unwrap()), (Device::Auto, false));
    let refused = planned(Some(Device::Gpu), None).await.unwrap_err().to_string();
    assert!(refused.contains("SINEW-2015"), "{refused}");
}
