//! The logical node of a write: a query below, the files it was written to above.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::{Target, WriteExec, target};
use crate::error::SinewError;

/// Writes the rows of its input into files of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WriteNode {
    /// Where to.
    pub target: Arc<Target>,
    /// The rows; their columns are those of the table, by position.
    pub input: LogicalPlan,
    schema: DFSchemaRef,
}

impl WriteNode {
    /// A write of `input`.
    ///
    /// # Errors
    /// Never: the schema is valid.
    pub fn new(target: Arc<Target>, input: LogicalPlan) -> Result<Self> {
        let schema = Arc::new(DFSchema::try_from(target::schema().as_ref().clone())?);
        Ok(Self { target, input, schema })
    }
}

impl PartialOrd for WriteNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WriteNode {
    fn name(&self) -> &str {
        "Write"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Write: {}", self.target.table)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Self::new(Arc::clone(&self.target), input),
            _ => Err(SinewError::Internal("a write has one input".into()).into()),
        }
    }

    /// Every column of the query is written.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}

/// Plans [`WriteNode`] as [`WriteExec`].
#[derive(Debug)]
pub struct WritePlanner;

#[async_trait]
impl ExtensionPlanner for WritePlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _state: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let (Some(node), [input]) = (node.as_any().downcast_ref::<WriteNode>(), physical_inputs) else {
            return Ok(None);
        };
        Ok(Some(Arc::new(WriteExec::new(Arc::clone(&node.target), Arc::clone(input)))))
    }
}
