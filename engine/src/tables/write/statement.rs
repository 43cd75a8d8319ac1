//! The statements that write tables of the warehouse.

use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, UInt64Array};
use datafusion::arrow::datatypes::{Field, SchemaRef};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{CreateMemoryTable, DdlStatement, DmlStatement, LogicalPlan, WriteOp};
use futures::StreamExt;

use super::commit::Run;
use super::values::uncast;
use crate::error::{Result, SinewError};
use crate::session::{Execution, ExecutionKind, Session};
use crate::tables::stored::exists;
use crate::warehouse::columns::{columns, schema, storable};
use crate::warehouse::table_records::Change;
use crate::warehouse::{DataFile, Manifest, StoredTable};

/// The name of the warehouse's table that a statement changes; `None` when it is the session's own.
fn stored_name(session: &Session, table: &datafusion::common::TableReference) -> Result<Option<String>> {
    let (tables, context) = (session.tables(), session.context());
    Ok(match tables.own_name(context, table) {
        Some(name) if !tables.is_session_own(context, &name)? => Some(name),
        _ => None,
    })
}

/// The schema of a new table; columns in `not_null` take no NULL, whatever the query says.
fn new_schema(name: &str, command: &CreateMemoryTable, not_null: &[String]) -> Result<SchemaRef> {
    let later = |what: &str, hint: &str| Err(SinewError::NotAvailable { what: what.into(), hint: hint.into() });
    if !command.constraints.is_empty() {
        return later("a table with PRIMARY KEY, UNIQUE or another constraint", "leave it out; NOT NULL is kept");
    }
    if !command.column_defaults.is_empty() {
        return later("a column's DEFAULT", "leave it out, and give the value in INSERT");
    }
    let declared = |field: &Field| match defines_only(&command.input) {
        true => !field.is_nullable(),
        // What a query happens to yield says nothing about later rows.
        false => not_null.contains(field.name()),
    };
    storable(name, command.input.schema().as_arrow(), &declared)
}

/// Whether a CREATE TABLE has no query.
fn defines_only(input: &LogicalPlan) -> bool {
    matches!(input, LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row)
}

/// Runs CREATE TABLE, with a query or without.
///
/// # Errors
/// When the table exists, the query fails, or the warehouse cannot be written; nothing is changed then.
pub async fn create(session: &Session, command: CreateMemoryTable, name: &str, not_null: &[String]) -> Result<()> {
    let (tables, context) = (session.tables(), session.context());
    let (or_replace, if_not_exists) = (command.or_replace, command.if_not_exists);
    if or_replace && if_not_exists {
        let reason = "OR REPLACE and IF NOT EXISTS contradict each other; keep one";
        return Err(SinewError::Table { name: name.into(), reason: reason.into() });
    }
    // Known before the first row is read, and looked at once more when the table is made.
    let own = tables.is_session_own(context, name)?;
    if !or_replace && (own || tables.find(name).await?.is_some()) {
        return if if_not_exists { Ok(()) } else { Err(exists(name, "TABLE")) };
    }
    let schema = new_schema(name, &command, not_null)?;
    let mut run = Run::new(session, name, columns(&schema))?;
    let input = Arc::unwrap_or_clone(command.input);
    let files = if defines_only(&input) { Vec::new() } else { run.write(input).await? };
    let (id, columns) = (run.name().to_string(), columns(&schema));
    let created = run.commit(|there| match there {
        Some(_) if if_not_exists => Ok(Change::Keep),
        Some(_) if !or_replace => Err(exists(name, "TABLE")),
        _ => Ok(Change::Write(Some(StoredTable::Managed(Manifest {
            table: id.clone(),
            run: id.clone(),
            columns: columns.clone(),
            files: files.clone(),
        })))),
    });
    if created.await? && own {
        tables.forget(context, name)?;
    }
    // The table is there, and the next statement that names it looks again.
    if let Err(error) = tables.refresh_one(context, name).await {
        log::info!("table '{name}' was made and could not be read at once: {error}");
    }
    Ok(())
}

/// The table that an INSERT goes to, and how.
async fn destination(session: &Session, dml: &DmlStatement, name: &str) -> Result<Option<(Manifest, bool)>> {
    let later = |what: String, hint: &str| Err(SinewError::NotAvailable { what, hint: hint.into() });
    let manifest = match session.tables().find(name).await? {
        None => return Ok(None),
        Some(StoredTable::External(_)) => {
            return Err(SinewError::Table {
                name: name.into(),
                reason: format!(
                    "it is an external table, and those are only read; COPY (SELECT ..) TO 'folder/' writes files, \
                     and CREATE TABLE other AS SELECT * FROM {name} makes a table that takes rows"
                ),
            });
        }
        Some(StoredTable::Managed(manifest)) => manifest,
    };
    let overwrite = match &dml.op {
        WriteOp::Insert(InsertOp::Append) => false,
        WriteOp::Insert(InsertOp::Overwrite) => true,
        WriteOp::Insert(InsertOp::Replace) => {
            return later("REPLACE INTO".into(), "INSERT INTO adds rows, INSERT OVERWRITE puts them in place of all");
        }
        other => {
            return later(
                other.name().to_uppercase(),
                "CREATE OR REPLACE TABLE t AS SELECT .. FROM t makes it anew with the rows that are wanted",
            );
        }
    };
    if schema(&manifest.columns)? != dml.target.schema() {
        return Err(replaced(name));
    }
    Ok(Some((manifest, overwrite)))
}

fn replaced(name: &str) -> SinewError {
    SinewError::Table {
        name: name.into(),
        reason: "another statement has dropped or replaced it meanwhile; run this one again".into(),
    }
}

/// Starts an INSERT; `None` when the table is not one of the warehouse.
///
/// # Errors
/// When the table takes no rows, or a value in the statement does not fit.
pub async fn insert(session: &Session, dml: &DmlStatement) -> Result<Option<Execution>> {
    let Some(name) = stored_name(session, &dml.table_name)? else { return Ok(None) };
    let Some((manifest, overwrite)) = destination(session, dml, &name).await? else { return Ok(None) };
    let input = uncast(&name, &schema(&manifest.columns)?, &dml.input)?;
    let count: SchemaRef = Arc::clone(dml.output_schema.inner());
    let mut run = Run::new(session, &name, manifest.columns)?;
    let (count_schema, table) = (Arc::clone(&count), manifest.table);
    let result = futures::stream::once(async move {
        let files = run.write(input).await?;
        let rows = files.iter().map(|file| file.rows).sum();
        if overwrite || !files.is_empty() {
            append(run, &name, &table, files, overwrite).await?;
        }
        counted(&count_schema, rows)
    });
    Ok(Some(Execution::new(ExecutionKind::Rows, count, result.boxed())))
}

/// Adds files to a table, or puts them in place of those it has.
async fn append(run: Run, name: &str, table: &str, files: Vec<DataFile>, overwrite: bool) -> Result<()> {
    let id = run.name().to_string();
    run.commit(|there| match there {
        Some(StoredTable::Managed(there)) if there.table == table => {
            let mut all = if overwrite { Vec::new() } else { there.files };
            all.extend(files.iter().cloned());
            Ok(Change::Write(Some(StoredTable::Managed(Manifest { run: id.clone(), files: all, ..there }))))
        }
        _ => Err(replaced(name)),
    })
    .await
    .map(|_| ())
}

fn counted(schema: &SchemaRef, rows: u64) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(UInt64Array::from(vec![rows]))])
        .map_err(|e| SinewError::Internal(e.to_string()))
}

/// The plan that EXPLAIN shows of a statement that writes a table of the warehouse, and the run whose files
/// EXPLAIN ANALYZE leaves; `None` for other statements.
///
/// # Errors
/// When the statement itself could not be started.
pub async fn explained(session: &Session, plan: &LogicalPlan) -> Result<Option<(LogicalPlan, Run)>> {
    let (name, schema, input) = match plan {
        LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(command)) => {
            let Some(name) = session.tables().own_name(session.context(), &command.name) else { return Ok(None) };
            let schema = new_schema(&name, command, &[])?;
            (name, schema, command.input.as_ref().clone())
        }
        LogicalPlan::Dml(dml) => {
            let Some(name) = stored_name(session, &dml.table_name)? else { return Ok(None) };
            let Some((manifest, _)) = destination(session, dml, &name).await? else { return Ok(None) };
            let schema = schema(&manifest.columns)?;
            let input = uncast(&name, &schema, &dml.input)?;
            (name, schema, input)
        }
        _ => return Ok(None),
    };
    let run = Run::new(session, &name, columns(&schema))?;
    Ok(Some((run.plan(input)?, run)))
}
