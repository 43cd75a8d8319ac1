//! The columns of a table as a record holds them: readable, and exactly what Arrow has.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef};
use datafusion::parquet::arrow::ArrowSchemaConverter;
use serde::{Deserialize, Serialize};

use crate::error::{Result, SinewError};

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its Arrow type, as Arrow writes it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether a row may have NULL there.
    pub nullable: bool,
    /// What Arrow keeps beside the type, such as the name of an extension type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// The columns of a schema.
pub fn columns(schema: &Schema) -> Vec<Column> {
    let column = |field: &FieldRef| Column {
        name: field.name().clone(),
        data_type: field.data_type().to_string(),
        nullable: field.is_nullable(),
        metadata: field.metadata().clone().into_iter().collect(),
    };
    schema.fields().iter().map(column).collect()
}

/// The schema of columns.
///
/// # Errors
/// When a type is not one that this version reads.
pub fn schema(columns: &[Column]) -> Result<SchemaRef> {
    let field = |column: &Column| {
        let data_type: DataType = column.data_type.parse().map_err(|_| {
            SinewError::Internal(format!("column '{}' has the unknown type {}", column.name, column.data_type))
        })?;
        let metadata = column.metadata.clone().into_iter().collect();
        Ok(Field::new(&column.name, data_type, column.nullable).with_metadata(metadata))
    };
    Ok(Arc::new(Schema::new(columns.iter().map(field).collect::<Result<Vec<_>>>()?)))
}

/// The columns of a new table `table` with the rows of `query`; those named in `not_null` take no NULL.
///
/// # Errors
/// When there are none, two have one name, or a type cannot be stored.
pub fn storable(table: &str, query: &Schema, not_null: &dyn Fn(&Field) -> bool) -> Result<SchemaRef> {
    let refuse = |reason: String| Err(SinewError::Table { name: table.into(), reason });
    if query.fields().is_empty() {
        return refuse("it has no columns; name at least one".into());
    }
    let mut fields: Vec<Field> = Vec::with_capacity(query.fields().len());
    for field in query.fields() {
        let name = field.name();
        if fields.iter().any(|other| other.name() == name) {
            return refuse(format!("two of its columns are called '{name}'; rename one with AS"));
        }
        let data_type = plain(field.data_type());
        let stored = Field::new(name, data_type, !not_null(field)).with_metadata(field.metadata().clone());
        let one = Schema::new(vec![stored.clone()]);
        let kept = schema(&columns(&one)).is_ok_and(|read| *read == one);
        if !kept || !in_parquet(&one) {
            return refuse(format!(
                "column '{name}' has type {}, which is not stored; CAST it to another, such as VARCHAR",
                field.data_type()
            ));
        }
        fields.push(stored);
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn in_parquet(schema: &Schema) -> bool {
    // The converter ends the process for some types instead of refusing them.
    schema.fields().iter().all(|f| has_parquet_type(f.data_type()))
        && ArrowSchemaConverter::new().convert(schema).is_ok()
}

fn has_parquet_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(..) | DataType::Interval(IntervalUnit::MonthDayNano) | DataType::RunEndEncoded(..) => false,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            has_parquet_type(field.data_type())
        }
        DataType::Map(field, _) => has_parquet_type(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|f| has_parquet_type(f.data_type())),
        DataType::Dictionary(_, values) => has_parquet_type(values),
        _ => true,
    }
}

/// The type that is stored for values of a type: one that every reader of the files knows, without what is
/// only a way to keep values in memory.
fn plain(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| -> FieldRef {
        Arc::new(Field::new(field.name(), plain(field.data_type()), field.is_nullable()))
    };
    match data_type {
        DataType::Null | DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::List(field) | DataType::ListView(field) => DataType::List(inner(field)),
        DataType::LargeList(field) | DataType::LargeListView(field) => DataType::LargeList(inner(field)),
        DataType::FixedSizeList(field, length) => DataType::FixedSizeList(inner(field), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{TimeUnit, UnionFields, UnionMode};

    fn stored(data_type: DataType) -> Result<DataType> {
        let schema = Schema::new(vec![Field::new("x \"y\"", data_type, false)]);
        Ok(storable("t", &schema, &|_| false)?.field(0).data_type().clone())
    }

    #[test]
    fn types_come_back_as_they_were() -> Result<()> {
        let text = || Arc::new(Field::new("a b", DataType::Utf8, false));
        for data_type in [
            DataType::Boolean,
            DataType::UInt64,
            DataType::Float32,
            DataType::Decimal128(38, 3),
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Nanosecond, Some("Europe/Berlin".into())),
            DataType::Timestamp(TimeUnit::Second, None),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::LargeUtf8,
            DataType::FixedSizeBinary(16),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            DataType::List(Arc::new(Field::new("item", DataType::Int64, true))),
            DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, false)), 768),
            DataType::Struct(vec![text(), Arc::new(Field::new("n", DataType::Int8, true))].into()),
            DataType::List(Arc::new(Field::new("item", DataType::Struct(vec![text()].into()), true))),
        ] {
            assert_eq!(stored(data_type.clone())?, data_type);
        }
        assert_eq!(stored(DataType::Null)?, DataType::Utf8);
        assert_eq!(stored(DataType::Utf8View)?, DataType::Utf8);
        Ok(())
    }

    #[test]
    fn what_files_do_not_hold_is_refused_by_name() {
        let union = UnionFields::from_fields(vec![Field::new("a", DataType::Int32, true)]);
        for data_type in [DataType::Union(union, UnionMode::Sparse), DataType::Interval(IntervalUnit::MonthDayNano)] {
            let text = stored(data_type).map(|t| t.to_string()).unwrap_or_else(|e| e.to_string());
            assert!(text.starts_with("SINEW-3111") && text.contains("x \"y\"") && text.contains("CAST"), "{text}");
        }
        let twice = Schema::new(vec![Field::new("a", DataType::Int8, true), Field::new("a", DataType::Int8, true)]);
        let text = storable("t", &twice, &|_| false).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
        assert!(text.contains("called 'a'"), "{text}");
    }
}
