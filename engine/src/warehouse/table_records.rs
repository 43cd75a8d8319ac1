//! External tables in the warehouse: `catalog/<table>/00000001.json`, ..

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use super::location::Location;
use super::name::{decode, encode};
use super::records::{Records, read_error};
use crate::error::Result;

/// The newest record of a table's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Format version of the record.
    pub format: u32,
    /// The table; `None` when it was dropped.
    pub table: Option<TableDefinition>,
}

/// An external table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// The CREATE EXTERNAL TABLE statement as written.
    pub statement: String,
    /// Where its files are; absolute, whatever the statement says.
    pub locations: Vec<String>,
}

/// The table definitions of a warehouse. Opening them reads and creates nothing.
#[derive(Clone, Debug)]
pub struct TableRecords {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl TableRecords {
    /// The tables of the warehouse at `location`.
    pub fn new(location: &Location) -> Self {
        Self { store: Arc::clone(&location.store), folder: location.child("catalog") }
    }

    fn records(&self, name: &str) -> Result<Records> {
        Ok(Records::new(Arc::clone(&self.store), self.folder.clone().join(encode(name)?)))
    }

    /// Names that have records, those of dropped tables among them.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn names(&self) -> Result<Vec<String>> {
        let listed = self.store.list_with_delimiter(Some(&self.folder)).await;
        let listed = listed.map_err(|e| read_error(&self.folder, e))?;
        let mut names: Vec<String> = listed.common_prefixes.iter().filter_map(|p| decode(p.filename()?)).collect();
        names.sort();
        Ok(names)
    }

    /// The number of the newest record of a name; 0 when there is none, or it cannot be a name.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn newest(&self, name: &str) -> Result<u64> {
        match self.records(name) {
            Ok(records) => Ok(records.numbers().await?.last().copied().unwrap_or(0)),
            Err(_) => Ok(0),
        }
    }

    /// The record of that number.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub async fn read(&self, name: &str, number: u64) -> Result<TableRecord> {
        self.records(name)?.read(number).await
    }

    /// Adds a record and returns its number: the table as defined, or that it was dropped.
    ///
    /// # Errors
    /// When the name cannot be one, or the store cannot be written.
    pub async fn append(&self, name: &str, table: Option<TableDefinition>) -> Result<u64> {
        let record = TableRecord { format: FORMAT, table };
        self.records(name)?.append(&record).await
    }
}
