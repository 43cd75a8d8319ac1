//! Tables in the warehouse: `tables/<table>/manifests/00000001.json`, ..
//!
//! One chain of records decides what a name stands for: a table of this warehouse with the files it has, an
//! external table, or nothing any more. Earlier versions kept external tables in `catalog/<table>/`; those
//! count where the chain is empty.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use super::columns::Column;
use super::location::Location;
use super::name::{decode, encode};
use super::records::{Records, read_error};
use crate::error::{Result, SinewError};

/// Format of the records of this chain; [`super::FORMAT`] is that of `catalog/`.
const CHAIN_FORMAT: u32 = 2;

/// What a name stands for since this record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRecord {
    /// Format version of the record.
    pub format: u32,
    /// The table; `None` when it was dropped.
    pub table: Option<StoredTable>,
}

/// A table that the warehouse knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredTable {
    /// Files of somebody else's.
    External(TableDefinition),
    /// Files of the warehouse.
    Managed(Manifest),
}

/// An external table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableDefinition {
    /// The CREATE EXTERNAL TABLE statement as written.
    pub statement: String,
    /// Where its files are; absolute, whatever the statement says.
    pub locations: Vec<String>,
}

/// All of a table: its columns and every file with rows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run that created the table; another one means another table of the same name.
    pub table: String,
    /// The run that wrote this manifest.
    pub run: String,
    /// The columns.
    pub columns: Vec<Column>,
    /// The files.
    pub files: Vec<DataFile>,
}

/// A Parquet file of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// Its path below the table's folder.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// Which record of a name is the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newest {
    /// There is none.
    Nothing,
    /// One of an earlier version, in `catalog/`.
    Catalog(u64),
    /// One of the chain.
    Chain(u64),
}

/// What a writer makes of the newest record.
#[derive(Clone, Debug)]
pub enum Change {
    /// It stays.
    Keep,
    /// The name stands for this from now on.
    Write(Option<StoredTable>),
}

/// A record that was not added.
#[derive(Debug)]
pub struct NotAdded {
    /// Why.
    pub error: SinewError,
    /// Whether it may be there all the same: the store was asked to write it, and nobody can say what became of it.
    pub perhaps: bool,
}

impl From<SinewError> for NotAdded {
    fn from(error: SinewError) -> Self {
        Self { error, perhaps: false }
    }
}

impl From<NotAdded> for SinewError {
    fn from(not: NotAdded) -> Self {
        not.error
    }
}

/// A record as `catalog/` has it.
#[derive(Deserialize)]
struct CatalogRecord {
    table: Option<TableDefinition>,
}

/// The tables of a warehouse. Opening them reads and creates nothing.
#[derive(Clone, Debug)]
pub struct TableRecords {
    store: Arc<dyn ObjectStore>,
    tables: Path,
    catalog: Path,
}

impl TableRecords {
    /// The tables of the warehouse at `location`.
    pub fn new(location: &Location) -> Self {
        let (tables, catalog) = (location.child("tables"), location.child("catalog"));
        Self { store: Arc::clone(&location.store), tables, catalog }
    }

    /// The folder of a table.
    ///
    /// # Errors
    /// When the name cannot be one.
    pub fn folder(&self, name: &str) -> Result<Path> {
        Ok(self.tables.clone().join(encode(name)?))
    }

    /// The store of the warehouse.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    fn chain(&self, name: &str) -> Result<Records> {
        Ok(Records::new(Arc::clone(&self.store), self.folder(name)?.join("manifests")))
    }

    fn catalog(&self, name: &str) -> Result<Records> {
        Ok(Records::new(Arc::clone(&self.store), self.catalog.clone().join(encode(name)?)))
    }

    /// Names that have records, those of dropped tables among them.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn names(&self) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for folder in [&self.tables, &self.catalog] {
            let listed = self.store.list_with_delimiter(Some(folder)).await.map_err(|e| read_error(folder, e))?;
            names.extend(listed.common_prefixes.iter().filter_map(|p| decode(p.filename()?)));
        }
        Ok(names.into_iter().collect())
    }

    /// Which record of a name is the newest; nothing for what cannot be a name.
    ///
    /// # Errors
    /// When the store cannot list.
    pub async fn newest(&self, name: &str) -> Result<Newest> {
        let Ok(chain) = self.chain(name) else { return Ok(Newest::Nothing) };
        if let Some(&number) = chain.numbers().await?.last() {
            return Ok(Newest::Chain(number));
        }
        Ok(self.catalog(name)?.numbers().await?.last().map_or(Newest::Nothing, |number| Newest::Catalog(*number)))
    }

    /// What a name stands for by that record.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    pub async fn read(&self, name: &str, record: Newest) -> Result<Option<StoredTable>> {
        Ok(match record {
            Newest::Nothing => None,
            Newest::Chain(number) => self.chain(name)?.read::<TableRecord>(number).await?.table,
            Newest::Catalog(number) => {
                self.catalog(name)?.read::<CatalogRecord>(number).await?.table.map(StoredTable::External)
            }
        })
    }

    /// Adds the record that `change` makes of the newest one; it is asked again when another writer came
    /// first. Returns whether a record was added.
    ///
    /// # Errors
    /// Those of `change`, and of reading and writing the store.
    pub async fn commit(
        &self,
        name: &str,
        change: impl Fn(Option<StoredTable>) -> Result<Change> + Send,
    ) -> std::result::Result<bool, NotAdded> {
        let chain = self.chain(name)?;
        for attempt in 0.. {
            let newest = self.newest(name).await?;
            let Change::Write(table) = change(self.read(name, newest).await?)? else { break };
            let number = if let Newest::Chain(number) = newest { number + 1 } else { 1 };
            let record = TableRecord { format: CHAIN_FORMAT, table };
            match chain.offer(number, &record, attempt).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error @ SinewError::Contention { .. }) => return Err(error.into()),
                // The answer may have been lost on its way, and not the record.
                Err(error) => match chain.read::<TableRecord>(number).await {
                    Ok(there) if there == record => return Ok(true),
                    Ok(_) => {}
                    Err(_) => return Err(NotAdded { error, perhaps: true }),
                },
            }
        }
        Ok(false)
    }

    /// Adds the record that a table was dropped, whatever it was.
    ///
    /// # Errors
    /// When the name cannot be one, or the store cannot be written.
    pub async fn drop(&self, name: &str) -> Result<()> {
        let record = TableRecord { format: CHAIN_FORMAT, table: None };
        self.chain(name)?.append(&record).await.map(|_| ())
    }
}
