//! From the logical node of a scoring to its operator, and to the device that it will use.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};
use datafusion::prelude::SessionConfig;

use super::{ScoreExec, ScoreNode, ScorePlace};
use crate::device::{Device, Work};
use crate::error::MlError;
use crate::functions::Prediction;
use crate::runtime::TrainRuntime;

/// Plans [`ScoreNode`] as [`ScoreExec`].
///
/// The device is the one that the call asks for, else that of the session, else that of the model's training, else
/// `auto`.
#[derive(Clone, Copy, Debug)]
pub struct ScorePlanner {
    /// The device of statements that do not say.
    pub usual: fn(&SessionConfig) -> Result<Device, MlError>,
}

#[async_trait]
impl ExtensionPlanner for ScorePlanner {
    async fn plan_extension(
        &self,
        planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        state: &dyn Session,
        context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<ScoreNode>(), physical_inputs) else {
            return Ok(None);
        };
        let mut functions = Vec::with_capacity(node.calls.len());
        let mut arguments: &[Expr] = &[];
        for call in &node.calls {
            let Expr::ScalarFunction(ScalarFunction { func, args }) = call else {
                return Err(MlError::Internal(format!("'{call}' is no function of a model")).into());
            };
            functions.push(Arc::clone(func));
            arguments = args;
        }
        let prediction = Arc::new(Prediction::of(&functions)?);
        let place = self.place(&prediction, input, state.config())?;
        let schema = node.input.schema();
        let physical = |expr: &Expr| planner.create_physical_expr(expr, schema, state, context);
        let arguments = arguments.iter().map(physical).collect::<Result<Vec<_>>>()?;
        let (input, columns) = as_columns(Arc::clone(input), arguments)?;
        let device = shown(&place, state.config()).await?;
        let (own, all) = (schema.fields().len(), input.schema().fields().len());
        let score = ScoreExec::new(input, prediction, node.names.clone(), columns, place)?.shown(device);
        let output = score.schema();
        if own == all {
            return Ok(Some(Arc::new(score)));
        }
        // Arguments that had to be computed end here; every column of the operator stands where it stood below it.
        let kept = (0..own).chain(all..output.fields().len());
        let column = |i: usize| {
            let name = output.field(i).name();
            (Arc::new(Column::new(name, i)) as Arc<dyn PhysicalExpr>, name.clone())
        };
        Ok(Some(Arc::new(ProjectionExec::try_new(kept.map(column).collect::<Vec<_>>(), Arc::new(score))?)))
    }
}

impl ScorePlanner {
    fn place(
        &self,
        prediction: &Prediction,
        input: &Arc<dyn ExecutionPlan>,
        config: &SessionConfig,
    ) -> Result<ScorePlace, MlError> {
        let statistics = StatisticsContext::default().compute(input.as_ref(), &StatisticsArgs::default()).ok();
        let rows = statistics.and_then(|s| s.num_rows.get_value().copied()).map(|rows| rows as u64);
        let scoring = prediction.scoring();
        let work = Work {
            rows,
            columns: scoring.layout.width() as u64,
            outputs: scoring.outputs() as u64,
            passes: 1,
            effort: scoring.effort().map(|effort| (effort, 1)),
            results: scoring.outputs() as u64,
        };
        let asked = prediction.functions().find_map(|called| called.device.clone());
        if let Some(device) = asked {
            return Ok(ScorePlace { device, firm: true, work });
        }
        let usual = (self.usual)(config)?;
        if usual != Device::Auto {
            return Ok(ScorePlace { device: usual, firm: true, work });
        }
        // A model that was trained elsewhere works without that device, too.
        let device = prediction.model().manifest.device.clone().unwrap_or_default();
        Ok(ScorePlace { device, firm: false, work })
    }
}

/// The device as EXPLAIN shows it.
async fn shown(place: &ScorePlace, config: &SessionConfig) -> Result<String> {
    let Some(runtime) = config.get_extension::<TrainRuntime>() else { return Ok("unknown".into()) };
    if runtime.runner.slots().is_some() && place.device != Device::Cpu {
        return Ok(format!("{} [chosen by each executor]", place.device));
    }
    Ok(place.pick(&runtime.devices).await?.to_string())
}

/// An input that has the arguments as columns, behind its own where they are none of those.
fn as_columns(
    input: Arc<dyn ExecutionPlan>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
) -> Result<(Arc<dyn ExecutionPlan>, Vec<usize>)> {
    let schema = input.schema();
    let own = schema.fields().iter().enumerate();
    let mut exprs: Vec<(Arc<dyn PhysicalExpr>, String)> =
        own.map(|(i, field)| (Arc::new(Column::new(field.name(), i)) as _, field.name().clone())).collect();
    let width = exprs.len();
    let mut columns = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument.downcast_ref::<Column>() {
            Some(column) => columns.push(column.index()),
            None => {
                columns.push(exprs.len());
                exprs.push((argument, format!("__argument_{}", exprs.len() - width)));
            }
        }
    }
    if exprs.len() == width {
        return Ok((input, columns));
    }
    Ok((Arc::new(ProjectionExec::try_new(exprs, input)?), columns))
}
