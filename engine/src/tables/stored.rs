//! Tables that survive restarts: records in the warehouse, providers in the context.
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

use super::managed::ManagedTable;
use super::{delimiter, looks_like_path};
use crate::error::{Result, SinewError};
use crate::warehouse::table_records::{Change, Newest, TableDefinition};
use crate::warehouse::{Location, Manifest, StoredTable, TableRecords};

/// The tables of the warehouse, as a session sees them.
#[derive(Debug)]
pub struct StoredTables {
    records: TableRecords,
    location: Location,
    /// Names that came from the warehouse, and what each was made from.
    loaded: Mutex<BTreeMap<String, Loaded>>,
}

/// A table in the context.
#[derive(Clone, Debug)]
struct Loaded {
    provider: Arc<dyn TableProvider>,
    /// The record it was made from; nothing stands for "broken".
    record: Newest,
}

impl StoredTables {
    /// The tables of the warehouse at `location`; reads nothing.
    pub fn new(location: &Location) -> Self {
        Self { records: TableRecords::new(location), location: location.clone(), loaded: Mutex::default() }
    }

    /// The records behind.
    pub fn records(&self) -> &TableRecords {
        &self.records
    }

    /// Where the warehouse lies.
    pub fn location(&self) -> &Location {
        &self.location
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
                        self.put(context, &name, Some(Loaded { provider: Arc::new(broken), record: Newest::Nothing }))?;
                    }
                }
            } else if let Some(name) = self.own_name(context, reference) {
                self.refresh_one(context, &name).await?;
            }
        }
        Ok(())
    }

    /// The name of a table that may lie in the warehouse.
    pub fn own_name(&self, context: &SessionContext, reference: &TableReference) -> Option<String> {
        let state = context.state();
        let catalog = &state.config_options().catalog;
        let resolved = reference.clone().resolve(&catalog.default_catalog, &catalog.default_schema);
        let ours = &*resolved.catalog == crate::session::CATALOG && &*resolved.schema == crate::session::SCHEMA;
        (ours && !looks_like_path(&resolved.table)).then(|| resolved.table.to_string())
    }

    /// Brings one table up to date.
    ///
    /// # Errors
    /// When the warehouse cannot be read, or the table cannot be used any more.
    pub async fn refresh_one(&self, context: &SessionContext, name: &str) -> Result<()> {
        if self.is_session_own(context, name)? {
            return Ok(());
        }
        let loaded = self.loaded.lock().get(name).cloned();
        let newest = self.records.newest(name).await?;
        match &loaded {
            Some(loaded) if loaded.record == newest && newest != Newest::Nothing => return Ok(()),
            None if newest == Newest::Nothing => return Ok(()),
            _ => {}
        }
        let table = match self.records.read(name, newest).await {
            Ok(Some(StoredTable::External(definition))) => {
                provider(context, name, &definition, RESTORE).await.map(Some)
            }
            Ok(Some(StoredTable::Managed(manifest))) => {
                self.managed(name, newest, manifest, loaded.map(|l| l.provider)).map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        match table {
            Ok(table) => self.put(context, name, table.map(|provider| Loaded { provider, record: newest })),
            Err(error) => {
                self.put(context, name, None)?;
                Err(error)
            }
        }
    }

    /// The provider of a manifest: the one that is there, if it is of a table with the same columns.
    fn managed(
        &self,
        name: &str,
        record: Newest,
        manifest: Manifest,
        there: Option<Arc<dyn TableProvider>>,
    ) -> Result<Arc<dyn TableProvider>> {
        let manifest = Arc::new(manifest);
        if let Some(provider) = there
            && provider.downcast_ref::<ManagedTable>().is_some_and(|table| table.update(record, &manifest))
        {
            return Ok(provider);
        }
        let folder = self.records.folder(name)?;
        Ok(Arc::new(ManagedTable::new(name, &self.location, folder, record, manifest)?))
    }

    /// Brings the tables of the warehouse that a plan scans up to date: those below its views, and those that
    /// a prepared statement was made with. Those named in `fresh` are up to date.
    ///
    /// # Errors
    /// When the warehouse cannot be read, or a table is not any more what it was.
    pub async fn refresh_scans(&self, plan: &LogicalPlan, fresh: &[String]) -> Result<()> {
        for provider in ManagedTable::scanned_by(plan)? {
            let Some(table) = provider.downcast_ref::<ManagedTable>() else { continue };
            let name = table.name();
            // A view may hold an earlier table of a name that is fresh.
            if fresh.iter().any(|f| f == name) && self.holds(name, &provider) {
                continue;
            }
            let newest = self.records.newest(name).await?;
            if newest == table.record() {
                continue;
            }
            let same = match self.records.read(name, newest).await? {
                Some(StoredTable::Managed(manifest)) => table.update(newest, &Arc::new(manifest)),
                _ => false,
            };
            if !same {
                return Err(SinewError::Table {
                    name: name.into(),
                    reason: "it is not the table any more that the view or prepared statement was made with; \
                             make that anew"
                        .into(),
                });
            }
        }
        Ok(())
    }

    /// Whether a name is the session's alone: a view, or a temporary table.
    ///
    /// # Errors
    /// When the catalog cannot be asked.
    pub fn is_session_own(&self, context: &SessionContext, name: &str) -> Result<bool> {
        let loaded = self.loaded.lock();
        Ok(!loaded.contains_key(name) && context.table_exist(local(name))?)
    }

    /// Whether a provider is the one that the session has under a name.
    fn holds(&self, name: &str, provider: &Arc<dyn TableProvider>) -> bool {
        self.loaded.lock().get(name).is_some_and(|loaded| Arc::ptr_eq(&loaded.provider, provider))
    }

    /// Puts a table, and the record it was made from, in the place of the one that the session holds.
    fn put(&self, context: &SessionContext, name: &str, table: Option<Loaded>) -> Result<()> {
        // Under the lock, because the statements of one session may run beside each other.
        let mut loaded = self.loaded.lock();
        if let (Some(new), Some(old)) = (&table, loaded.get_mut(name))
            && Arc::ptr_eq(&new.provider, &old.provider)
        {
            old.record = new.record;
            return Ok(());
        }
        context.deregister_table(local(name))?;
        loaded.remove(name);
        if let Some(table) = table {
            context.register_table(local(name), Arc::clone(&table.provider))?;
            loaded.insert(name.into(), table);
        }
        Ok(())
    }

    /// What the warehouse has under a name now.
    ///
    /// # Errors
    /// When the warehouse cannot be read.
    pub async fn find(&self, name: &str) -> Result<Option<StoredTable>> {
        self.records.read(name, self.records.newest(name).await?).await
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
        let replace = command.or_replace;
        let taken = self.is_session_own(context, &name)? || self.find(&name).await?.is_some();
        if taken && !replace {
            return if command.if_not_exists { Ok(()) } else { Err(exists(&name, "EXTERNAL TABLE")) };
        }
        let mut locations = Vec::new();
        for location in &command.locations {
            locations.push(absolute(location)?);
        }
        let definition = TableDefinition { statement: text.into(), locations };
        let hint = "check the path, or list the columns before STORED AS";
        provider(context, &name, &definition, hint).await?;
        let created = self.records.commit(&name, |there| match there {
            Some(_) if command.if_not_exists && !replace => Ok(Change::Keep),
            Some(_) if !replace => Err(exists(&name, "EXTERNAL TABLE")),
            _ => Ok(Change::Write(Some(StoredTable::External(definition.clone())))),
        });
        if created.await? {
            self.forget(context, &name)?;
        }
        self.refresh_one(context, &name).await
    }

    /// Removes what the session holds under a name, its own view or temporary table too.
    ///
    /// # Errors
    /// When the catalog cannot be changed.
    pub fn forget(&self, context: &SessionContext, name: &str) -> Result<()> {
        self.put(context, name, None)
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
                self.records.drop(&name).await?;
                return self.forget(context, &name);
            }
        }
        context.execute_logical_plan(LogicalPlan::Ddl(DdlStatement::DropTable(command))).await?;
        Ok(())
    }
}

/// The error of creating what is there; `kind` is what the statement creates.
pub fn exists(name: &str, kind: &str) -> SinewError {
    SinewError::Table {
        name: name.into(),
        reason: format!("it exists; CREATE OR REPLACE {kind} replaces it, DROP TABLE removes it"),
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

/// The full name of a table of the session.
pub fn local(name: &str) -> TableReference {
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
    let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(mut command)) = plan else {
        return Err(refuse("its record holds another statement".into()));
    };
    let kind = command.file_type.to_uppercase();
    let Some(factory) = state.table_factories().get(&kind) else {
        let mut known: Vec<&str> = state.table_factories().keys().map(String::as_str).collect();
        known.sort_unstable();
        return Err(refuse(format!("STORED AS {kind} is not known; write one of {}", known.join(", "))));
    };
    if kind == "CSV" {
        delimiter::add_of(&mut command.options, &state, &definition.locations).await;
    }
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
