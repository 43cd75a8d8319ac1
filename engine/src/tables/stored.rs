//! External tables that survive restarts: definitions in the warehouse, providers in the context.
//!
//! Nothing is read before a statement names a table the session does not hold; then, and for every table
//! that came from the warehouse, the newest record decides, so that sessions see each other's tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session as CatalogSession, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{CreateExternalTable, DdlStatement, DropTable, Expr, LogicalPlan, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{CreateExternalTable as ParsedTable, DFParserBuilder, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use parking_lot::Mutex;

use super::looks_like_path;
use crate::error::{Result, SinewError};
use crate::warehouse::table_records::TableDefinition;
use crate::warehouse::{Location, TableRecords};

/// The external tables of a session.
#[derive(Debug)]
pub struct StoredTables {
    records: TableRecords,
    /// Names that came from the warehouse, and the record each was made from; 0 stands for "broken".
    loaded: Mutex<BTreeMap<String, u64>>,
}

impl StoredTables {
    /// The tables of the warehouse at `location`; reads nothing.
    pub fn new(location: &Location) -> Self {
        Self { records: TableRecords::new(location), loaded: Mutex::default() }
    }

    /// Names that the warehouse knows.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn names(&self) -> Result<Vec<String>> {
        self.records.names().await
    }

    /// Brings the tables a statement names up to date; all of them for `information_schema`.
    ///
    /// # Errors
    /// When the warehouse cannot be read, or a table that is named cannot be used any more.
    pub async fn refresh(&self, context: &SessionContext, references: &[TableReference]) -> Result<()> {
        for reference in references {
            if reference.schema() == Some("information_schema") {
                for name in self.records.names().await? {
                    if let Err(error) = self.refresh_one(context, &name).await {
                        log::warn!("table '{name}': {error}");
                        let broken = Broken { name: name.clone(), reason: error.to_string() };
                        context.deregister_table(local(&name))?;
                        context.register_table(local(&name), Arc::new(broken))?;
                        self.loaded.lock().insert(name, 0);
                    }
                }
            } else if let Some(name) = self.own_name(context, reference) {
                self.refresh_one(context, &name).await?;
            }
        }
        Ok(())
    }

    /// The name of a table that may lie in the warehouse.
    fn own_name(&self, context: &SessionContext, reference: &TableReference) -> Option<String> {
        let state = context.state();
        let catalog = &state.config_options().catalog;
        let resolved = reference.clone().resolve(&catalog.default_catalog, &catalog.default_schema);
        let ours = &*resolved.catalog == crate::session::CATALOG && &*resolved.schema == crate::session::SCHEMA;
        (ours && !looks_like_path(&resolved.table)).then(|| resolved.table.to_string())
    }

    async fn refresh_one(&self, context: &SessionContext, name: &str) -> Result<()> {
        let loaded = self.loaded.lock().get(name).copied();
        if loaded.is_none() && context.table_exist(local(name))? {
            return Ok(()); // the session's own table or view
        }
        let newest = self.records.newest(name).await?;
        if loaded.unwrap_or(0) == newest && newest > 0 || loaded.is_none() && newest == 0 {
            return Ok(());
        }
        context.deregister_table(local(name))?;
        self.loaded.lock().remove(name);
        if newest == 0 {
            return Ok(());
        }
        let record = self.records.read(name, newest).await?;
        if let Some(definition) = record.table {
            let provider = provider(context, name, &definition, RESTORE).await?;
            context.register_table(local(name), provider)?;
            self.loaded.lock().insert(name.into(), newest);
        }
        Ok(())
    }

    /// Runs CREATE EXTERNAL TABLE and records it.
    ///
    /// # Errors
    /// When the table exists, its files cannot be read, or the warehouse cannot be written.
    pub async fn create(&self, context: &SessionContext, command: CreateExternalTable, text: &str) -> Result<()> {
        let Some(name) = self.own_name(context, &command.name) else {
            // Other schemas live as long as the session.
            context
                .execute_logical_plan(LogicalPlan::Ddl(DdlStatement::CreateExternalTable(Box::new(command))))
                .await?;
            return Ok(());
        };
        self.refresh_one(context, &name).await?;
        let exists = context.table_exist(local(&name))?;
        if exists && command.if_not_exists && !command.or_replace {
            return Ok(());
        }
        if exists && !command.or_replace {
            return Err(SinewError::Table {
                name,
                reason: "it exists; CREATE OR REPLACE EXTERNAL TABLE replaces it, DROP TABLE removes it".into(),
            });
        }
        let mut locations = Vec::new();
        for location in &command.locations {
            locations.push(absolute(location)?);
        }
        let definition = TableDefinition { statement: text.into(), locations };
        let hint = "check the path, or list the columns before STORED AS";
        let provider = provider(context, &name, &definition, hint).await?;
        let number = self.records.append(&name, Some(definition)).await?;
        context.deregister_table(local(&name))?;
        context.register_table(local(&name), provider)?;
        self.loaded.lock().insert(name, number);
        Ok(())
    }

    /// Runs DROP TABLE; a table of the warehouse is dropped there too.
    ///
    /// # Errors
    /// When there is no such table and IF EXISTS was not said, or the warehouse cannot be written.
    pub async fn drop(&self, context: &SessionContext, command: DropTable) -> Result<()> {
        if let Some(name) = self.own_name(context, &command.name) {
            // A definition whose files are gone can be dropped like any other.
            let refreshed = self.refresh_one(context, &name).await;
            let stored = match &refreshed {
                Ok(()) => self.loaded.lock().contains_key(&name),
                Err(SinewError::Table { .. }) => true,
                Err(_) => return refreshed,
            };
            if stored {
                self.records.append(&name, None).await?;
                self.loaded.lock().remove(&name);
                context.deregister_table(local(&name))?;
                return Ok(());
            }
        }
        context.execute_logical_plan(LogicalPlan::Ddl(DdlStatement::DropTable(command))).await?;
        Ok(())
    }
}

/// Names with which options of object stores begin elsewhere.
const STORE_OPTIONS: [&str; 7] = ["aws.", "s3.", "azure.", "gcp.", "gcs.", "google.", "http."];

/// The names of a statement's options, in lower case.
fn command_keys(statement: &ParsedTable) -> impl Iterator<Item = String> {
    statement.options.iter().map(|(key, _)| key.to_lowercase())
}

/// The next step for a stored table that cannot be read.
const RESTORE: &str = "restore the files, or DROP TABLE it";

fn local(name: &str) -> TableReference {
    TableReference::full(crate::session::CATALOG, crate::session::SCHEMA, name)
}

/// The location from the root, so that it means the same from every folder.
fn absolute(location: &str) -> Result<String> {
    if location.contains("://") || std::path::Path::new(location).is_absolute() {
        return Ok(location.into());
    }
    let here = std::env::current_dir()
        .map_err(|source| SinewError::Io { what: "asking for the current folder".into(), source })?;
    Ok(format!("{}/{}", here.display(), location.strip_prefix("./").unwrap_or(location)))
}

/// The provider of a stored definition.
async fn provider(
    context: &SessionContext,
    name: &str,
    definition: &TableDefinition,
    hint: &str,
) -> Result<Arc<dyn TableProvider>> {
    let refuse = |reason: String| SinewError::Table { name: name.into(), reason };
    let mut parsed = DFParserBuilder::new(definition.statement.as_str())
        .with_dialect(&GenericDialect {})
        .build()
        .and_then(|mut parser| parser.parse_statements())?;
    let Some(Statement::CreateExternalTable(mut statement)) = parsed.pop_front() else {
        return Err(refuse("its record holds another statement".into()));
    };
    statement.locations.clone_from(&definition.locations);
    if let Some(key) = command_keys(&statement).find(|key| STORE_OPTIONS.iter().any(|store| key.starts_with(store))) {
        return Err(refuse(format!(
            "'{key}' is no option of a table: stores get their settings from the environment (AWS_REGION, ..) or the \
             session (sinew.s3_region, ..), so that no key is written into the warehouse; see docs/storage.md"
        )));
    }
    let state = context.state();
    let plan = state.statement_to_plan(Statement::CreateExternalTable(statement)).await?;
    let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(command)) = plan else {
        return Err(refuse("its record holds another statement".into()));
    };
    let kind = command.file_type.to_uppercase();
    let Some(factory) = state.table_factories().get(&kind) else {
        let mut known: Vec<&str> = state.table_factories().keys().map(String::as_str).collect();
        known.sort_unstable();
        return Err(refuse(format!("STORED AS {kind} is not known; write one of {}", known.join(", "))));
    };
    let shown = definition.locations.join("', '");
    let provider = factory.create(&state, &command).await.map_err(|e| {
        let text = crate::error::plain_text(&e);
        refuse(match text.find("SINEW-") {
            // What an object store says is whole: it names the path and the next step.
            Some(at) => text[at..].to_string(),
            None => format!("'{shown}' cannot be read: {text}; {hint}"),
        })
    })?;
    if provider.schema().fields().is_empty() {
        return Err(refuse(format!(
            "there is no {} file at '{shown}'; check the path, or list the columns before STORED AS",
            command.file_type.to_lowercase()
        )));
    }
    Ok(provider)
}

/// A table whose files are gone: it is listed, and reading it says why it cannot be read.
#[derive(Debug)]
struct Broken {
    name: String,
    reason: String,
}

#[async_trait]
impl TableProvider for Broken {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::empty())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _: &dyn CatalogSession,
        _: Option<&Vec<usize>>,
        _: &[Expr],
        _: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let error = SinewError::Table { name: self.name.clone(), reason: self.reason.clone() };
        Err(DataFusionError::from(error))
    }
}
