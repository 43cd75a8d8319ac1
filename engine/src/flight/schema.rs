//! The one schema a client sees, before and while it reads: no views, no dictionaries, everything nullable.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use crate::error::{Result, SinewError};

/// The schema under which rows of `schema` are sent.
pub fn client_schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(nullable).collect::<Fields>()))
}

fn nullable(field: &FieldRef) -> FieldRef {
    let typed = Field::new(field.name(), client_type(field.data_type()), true);
    Arc::new(typed.with_metadata(field.metadata().clone()))
}

fn client_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => client_type(values),
        DataType::RunEndEncoded(_, values) => client_type(values.data_type()),
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(item) | DataType::ListView(item) => DataType::List(nullable(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(nullable(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(nullable(item), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(nullable).collect()),
        // The entries of a map and their keys are never null.
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(map_entries(entries)), *sorted),
        other => other.clone(),
    }
}

fn map_entries(entries: &Field) -> Field {
    let DataType::Struct(fields) = entries.data_type() else { return entries.clone() };
    let kept = |field: &FieldRef, nullable| Field::new(field.name(), client_type(field.data_type()), nullable);
    let fields: Fields = fields.iter().enumerate().map(|(at, field)| kept(field, at > 0)).collect();
    Field::new(entries.name(), DataType::Struct(fields), false)
}

/// The rows of `batch` under `schema`, which [`client_schema`] made of theirs.
///
/// # Errors
/// When a column has a type that cannot become the one that was announced.
pub fn client_batch(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let failed = |what: &dyn std::fmt::Display| SinewError::Internal(format!("rows do not fit their schema: {what}"));
    if batch.num_columns() != schema.fields().len() {
        return Err(failed(&format!("{} columns for {}", batch.num_columns(), schema.fields().len())));
    }
    let column = |(field, column): (&FieldRef, &ArrayRef)| match field.data_type() == column.data_type() {
        true => Ok(Arc::clone(column)),
        false => cast(column, field.data_type()).map_err(|e| failed(&e)),
    };
    let columns = schema.fields().iter().zip(batch.columns()).map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Session, SessionOptions};

    #[tokio::test]
    async fn announced_and_sent_are_the_same() -> Result<()> {
        let session = Session::embedded(SessionOptions::in_memory())?;
        let dictionary = "arrow_cast('x', 'Dictionary(Int32, Utf8)')";
        for sql in [
            "SELECT 1 AS a, arrow_cast('x', 'Utf8View') AS b".to_string(),
            format!("SELECT {dictionary} AS a, make_array({dictionary}) AS b, named_struct('f', {dictionary}) AS c"),
            "SELECT make_array(1, NULL, 2) AS l, map(['k'], [1]) AS m".to_string(),
            "SELECT 1 AS a WHERE false".to_string(),
        ] {
            let execution = session.sql(&sql).next().await.unwrap_or_else(|| Err(SinewError::Cancelled))?;
            let schema = client_schema(&execution.schema());
            assert_eq!(schema, client_schema(&schema), "{sql}");
            assert!(schema.fields().iter().all(|field| field.is_nullable()), "{sql}");
            for batch in execution.collect().await? {
                assert_eq!(client_batch(&schema, &batch)?.schema(), schema, "{sql}");
            }
        }
        Ok(())
    }
}
