//! Functions of one model as columns beside those of the input.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::Field;
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::error::MlError;

/// The input's columns, and behind them the results of calls: of one model, with the same arguments, on one device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScoreNode {
    /// The calls.
    pub calls: Vec<Expr>,
    /// Names of their columns; they stay when an optimizer rewrites a call's arguments.
    pub names: Vec<String>,
    /// The rows.
    pub input: LogicalPlan,
    schema: DFSchemaRef,
}

impl ScoreNode {
    /// These calls over `input`, with a name for each.
    ///
    /// # Errors
    /// When a call does not suit the input.
    pub fn new(calls: Vec<Expr>, names: Vec<String>, input: LogicalPlan) -> Result<Self> {
        let schema = input.schema();
        let mut fields: Vec<_> =
            schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for (call, name) in calls.iter().zip(&names) {
            let (_, field) = call.to_field(schema)?;
            fields.push((None, Arc::new(Field::new(name, field.data_type().clone(), true))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, schema.metadata().clone())?);
        Ok(Self { calls, names, input, schema })
    }

    /// Whether a call is among its own.
    pub fn has(&self, call: &Expr) -> bool {
        self.calls.contains(call)
    }
}

impl PartialOrd for ScoreNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for ScoreNode {
    fn name(&self) -> &str {
        "Score"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.calls.clone()
    }

    /// Filters over the input's own columns go below: fewer rows are scored then.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.names.iter().cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Score: {}", self.calls.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match (inputs.pop(), inputs.is_empty()) {
            // Optimizers keep the names of what they rewrite by an alias; the columns have names of their own.
            (Some(input), true) => Self::new(exprs.into_iter().map(Expr::unalias).collect(), self.names.clone(), input),
            _ => Err(MlError::Internal("a scoring has one input".into()).into()),
        }
    }

    /// The input's columns that are read above; those that the calls read are added by the optimizer.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let own = self.input.schema().fields().len();
        Some(vec![output_columns.iter().copied().filter(|column| *column < own).collect()])
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }
}
