//! A table in memory whose bytes are counted: the count goes with the table, when nothing reads it any more.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::SchemaExt;
use datafusion::common::utils::memory::RecordBatchMemoryCounter;
use datafusion::datasource::MemTable;
use datafusion::datasource::memory::PartitionData;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan};
use futures::StreamExt;

/// A table of DataFusion's in memory, and the memory that its rows take.
#[derive(Debug)]
pub struct Temporary {
    table: Arc<dyn TableProvider>,
    rows: Arc<Rows>,
}

/// The rows of a table: its own, and their count.
struct Rows {
    schema: SchemaRef,
    partitions: Vec<PartitionData>,
    held: MemoryReservation,
}

impl Temporary {
    /// A table of rows that `held` has counted.
    ///
    /// # Errors
    /// When the rows have other columns.
    pub fn new(schema: SchemaRef, rows: Vec<RecordBatch>, held: MemoryReservation) -> Result<Self> {
        let table = MemTable::try_new(Arc::clone(&schema), vec![rows])?;
        let partitions = table.batches.clone();
        Ok(Self { table: Arc::new(table), rows: Arc::new(Rows { schema, partitions, held }) })
    }

    /// The same table, its rows counted by `held`; `None` where it is not in memory.
    ///
    /// # Errors
    /// When there is no room for its rows.
    pub async fn around(table: &Arc<dyn TableProvider>, held: MemoryReservation) -> Result<Option<Self>> {
        let Some(memory) = table.downcast_ref::<MemTable>() else { return Ok(None) };
        let rows = Rows { schema: table.schema(), partitions: memory.batches.clone(), held };
        rows.held.try_grow(rows.bytes().await)?;
        Ok(Some(Self { table: Arc::clone(table), rows: Arc::new(rows) }))
    }

    /// Adds rows that `held` has counted.
    ///
    /// # Errors
    /// When the rows have other columns, or values that these do not take.
    pub async fn append(&self, schema: &SchemaRef, rows: Vec<RecordBatch>, held: &MemoryReservation) -> Result<()> {
        self.rows.schema.logically_equivalent_names_and_types(schema)?;
        let rows = rows.iter().map(|batch| self.rows.fitting(batch)).collect::<Result<_>>()?;
        self.rows.add(rows, held).await;
        Ok(())
    }
}

impl Rows {
    /// A batch with the types of this table.
    fn fitting(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    async fn add(&self, mut rows: Vec<RecordBatch>, held: &MemoryReservation) {
        // A table has at least one partition.
        if let Some(partition) = self.partitions.first() {
            partition.write().await.append(&mut rows);
            self.held.grow(held.free());
        }
    }

    async fn bytes(&self) -> usize {
        let (mut counter, mut bytes) = (RecordBatchMemoryCounter::new(), 0);
        for partition in &self.partitions {
            bytes += partition.read().await.iter().map(|batch| counter.count_batch(batch)).sum::<usize>();
        }
        bytes
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.held.size())
    }
}

#[async_trait]
impl TableProvider for Temporary {
    fn schema(&self) -> SchemaRef {
        self.table.schema()
    }

    fn table_type(&self) -> TableType {
        self.table.table_type()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.table.get_column_default(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.table.scan(state, projection, filters, limit).await
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // The table itself says what it does not take.
        self.table.insert_into(state, Arc::clone(&input), op).await?;
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(Sink(Arc::clone(&self.rows))), None)))
    }

    async fn delete_from(&self, state: &dyn Session, filters: Vec<Expr>) -> Result<Arc<dyn ExecutionPlan>> {
        let done = self.table.delete_from(state, filters).await?;
        self.rows.held.resize(self.rows.bytes().await);
        Ok(done)
    }

    async fn update(
        &self,
        state: &dyn Session,
        assignments: Vec<(String, Expr)>,
        filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let done = self.table.update(state, assignments, filters).await?;
        self.rows.held.resize(self.rows.bytes().await);
        Ok(done)
    }
}

/// Adds the rows of a query to a table, all or none.
#[derive(Debug)]
struct Sink(Arc<Rows>);

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTable (partitions={})", self.0.partitions.len())
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    async fn write_all(&self, mut data: SendableRecordBatchStream, _: &Arc<TaskContext>) -> Result<u64> {
        let (held, mut counter) = (self.0.held.new_empty(), RecordBatchMemoryCounter::new());
        let (mut rows, mut count) = (Vec::new(), 0);
        while let Some(batch) = data.next().await.transpose()? {
            held.try_grow(counter.count_batch(&batch))?;
            count += batch.num_rows() as u64;
            rows.push(batch);
        }
        self.0.add(rows, &held).await;
        Ok(count)
    }
}
