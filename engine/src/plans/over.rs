//! A session whose statements see a few more tables: relations that a client sent along.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::LogicalPlan;
use parking_lot::Mutex;

use crate::error::{Result, SinewError};
use crate::session::{CATALOG, SCHEMA, Session};

/// Relations by name, in front of the tables of a session. Other tables are brought up to date when they are asked
/// for, because nobody knows beforehand which ones a plan names.
#[derive(Clone)]
pub struct Over {
    session: Session,
    relations: Arc<Mutex<HashMap<String, Arc<dyn TableProvider>>>>,
}

impl fmt::Debug for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Over").field("relations", &self.relations.lock().keys()).finish_non_exhaustive()
    }
}

impl Over {
    /// No relations yet, in front of the tables of `session`.
    pub fn new(session: &Session) -> Self {
        Self { session: session.clone(), relations: Arc::default() }
    }

    /// Adds a relation.
    ///
    /// # Errors
    /// When there is one of that name, or it has none.
    pub fn add(&self, name: &str, relation: Arc<dyn TableProvider>) -> Result<()> {
        if name.is_empty() || self.relations.lock().insert(name.into(), relation).is_some() {
            return Err(SinewError::Request {
                what: format!("'{name}' is not a name of its own among the relations"),
                hint: "give each relation another name".into(),
            });
        }
        Ok(())
    }

    /// The query behind a relation.
    pub fn plan(&self, name: &str) -> Option<LogicalPlan> {
        let relation = self.relations.lock().get(name).cloned()?;
        relation.get_logical_plan().map(|plan| plan.into_owned())
    }

    /// The session without the relations.
    pub fn below(&self) -> &Session {
        &self.session
    }

    /// The catalogs of the session, with the relations in front.
    pub fn catalogs(&self) -> Arc<dyn CatalogProviderList> {
        let below = Arc::clone(self.session.context().state().catalog_list());
        Arc::new(Catalogs { over: self.clone(), below })
    }
}

#[derive(Debug)]
struct Catalogs {
    over: Over,
    below: Arc<dyn CatalogProviderList>,
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(&self, name: String, catalog: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        self.below.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        self.below.catalog_names()
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let below = self.below.catalog(name)?;
        Some(Arc::new(Catalog { over: self.over.clone(), ours: name == CATALOG, below }))
    }
}

#[derive(Debug)]
struct Catalog {
    over: Over,
    ours: bool,
    below: Arc<dyn CatalogProvider>,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        self.below.schema_names()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let below = self.below.schema(name)?;
        Some(Arc::new(Schema { over: self.over.clone(), ours: self.ours && name == SCHEMA, below }))
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> DataFusionResult<Option<Arc<dyn SchemaProvider>>> {
        self.below.register_schema(name, schema)
    }

    fn deregister_schema(&self, name: &str, cascade: bool) -> DataFusionResult<Option<Arc<dyn SchemaProvider>>> {
        self.below.deregister_schema(name, cascade)
    }
}

#[derive(Debug)]
struct Schema {
    over: Over,
    /// Whether the warehouse's tables are in it.
    ours: bool,
    below: Arc<dyn SchemaProvider>,
}

impl Schema {
    fn relation(&self, name: &str) -> Option<Arc<dyn TableProvider>> {
        self.over.relations.lock().get(name).cloned()
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        self.below.table_names()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if let Some(relation) = self.relation(name) {
            return Ok(Some(relation));
        }
        let session = &self.over.session;
        if self.ours && !crate::tables::looks_like_path(name) {
            session.tables().refresh_one(session.context(), name).await?;
        }
        self.below.table(name).await
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        self.below.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        self.below.deregister_table(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.over.relations.lock().contains_key(name) || self.below.table_exist(name)
    }
}
