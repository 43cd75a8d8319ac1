//! What is wrong with an INSERT that cannot be planned: DataFusion's own errors name no column.

use datafusion::arrow::compute::can_cast_types;
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Insert, SetExpr, TableObject};

use super::target::rejected;
use crate::error::SinewError;

/// The error of planning a statement; for an INSERT whose columns and values do not match, one that says which.
pub async fn with_columns(state: &SessionState, statement: &Statement, error: SinewError) -> SinewError {
    let mut statement = statement;
    while let Statement::Explain(explain) = statement {
        statement = &explain.statement;
    }
    let Statement::Statement(statement) = statement else { return error };
    let ast::Statement::Insert(insert) = statement.as_ref() else { return error };
    find(state, insert).await.unwrap_or(error)
}

async fn find(state: &SessionState, insert: &Insert) -> Option<SinewError> {
    let TableObject::TableName(written) = &insert.table else { return None };
    let (table, source) = (written.to_string(), insert.source.as_ref()?);
    let reference = TableReference::parse_str(&table);
    let schema = state.schema_for_ref(reference.clone()).ok()?;
    let provider: std::sync::Arc<dyn TableProvider> = schema.table(reference.table()).await.ok()??;
    let all = provider.schema();
    let mut fields: Vec<&Field> = Vec::new();
    for column in &insert.columns {
        let ident = column.0.first()?.as_ident()?;
        let name = if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() };
        fields.push(all.field_with_name(&name).ok()?);
    }
    if insert.columns.is_empty() {
        fields.extend(all.fields().iter().map(|f| f.as_ref()));
    }
    if let SetExpr::Values(values) = source.body.as_ref() {
        let odd = values.rows.iter().position(|row| row.content.len() != fields.len());
        if let Some(at) = odd {
            let given = values.rows[at].content.len();
            return Some(count(&table, &fields, &format!("row {} has {given}", at + 1)));
        }
    }
    let query = ast::Statement::Query(source.clone());
    let plan = state.statement_to_plan(Statement::Statement(Box::new(query))).await.ok()?;
    let given = plan.schema().fields();
    if given.len() != fields.len() {
        return Some(count(&table, &fields, &format!("the query has {}", given.len())));
    }
    let fits = |from: &DataType, to: &DataType| from == to || can_cast_types(from, to);
    let (field, given) = fields.iter().zip(given).find(|(field, given)| !fits(given.data_type(), field.data_type()))?;
    let reason =
        format!("{} does not become {}; CAST it to a type between the two", given.data_type(), field.data_type());
    Some(rejected(&table, field.name(), reason))
}

fn count(table: &str, fields: &[&Field], given: &str) -> SinewError {
    let names: Vec<&str> = fields.iter().map(|f| f.name().as_str()).collect();
    let number = if names.len() == 1 { "1 value".to_string() } else { format!("{} values", names.len()) };
    let reason = format!("INSERT INTO {table} takes {number} a row ({}), and {given}", names.join(", "));
    let hint = "; name the columns that are written, as in INSERT INTO t (a, b)".to_string();
    SinewError::Plan { source: Box::new(DataFusionError::Plan(reason.clone())), reason, hint }
}
