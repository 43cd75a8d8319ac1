//! The logical node of a training: a query below, report rows above.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::MlError;
use crate::training::{TrainSpec, report};

/// `TRAIN MODEL` over the rows of its input.
#[derive(Clone, Debug)]
pub struct TrainNode {
    /// What is to be trained.
    pub spec: Arc<TrainSpec>,
    /// The training query.
    pub input: LogicalPlan,
    schema: DFSchemaRef,
}

impl TrainNode {
    /// A training of `spec` over `input`.
    ///
    /// # Errors
    /// Never: the report's schema is valid.
    pub fn new(spec: Arc<TrainSpec>, input: LogicalPlan) -> Result<Self> {
        let schema = Arc::new(DFSchema::try_from(report::schema().as_ref().clone())?);
        Ok(Self { spec, input, schema })
    }
}

impl PartialEq for TrainNode {
    fn eq(&self, other: &Self) -> bool {
        self.spec == other.spec && self.input == other.input
    }
}

impl Eq for TrainNode {}

impl Hash for TrainNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spec.run.hash(state);
        self.input.hash(state);
    }
}

impl PartialOrd for TrainNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for TrainNode {
    fn name(&self) -> &str {
        "TrainModel"
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
        write!(f, "TrainModel: {} using {}", self.spec.model, self.spec.family)
    }

    fn with_exprs_and_inputs(&self, _exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            (Some(input), true) => Self::new(Arc::clone(&self.spec), input),
            _ => Err(MlError::Internal("a training has one input".into()).into()),
        }
    }

    /// Every column of the query is used, whatever is read of the report.
    fn necessary_children_exprs(&self, _output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }
}
