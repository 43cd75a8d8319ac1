//! The tables of a server as a catalog: it is asked for the columns of a table when one is named.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::error::Result;

use crate::error::SinewError;
use crate::flight::Remote;
use crate::plans::Named;
use crate::session::{CATALOG, SCHEMA};

/// All catalogs of the server. Which names there are is not known here; each that is asked for may be one.
pub struct There(pub Arc<Remote>);

impl fmt::Debug for There {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tables of a server")
    }
}

impl CatalogProviderList for There {
    fn register_catalog(&self, _: String, _: Arc<dyn CatalogProvider>) -> Option<Arc<dyn CatalogProvider>> {
        None
    }

    fn catalog_names(&self) -> Vec<String> {
        vec![CATALOG.into()]
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        Some(Arc::new(Catalog { remote: Arc::clone(&self.0), name: name.into() }))
    }
}

struct Catalog {
    remote: Arc<Remote>,
    name: String,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.into()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        let (remote, catalog) = (Arc::clone(&self.remote), self.name.clone());
        Some(Arc::new(Schema { remote, catalog, name: name.into() }))
    }
}

struct Schema {
    remote: Arc<Remote>,
    catalog: String,
    name: String,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[async_trait]
impl SchemaProvider for Schema {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let table = TableReference::full(self.catalog.as_str(), self.name.as_str(), name).to_quoted_string();
        let schema = self.remote.columns(&format!("SELECT * FROM {table}")).await?;
        Ok(Some(Arc::new(Named { schema, frame: None })))
    }

    fn register_table(&self, _: String, _: Arc<dyn TableProvider>) -> Result<Option<Arc<dyn TableProvider>>> {
        Err(SinewError::NotAvailable {
            what: "registering a table over a connection".into(),
            hint: "read_batch makes a DataFrame of rows; CREATE TABLE and ingest store them on the server".into(),
        }
        .into())
    }

    fn table_exist(&self, _: &str) -> bool {
        true
    }
}
