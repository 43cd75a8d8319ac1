//! What clients ask about the catalog: each command has columns of its own, and rows made from the session.

use std::sync::Arc;

use arrow_flight::error::FlightError;
use arrow_flight::sql::{
    Command, CommandGetCatalogs, CommandGetDbSchemas, CommandGetTableTypes, CommandGetTables, ProstMessageExt,
};
use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use prost::Message;

use super::schema::client_schema;
use super::{sql_info, xdbc};
use crate::error::{Result, SinewError};
use crate::session::{Session, matches};

/// The schema that every catalog has, although it does not list it.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// Types of tables, as clients know them.
const TABLE_TYPES: [&str; 2] = ["TABLE", "VIEW"];

/// The columns of the answer to a command, and the ticket for its rows; `None` for other commands.
pub fn announced(command: &Command) -> Option<(SchemaRef, Vec<u8>)> {
    use Command as C;
    Some(match command {
        C::CommandGetCatalogs(c) => (c.into_builder().schema(), pack(c)),
        C::CommandGetDbSchemas(c) => (c.clone().into_builder().schema(), pack(c)),
        C::CommandGetTables(c) => (c.clone().into_builder().schema(), pack(c)),
        C::CommandGetTableTypes(c) => (c.into_builder().schema(), pack(c)),
        C::CommandGetSqlInfo(c) => (sql_info::schema(), pack(c)),
        C::CommandGetXdbcTypeInfo(c) => (xdbc::schema(), pack(c)),
        C::CommandGetPrimaryKeys(c) => (primary_keys(), pack(c)),
        C::CommandGetExportedKeys(c) => (foreign_keys(), pack(c)),
        C::CommandGetImportedKeys(c) => (foreign_keys(), pack(c)),
        C::CommandGetCrossReference(c) => (foreign_keys(), pack(c)),
        _ => return None,
    })
}

fn pack<M: ProstMessageExt>(command: &M) -> Vec<u8> {
    command.as_any().encode_to_vec()
}

/// The rows of the answer to a command; `None` for other commands.
///
/// # Errors
/// When the catalog cannot be read.
pub async fn rows(session: &Session, command: Command) -> Result<Option<RecordBatch>> {
    use Command as C;
    Ok(Some(match command {
        C::CommandGetCatalogs(command) => catalogs(session, command)?,
        C::CommandGetDbSchemas(command) => schemas(session, command)?,
        C::CommandGetTables(command) => tables(session, command).await?,
        C::CommandGetTableTypes(command) => table_types(command)?,
        C::CommandGetSqlInfo(command) => sql_info::rows(command).map_err(failed)?,
        C::CommandGetXdbcTypeInfo(command) => xdbc::rows(command).map_err(failed)?,
        C::CommandGetPrimaryKeys(_) => RecordBatch::new_empty(primary_keys()),
        C::CommandGetExportedKeys(_) | C::CommandGetImportedKeys(_) | C::CommandGetCrossReference(_) => {
            RecordBatch::new_empty(foreign_keys())
        }
        _ => return Ok(None),
    }))
}

fn failed(error: FlightError) -> SinewError {
    SinewError::Internal(format!("describing the catalog: {error}"))
}

fn catalogs(session: &Session, command: CommandGetCatalogs) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    session.context().catalog_names().into_iter().for_each(|name| builder.append(name));
    builder.build().map_err(failed)
}

fn schemas(session: &Session, command: CommandGetDbSchemas) -> Result<RecordBatch> {
    let pattern = command.db_schema_filter_pattern.clone();
    // The pattern is matched here: a pattern of LIKE may be any text, and never an error.
    let mut builder = CommandGetDbSchemas { db_schema_filter_pattern: None, ..command }.into_builder();
    for catalog in session.context().catalog_names() {
        let mut schemas = session.context().catalog(&catalog).map(|c| c.schema_names()).unwrap_or_default();
        if !schemas.iter().any(|schema| schema == INFORMATION_SCHEMA) {
            schemas.push(INFORMATION_SCHEMA.into());
        }
        for schema in schemas.iter().filter(|schema| fits(schema, pattern.as_deref())) {
            builder.append(&catalog, schema);
        }
    }
    builder.build().map_err(failed)
}

fn fits(name: &str, pattern: Option<&str>) -> bool {
    pattern.is_none_or(|pattern| matches(name, pattern))
}

async fn tables(session: &Session, command: CommandGetTables) -> Result<RecordBatch> {
    // Looking there also brings in the tables that other sessions have defined.
    let all = "SELECT table_catalog, table_schema, table_name, table_type FROM information_schema.tables";
    let found = session.sql(all).collect().await?;
    let wanted: Vec<String> = command.table_types.iter().map(|name| table_type(name)).collect();
    let (schema_pattern, pattern) =
        (command.db_schema_filter_pattern.clone(), command.table_name_filter_pattern.clone());
    let with_columns = command.include_schema;
    let plain = CommandGetTables {
        db_schema_filter_pattern: None,
        table_name_filter_pattern: None,
        table_types: Vec::new(),
        ..command
    };
    let mut builder = plain.into_builder();
    for batch in &found {
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row);
        for row in 0..batch.num_rows() {
            let (catalog, schema, name) = (text(0, row), text(1, row), text(2, row));
            let kind = table_type(text(3, row));
            let asked = wanted.is_empty() || wanted.contains(&kind);
            if !asked || !fits(schema, schema_pattern.as_deref()) || !fits(name, pattern.as_deref()) {
                continue;
            }
            let columns = match with_columns {
                true => columns(session, catalog, schema, name).await,
                false => Arc::new(Schema::empty()),
            };
            builder.append(catalog, schema, name, kind, &columns).map_err(failed)?;
        }
    }
    builder.build().map_err(failed)
}

/// The columns of a table as a query returns them; none for a table that cannot be read.
async fn columns(session: &Session, catalog: &str, schema: &str, name: &str) -> SchemaRef {
    let schema = session.context().catalog(catalog).and_then(|catalog| catalog.schema(schema));
    match schema {
        Some(schema) => match schema.table(name).await {
            Ok(Some(table)) => client_schema(&table.schema()),
            _ => Arc::new(Schema::empty()),
        },
        None => Arc::new(Schema::empty()),
    }
}

/// A type of table by the name clients use for it.
fn table_type(name: &str) -> String {
    match name.to_uppercase().as_str() {
        "BASE TABLE" => "TABLE".into(),
        other => other.into(),
    }
}

fn table_types(command: CommandGetTableTypes) -> Result<RecordBatch> {
    let mut builder = command.into_builder();
    TABLE_TYPES.iter().for_each(|name| builder.append(name));
    builder.build().map_err(failed)
}

fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

/// There are no keys, and these are their columns.
fn primary_keys() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("catalog_name", true),
        text("db_schema_name", true),
        text("table_name", false),
        text("column_name", false),
        text("key_name", true),
        Field::new("key_sequence", DataType::Int32, false),
    ]))
}

fn foreign_keys() -> SchemaRef {
    let rule = |name| Field::new(name, DataType::UInt8, false);
    Arc::new(Schema::new(vec![
        text("pk_catalog_name", true),
        text("pk_db_schema_name", true),
        text("pk_table_name", false),
        text("pk_column_name", false),
        text("fk_catalog_name", true),
        text("fk_db_schema_name", true),
        text("fk_table_name", false),
        text("fk_column_name", false),
        Field::new("key_sequence", DataType::Int32, false),
        text("fk_key_name", true),
        text("pk_key_name", true),
        rule("update_rule"),
        rule("delete_rule"),
    ]))
}
