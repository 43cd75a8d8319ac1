//! Takes functions of models out of expressions.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    Aggregate, BinaryExpr, Expr, Extension, Filter, LogicalPlan, Operator, Projection, Window, WriteOp,
};
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
    match &plan {
        // The weights of a training do not depend on devices of its query: these functions stay on the CPU.
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<TrainNode>() => {
            return Ok(Transformed::no(plan));
        }
        // A table takes the expressions of these out of the plan below, and computes them over its own columns.
        LogicalPlan::Dml(dml) if !matches!(dml.op, WriteOp::Insert(_) | WriteOp::Ctas) => {
            return Ok(Transformed::no(plan));
        }
        _ => {}
    }
    let plan = plan.map_uncorrelated_subqueries(rewrite)?;
    let plan = plan.transform_sibling(|plan| plan.map_children(rewrite))?;
    plan.transform_sibling(|plan| match plan {
        LogicalPlan::Projection(projection) => of_projection(projection),
        LogicalPlan::Filter(filter) => of_filter(filter),
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate),
        LogicalPlan::Window(window) => of_window(window),
        other => Ok(Transformed::no(other)),
    })
}

/// A call of one of our functions whose arguments are columns of the rows it stands over.
fn is_call(expr: &Expr) -> bool {
    let Expr::ScalarFunction(ScalarFunction { func, .. }) = expr else { return false };
    as_model_function(func).is_some() && expr.any_column_refs() && !expr.contains_outer() && !expr.is_volatile()
}

/// The parts of an expression that are computed for every row, where some of them may not be.
fn certain(expr: &Expr) -> Option<Vec<&Expr>> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, .. }) => Some(vec![left]),
        Expr::Case(case) => {
            let first = case.when_then_expr.first().map(|(when, _)| when.as_ref());
            Some(case.expr.iter().map(AsRef::as_ref).chain(first).collect())
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => Some(func.conditional_arguments(args)?.0),
        Expr::HigherOrderFunction(function) => Some(function.func.conditional_arguments(&function.args)?.0),
        Expr::AggregateFunction(AggregateFunction { params, .. }) => Some(vec![params.filter.as_deref()?]),
        Expr::WindowFunction(window) => Some(vec![window.params.filter.as_deref()?]),
        _ => None,
    }
}

/// The calls in some expressions that are computed for every row, each once: what a condition guards stays behind it.
fn calls<'e>(exprs: impl IntoIterator<Item = &'e Expr>) -> Result<Vec<Expr>> {
    let mut found: Vec<Expr> = Vec::new();
    for expr in exprs {
        collect(expr, &mut found)?;
    }
    Ok(found)
}

fn collect(expr: &Expr, found: &mut Vec<Expr>) -> Result<()> {
    if is_call(expr) {
        if !found.contains(expr) {
            found.push(expr.clone());
        }
        return Ok(());
    }
    if let Some(certain) = certain(expr) {
        return certain.into_iter().try_for_each(|part| collect(part, found));
    }
    expr.apply_children(|child| {
        collect(child, found)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

/// An expression in which these calls are columns now.
fn lifted(expr: Expr, calls: &[Expr]) -> Result<Expr> {
    let replaced = |expr: Expr| match calls.contains(&expr) {
        true => Ok(Transformed::new(column(&expr), true, TreeNodeRecursion::Jump)),
        false => Ok(Transformed::no(expr)),
    };
    Ok(expr.transform_down(replaced)?.data)
}

/// The name of a call's column: the call as it is written, casts included.
fn name(call: &Expr) -> String {
    call.to_string()
}

fn column(call: &Expr) -> Expr {
    Expr::Column(Column::new_unqualified(name(call)))
}

/// Whether two different calls are written alike, so that a column's name would not tell them apart.
fn alike(calls: &[Expr]) -> bool {
    (1..calls.len()).any(|i| calls[..i].iter().any(|call| name(call) == name(&calls[i])))
}

/// Whether two calls can be computed together: one model, the same arguments, one device.
fn belong(one: &Expr, other: &Expr) -> bool {
    let (Expr::ScalarFunction(one), Expr::ScalarFunction(other)) = (one, other) else { return false };
    let (Some((f, f_model)), Some((g, g_model))) = (as_model_function(&one.func), as_model_function(&other.func))
    else {
        return false;
    };
    let (f_args, g_args) = (&one.args, &other.args);
    f.device == g.device && f_args == g_args && (Arc::ptr_eq(f_model, g_model) || f_model == g_model)
}

/// `input` with a column for each call that it does not have yet.
fn scored(input: Arc<LogicalPlan>, calls: Vec<Expr>) -> Result<Arc<LogicalPlan>> {
    let mut groups: Vec<Vec<Expr>> = Vec::new();
    for call in calls {
        if score_node(&input).is_some_and(|node| node.has(&call)) {
            continue;
        }
        match groups.iter_mut().find(|group| belong(&group[0], &call)) {
            Some(group) => group.push(call),
            None => groups.push(vec![call]),
        }
    }
    groups.into_iter().try_fold(input, |input, calls| {
        let names = calls.iter().map(name).collect();
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
        && calls.iter().any(|call| node.has(call))
        // A name of its that another call here would take as well.
        && !calls.iter().any(|call| node.names.contains(&name(call)) && !node.has(call))
    {
        return Arc::clone(&projection.input);
    }
    input
}

fn of_projection(projection: Projection) -> Result<Transformed<LogicalPlan>> {
    let calls = calls(&projection.expr)?;
    if calls.is_empty() || alike(&calls) {
        return Ok(Transformed::no(LogicalPlan::Projection(projection)));
    }
    let names = NamePreserver::new_for_projection();
    let keep_name = |expr: Expr| {
        let name = names.save(&expr);
        Ok(name.restore(lifted(expr, &calls)?))
    };
    let exprs = projection.expr.into_iter().map(keep_name).collect::<Result<Vec<_>>>()?;
    let input = below(projection.input, &calls);
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, scored(input, calls)?)?)))
}

/// What needs no scores is filtered first.
fn of_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let calls = calls(split_conjunction(&filter.predicate))?;
    if calls.is_empty() || alike(&calls) {
        return Ok(Transformed::no(LogicalPlan::Filter(filter)));
    }
    let before: Vec<Expr> = filter.input.schema().columns().into_iter().map(Expr::Column).collect();
    let (mut cheap, mut rest) = (Vec::new(), Vec::new());
    for expr in split_conjunction_owned(filter.predicate) {
        match self::calls([&expr])?.is_empty() {
            true => cheap.push(expr),
            false => rest.push(lifted(expr, &calls)?),
        }
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
    let mut evaluations = Vec::new();
    for expr in &aggregate.aggr_expr {
        expr.apply(|expr| {
            if let Expr::AggregateFunction(function) = expr
                && function.params.filter.is_none()
                && let Some((call, function)) = evaluation(function)?
            {
                if !calls.contains(&call) {
                    calls.push(call);
                }
                evaluations.push((expr.clone(), function));
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    if calls.is_empty() || alike(&calls) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let names = NamePreserver::new_for_projection();
    let keep_name = |expr: Expr| {
        let name = names.save(&expr);
        let evaluated = expr.transform_up(|expr| match evaluations.iter().find(|(known, _)| *known == expr) {
            Some((_, function)) => Ok(Transformed::yes(Expr::AggregateFunction(function.clone()))),
            None => Ok(Transformed::no(expr)),
        })?;
        Ok(name.restore(lifted(evaluated.data, &calls)?))
    };
    let groups = aggregate.group_expr.into_iter().map(keep_name).collect::<Result<Vec<_>>>()?;
    let results = aggregate.aggr_expr.into_iter().map(keep_name).collect::<Result<Vec<_>>>()?;
    let input = below(aggregate.input, &calls);
    Ok(Transformed::yes(LogicalPlan::Aggregate(Aggregate::try_new(scored(input, calls)?, groups, results)?)))
}

/// Rows come out with what they had and what the windows add; the scores go.
fn of_window(window: Window) -> Result<Transformed<LogicalPlan>> {
    let calls = calls(&window.window_expr)?;
    if calls.is_empty() || alike(&calls) {
        return Ok(Transformed::no(LogicalPlan::Window(window)));
    }
    let columns: Vec<Expr> = window.schema.columns().into_iter().map(Expr::Column).collect();
    let names = NamePreserver::new_for_projection();
    let keep_name = |expr: Expr| {
        let name = names.save(&expr);
        Ok(name.restore(lifted(expr, &calls)?))
    };
    let exprs = window.window_expr.into_iter().map(keep_name).collect::<Result<Vec<_>>>()?;
    let input = below(window.input, &calls);
    let plan = LogicalPlan::Window(Window::try_new(exprs, scored(input, calls)?)?);
    Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?)))
}
