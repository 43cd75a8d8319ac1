//! What a connected session has in place of a warehouse: models are reached by SQL, other ways do not exist yet.

use async_trait::async_trait;
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use super::Session;
use crate::error::{Result, SinewError};
use crate::warehouse::{Artifact, ModelCatalog, ModelInfo, ModelRef, PublishMode, VersionInfo};

fn refused(what: &str) -> SinewError {
    SinewError::NotAvailable { what: format!("{what} over a connection"), hint: "send SQL with Session::sql".into() }
}

/// Names of tables and models on the server; none where it cannot be asked.
pub async fn names(session: &Session) -> Vec<String> {
    let mut names = Vec::new();
    for sql in ["SELECT table_name FROM information_schema.tables", "SHOW MODELS"] {
        names.extend(first_column(session, sql).await.unwrap_or_default());
    }
    names.sort();
    names.dedup();
    names
}

async fn first_column(session: &Session, sql: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for batch in session.sql(sql).collect().await? {
        let column = cast(batch.column(0), &DataType::Utf8).map_err(|e| SinewError::Internal(e.to_string()))?;
        let column = column.as_string::<i32>();
        found.extend((0..column.len()).filter(|row| column.is_valid(*row)).map(|row| column.value(row).to_string()));
    }
    Ok(found)
}

/// The models of a server.
#[derive(Debug)]
pub struct ElsewhereCatalog;

#[async_trait]
impl ModelCatalog for ElsewhereCatalog {
    async fn publish(&self, _: &str, _: &Artifact, _: PublishMode) -> Result<VersionInfo> {
        Err(refused("publishing a model"))
    }

    async fn load(&self, _: &ModelRef) -> Result<(VersionInfo, Artifact)> {
        Err(refused("loading a model"))
    }

    async fn list(&self) -> Result<Vec<ModelInfo>> {
        Err(refused("the list of models"))
    }

    async fn find(&self, _: &str) -> Result<Option<ModelInfo>> {
        Err(refused("the records of a model"))
    }

    async fn remove(&self, _: &str, _: Option<u64>) -> Result<()> {
        Err(refused("removing a model"))
    }
}
