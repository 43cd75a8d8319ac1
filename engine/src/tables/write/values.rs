//! The rows of an INSERT before they are written: casts are ours, so that their errors name the column.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Cast, Expr, LogicalPlan, Projection};

use super::target::{NOT_NULL, no_cast, rejected};
use crate::error::Result;

/// The input of an INSERT without the casts that DataFusion put on top of the query: [`Target::fit`] casts.
///
/// [`Target::fit`]: super::Target::fit
///
/// # Errors
/// When a value that is written in the statement does not fit its column; the text names it.
pub fn uncast(table: &str, schema: &SchemaRef, input: &LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Projection(projection) = input else { return Ok(input.clone()) };
    let expressions: Vec<Expr> = projection.expr.iter().map(without_cast).collect();
    check_values(table, schema, &expressions, &projection.input)?;
    Ok(LogicalPlan::Projection(Projection::try_new(expressions, projection.input.clone())?))
}

/// `CAST(column AS type) AS name` becomes `column AS name`.
fn without_cast(expression: &Expr) -> Expr {
    if let Expr::Alias(alias) = expression
        && let Expr::Cast(Cast { expr, .. }) = alias.expr.as_ref()
        && matches!(expr.as_ref(), Expr::Column(_))
    {
        return expr.as_ref().clone().alias(&alias.name);
    }
    expression.clone()
}

/// Looks at literals, which DataFusion would cast while it plans, with an error that names no column.
fn check_values(table: &str, schema: &SchemaRef, expressions: &[Expr], input: &LogicalPlan) -> Result<()> {
    let LogicalPlan::Values(values) = input else { return Ok(()) };
    for (field, expression) in schema.fields().iter().zip(expressions) {
        let column = match expression {
            Expr::Alias(alias) => alias.expr.as_ref(),
            other => other,
        };
        let Expr::Column(column) = column else { continue };
        let Some(at) = values.schema.maybe_index_of_column(column) else { continue };
        let data_type = values.schema.field(at).data_type();
        for (row, value) in values.values.iter().enumerate() {
            let literal = match &value[at] {
                Expr::Cast(Cast { expr, .. }) => expr.as_ref(),
                other => other,
            };
            let Expr::Literal(literal, _) = literal else { continue };
            let reject = |reason: String| rejected(table, field.name(), format!("row {}: {reason}", row + 1));
            if literal.is_null() && !field.is_nullable() {
                return Err(reject(NOT_NULL.into()));
            }
            literal.cast_to(data_type).map_err(|e| reject(no_cast(&e)))?;
        }
    }
    Ok(())
}
