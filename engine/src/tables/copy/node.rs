//! The logical node around a COPY.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::DFSchemaRef;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::Result;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{ExtensionPlanner, PhysicalPlanner};

use super::CopyExec;
use crate::error::SinewError;

/// A COPY whose files appear after its last row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CopyNode {
    /// DataFusion's COPY.
    copy: LogicalPlan,
}

impl CopyNode {
    /// The plan around a COPY.
    pub fn around(copy: LogicalPlan) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(Self { copy }) })
    }
}

impl CopyNode {
    /// Whether the target is one file, by the rule that DataFusion goes by.
    fn writes_one_file(&self) -> bool {
        let LogicalPlan::Copy(copy) = &self.copy else { return false };
        let url = ListingTableUrl::parse(&copy.output_url);
        copy.partition_by.is_empty() && url.is_ok_and(|url| !url.is_collection() && url.file_extension().is_some())
    }
}

impl PartialOrd for CopyNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for CopyNode {
    fn name(&self) -> &str {
        "Copy"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.copy]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.copy.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Copy: all or nothing")
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(copy), true) => Ok(Self { copy }),
            _ => Err(SinewError::Internal("a copy has one input".into()).into()),
        }
    }

    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.copy.schema().fields().len()).collect()])
    }
}

/// Plans [`CopyNode`] as [`CopyExec`].
#[derive(Debug)]
pub struct CopyPlanner;

#[async_trait]
impl ExtensionPlanner for CopyPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        _state: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match (node.as_any().downcast_ref::<CopyNode>(), physical_inputs) {
            (Some(node), [sink]) => {
                let copy = CopyExec::new(Arc::clone(sink));
                Ok(Some(Arc::new(if node.writes_one_file() { copy.into_one_file() } else { copy })))
            }
            _ => Ok(None),
        }
    }
}
