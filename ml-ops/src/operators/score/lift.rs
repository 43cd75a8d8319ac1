//! Takes functions of models out of expressions.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Aggregate, Expr, Extension, Filter, LogicalPlan, Projection};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use super::ScoreNode;
use crate::family::Task;
use crate::functions::{Called, ModelFunction, as_model_aggregate, as_model_function};
use crate::operators::TrainNode;

/// The rule; it comes after all others, so that it sees the expressions as they will be computed.
#[derive(Debug, Default)]
pub struct LiftScores;

impl OptimizerRule for LiftScores {
    fn name(&self) -> &str {
        "lift_scores"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        rewrite(plan)
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    // The weights of a training do not depend on devices of its query: these functions stay on the CPU.
    if let LogicalPlan::Extension(extension) = &plan
        && extension.node.as_any().is::<TrainNode>()
    {
        return Ok(Transformed::no(plan));
    }
    let plan = plan.map_uncorrelated_subqueries(rewrite)?;
    let plan = plan.transform_sibling(|plan| plan.map_children(rewrite))?;
    plan.transform_sibling(|plan| match plan {
        LogicalPlan::Projection(projection) => of_projection(projection),
        LogicalPlan::Filter(filter) => of_filter(filter),
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
        other => Ok(Transformed::no(other)),
    })
}

/// A call of one of our functions whose arguments are columns of the rows it stands over.
fn is_call(expr: &Expr) -> bool {
    let Expr::ScalarFunction(ScalarFunction { func, .. }) = expr else { return false };
    as_model_function(func).is_some() && expr.any_column_refs() && !expr.contains_outer()
}

/// The calls in some expressions, each once.
fn calls<'e>(exprs: impl IntoIterator<Item = &'e Expr>) -> Result<Vec<Expr>> {
    let mut found: Vec<Expr> = Vec::new();
    for expr in exprs {
        expr.apply(|expr| {
            if !is_call(expr) {
                return Ok(TreeNodeRecursion::Continue);
            }
            if !found.contains(expr) {
                found.push(expr.clone());
            }
            Ok(TreeNodeRecursion::Jump)
        })?;
    }
    Ok(found)
}

/// An expression whose calls are columns now.
fn lifted(expr: Expr) -> Result<Expr> {
    let column = |expr: Expr| match is_call(&expr) {
        true => Ok(Transformed::new(column(&expr), true, TreeNodeRecursion::Jump)),
        false => Ok(Transformed::no(expr)),
    };
    Ok(expr.transform_down(column)?.data)
}

fn column(call: &Expr) -> Expr {
    Expr::Column(Column::new_unqualified(call.schema_name().to_string()))
}

/// What calls have in common that are computed together.
fn kind(call: &Expr) -> Option<(&str, Option<&crate::device::Device>, &[Expr])> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = call else { return None };
    let (called, model) = as_model_function(func)?;
    Some((model.manifest.run.as_str(), called.device.as_ref(), args))
}

/// `input` with a column for each call that it does not have yet.
fn scored(input: Arc<LogicalPlan>, calls: Vec<Expr>) -> Result<Arc<LogicalPlan>> {
    let known = score_node(&input).map(|node| node.names.clone()).unwrap_or_default();
    let mut groups: Vec<Vec<Expr>> = Vec::new();
    for call in calls.into_iter().filter(|call| !known.contains(&call.schema_name().to_string())) {
        match groups.iter_mut().find(|group| kind(&group[0]) == kind(&call)) {
            Some(group) => group.push(call),
            None => groups.push(vec![call]),
        }
    }
    groups.into_iter().try_fold(input, |input, calls| {
        let names = calls.iter().map(|call| call.schema_name().to_string()).collect();
        let node = ScoreNode::new(calls, names, Arc::unwrap_or_clone(input))?;
        Ok(Arc::new(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
    })
}

fn score_node(plan: &LogicalPlan) -> Option<&ScoreNode> {
    match plan {
        LogicalPlan::Filter(filter) => score_node(&filter.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// The filter below a projection that only takes off the columns of its calls, which the rows above may use too.
fn below(input: Arc<LogicalPlan>, calls: &[Expr]) -> Arc<LogicalPlan> {
    if let LogicalPlan::Projection(projection) = input.as_ref()
        && projection.expr.iter().all(|expr| matches!(expr, Expr::Column(_)))
        && let LogicalPlan::Filter(_) = projection.input.as_ref()
        && let Some(node) = score_node(&projection.input)
        && calls.iter().any(|call| node.name_of(call).is_some())
    {
        return Arc::clone(&projection.input);
    }
    input
}

fn of_projection(projection: Projection) -> Result<Transformed<LogicalPlan>> {
    let calls = calls(&projection.expr)?;
    if calls.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let names = NamePreserver::new_for_projection();
    let keep_name = |expr: Expr| {
        let name = names.save(&expr);
        Ok(name.restore(lifted(expr)?))
    };
    let exprs = projection.expr.into_iter().map(keep_name).collect::<Result<Vec<_>>>()?;
    let input = below(projection.input, &calls);
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, scored(input, calls)?)?)))
}

/// What needs no scores is filtered first.
fn of_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let calls = calls([&filter.predicate])?;
    if calls.is_empty() {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let before: Vec<Expr> = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
    let (mut cheap, mut rest) = (Vec::new(), Vec::new());
    for expr in split_conjunction_owned(filter.predicate) {
        if self::calls([&expr])?.is_empty() { cheap.push(expr) } else { rest.push(lifted(expr)?) }
    }
    let mut input = filter.input;
    if let Some(cheap) = conjunction(cheap) {
        input = Arc::new(LogicalPlan::Filter(Filter::try_new(cheap, input)?));
    }
    let mut plan = scored(input, calls)?;
    if let Some(rest) = conjunction(rest) {
        plan = Arc::new(LogicalPlan::Filter(Filter::try_new(rest, plan)?));
    }
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(before, plan)?)))
}

/// The scores that an evaluation needs, and the evaluation over them.
fn evaluation(aggregate: &AggregateFunction) -> Result<Option<(Expr, AggregateFunction)>> {
    let Some((called, model)) = as_model_aggregate(&aggregate.func) else { return Ok(None) };
    let ModelFunction::Evaluate { threshold } = called.function else { return Ok(None) };
    let labels = usize::from(model.task()? != Task::Clustering);
    let args = &aggregate.params.args;
    if args.len() <= labels || !args[labels..].iter().any(Expr::any_column_refs) {
        return Ok(None);
    }
    let with = |function: ModelFunction| Called { function, device: called.device.clone() };
    let call = with(ModelFunction::Scores).scalar(model)?.call(args[labels..].to_vec());
    let func = with(ModelFunction::EvaluateScores { threshold }).aggregate(model)?;
    let args = args[..labels].iter().cloned().chain([column(&call)]).collect();
    let params = AggregateFunctionParams { args, ..aggregate.params.clone() };
    Ok(Some((call, AggregateFunction { func, params })))
}

fn of_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut calls = calls(aggregate.group_expr.iter().chain(&aggregate.aggr_expr))?;
    let names = NamePreserver::new_for_projection();
    let mut any = !calls.is_empty();
    let mut keep_name = |expr: Expr| {
        let name = names.save(&expr);
        let evaluated = lifted(expr)?.transform_up(|expr| {
            let Expr::AggregateFunction(function) = &expr else { return Ok(Transformed::no(expr)) };
            let Some((call, function)) = evaluation(function)? else { return Ok(Transformed::no(expr)) };
            any = true;
            if !calls.contains(&call) {
                calls.push(call);
            }
            Ok(Transformed::yes(Expr::AggregateFunction(function)))
        })?;
        Ok(name.restore(evaluated.data))
    };
    let groups = aggregate.group_expr.iter().cloned().map(&mut keep_name).collect::<Result<Vec<_>>>()?;
    let results = aggregate.aggr_expr.iter().cloned().map(&mut keep_name).collect::<Result<Vec<_>>>()?;
    if !any {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let input = below(aggregate.input, &calls);
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(scored(input, calls)?, groups, results)?)))
}
