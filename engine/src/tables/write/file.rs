//! The Parquet files of one partition. A file is in the store once it is whole, and not before.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::config::TableParquetOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::AsyncArrowWriter;
use datafusion::parquet::arrow::arrow_writer::ArrowWriterOptions;
use datafusion::parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::buffered::BufWriter;

use super::target::Target;
use crate::warehouse::DataFile;
use crate::warehouse::columns::schema;
use crate::warehouse::records::write_error;

/// Rows that wait in memory for their row group to be full are written when they take this much.
const GROUP_BYTES: usize = 128 << 20;

/// Turns a stream of rows into files, one after another.
pub struct Files {
    target: Arc<Target>,
    schema: SchemaRef,
    /// The rows; nothing after their end.
    rows: Option<SendableRecordBatchStream>,
    store: Arc<dyn ObjectStore>,
    properties: WriterProperties,
    buffer: usize,
    memory: MemoryReservation,
    open: Option<Open>,
}

struct Open {
    path: String,
    rows: u64,
    writer: AsyncArrowWriter<BufWriter>,
}

impl Files {
    /// The files of `rows`; nothing is read or written yet.
    ///
    /// # Errors
    /// When the store is not known, or an option of Parquet files cannot be used.
    pub fn new(target: Arc<Target>, rows: SendableRecordBatchStream, context: &TaskContext) -> Result<Self> {
        let execution = &context.session_config().options().execution;
        let schema = schema(&target.columns)?;
        let mut options = TableParquetOptions { global: execution.parquet.clone(), ..Default::default() };
        // Types that Parquet does not have come back through Arrow's own schema.
        options.global.skip_arrow_metadata = false;
        options.arrow_schema(&schema);
        Ok(Self {
            store: context.runtime_env().object_store(ObjectStoreUrl::parse(&target.store)?)?,
            properties: WriterPropertiesBuilder::try_from(&options)?.build(),
            buffer: execution.objectstore_writer_buffer_size,
            memory: MemoryConsumer::new(format!("WriteExec[{}]", target.table)).register(context.memory_pool()),
            rows: Some(rows),
            open: None,
            schema,
            target,
        })
    }

    /// The next file, once it is in the store; none after the last row.
    ///
    /// # Errors
    /// When a row cannot be read or does not fit, or the store cannot be written; nothing of the file stays.
    pub async fn next(&mut self) -> Result<Option<DataFile>> {
        let result = self.fill().await;
        if result.is_err()
            && let Some(open) = self.open.take()
        {
            self.rows = None;
            // A store may keep the parts of an upload that nobody ends.
            let _ = open.writer.into_inner().abort().await;
        }
        result
    }

    async fn fill(&mut self) -> Result<Option<DataFile>> {
        while let Some(rows) = &mut self.rows {
            let Some(batch) = rows.next().await.transpose()? else { break };
            if batch.num_rows() > 0 && self.add(&batch).await? >= self.target.file_bytes {
                return self.close().await;
            }
            // Rows are often ready at once: a cancelled write ends here.
            tokio::task::yield_now().await;
        }
        self.rows = None;
        self.close().await
    }

    /// Adds rows to the open file and returns its size so far.
    async fn add(&mut self, batch: &RecordBatch) -> Result<u64> {
        let batch = self.target.fit(&self.schema, batch)?;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        let added = async {
            open.writer.write(&batch).await?;
            let waiting = open.writer.memory_size();
            if waiting >= GROUP_BYTES || self.memory.try_resize(waiting).is_err() {
                open.writer.flush().await?;
                self.memory.try_resize(open.writer.memory_size())?;
            }
            Result::Ok(())
        };
        let added = added.await;
        open.rows += batch.num_rows() as u64;
        let size = open.writer.bytes_written() + open.writer.in_progress_size();
        let path = open.path.clone();
        self.open = Some(open);
        added.map_err(|e| self.failed(&path, e))?;
        Ok(size as u64)
    }

    fn begin(&self) -> Result<Open> {
        let path = self.target.new_file();
        let output = BufWriter::with_capacity(Arc::clone(&self.store), self.target.path(&path)?, self.buffer);
        let options = ArrowWriterOptions::new().with_properties(self.properties.clone()).with_skip_arrow_metadata(true);
        let writer = AsyncArrowWriter::try_new_with_options(output, Arc::clone(&self.schema), options)?;
        Ok(Open { path, rows: 0, writer })
    }

    async fn close(&mut self) -> Result<Option<DataFile>> {
        let Some(mut open) = self.open.take() else { return Ok(None) };
        open.writer.finish().await.map_err(|e| self.failed(&open.path, e.into()))?;
        self.memory.free();
        Ok(Some(DataFile { bytes: open.writer.bytes_written() as u64, path: open.path, rows: open.rows }))
    }

    /// An error of writing names the file and says what to do.
    fn failed(&self, below: &str, error: DataFusionError) -> DataFusionError {
        match (self.target.path(below), error) {
            (Ok(path), error @ (DataFusionError::ParquetError(_) | DataFusionError::ObjectStore(_))) => {
                let source = object_store::Error::Generic { store: "file", source: Box::new(error) };
                write_error(&path, source).into()
            }
            (_, error) => error,
        }
    }
}
