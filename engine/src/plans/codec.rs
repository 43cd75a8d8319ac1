//! How tables travel in plans: those of the server by their names, those in memory with their rows.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::catalog::{Session as CatalogSession, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, Expr, Extension, LogicalPlan, ScalarUDF, TableType, WindowUDF};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::logical_plan::LogicalExtensionCodec;

use super::message::Relation;
use crate::error::SinewError;

/// First byte of a table that the server has.
const NAMED: u8 = 0;
/// First byte of a table that travels with its rows, as a stream of Arrow IPC.
const ROWS: u8 = 1;
/// Bytes of rows that travel in a plan.
const MOST_ROWS: usize = 16 << 20;

/// A table of the server, or a relation that the statement brings along: its columns are known here, its rows are
/// there.
#[derive(Debug)]
pub struct Named {
    /// Its columns.
    pub schema: SchemaRef,
    /// Where it is no table of the server, how it is made there.
    pub frame: Option<Frame>,
}

/// A relation over a client's plans: what makes it, and those that it names.
#[derive(Clone, Debug)]
pub struct Frame {
    /// All relations, each after those that it names; itself is the last.
    pub relations: Vec<Relation>,
}

#[async_trait]
impl TableProvider for Named {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
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
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Err(SinewError::Internal("a table of the server was scanned here".into()).into())
    }
}

/// The codec of plans that travel between client and server.
#[derive(Debug)]
pub struct Travel;

fn stays(what: String) -> DataFusionError {
    SinewError::NotAvailable { what: format!("{what} in a plan that travels"), hint: ELSEWHERE.into() }.into()
}

const ELSEWHERE: &str = "what only your program has does not reach the server; use SQL functions, tables of the server, \
                         or rows that you store there first";

impl LogicalExtensionCodec for Travel {
    fn try_decode(&self, _: &[u8], _: &[LogicalPlan], _: &TaskContext) -> Result<Extension> {
        Err(stays("an operator that DataFusion does not have".into()))
    }

    fn try_encode(&self, node: &Extension, _: &mut Vec<u8>) -> Result<()> {
        Err(stays(format!("the operator {}", node.node.name())))
    }

    fn try_decode_table_provider(
        &self,
        bytes: &[u8],
        name: &TableReference,
        schema: SchemaRef,
        _: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        match bytes.split_first() {
            None | Some((&NAMED, [])) => Ok(Arc::new(Named { schema, frame: None })),
            Some((&ROWS, rows)) => {
                let reader = StreamReader::try_new(rows, None)?;
                let schema = reader.schema();
                let batches = reader.collect::<std::result::Result<Vec<_>, _>>()?;
                Ok(Arc::new(MemTable::try_new(schema, vec![batches])?))
            }
            Some(_) => Err(stays(format!("table '{name}'"))),
        }
    }

    fn try_encode_table_provider(
        &self,
        name: &TableReference,
        table: Arc<dyn TableProvider>,
        to: &mut Vec<u8>,
    ) -> Result<()> {
        if table.downcast_ref::<Named>().is_some() {
            to.push(NAMED);
            return Ok(());
        }
        let Some(rows) = table.downcast_ref::<MemTable>() else { return Err(stays(format!("table '{name}'"))) };
        to.push(ROWS);
        let mut writer = StreamWriter::try_new(to, &table.schema())?;
        let mut bytes = 0;
        for batch in rows_of(rows)? {
            bytes += batch.get_array_memory_size();
            if bytes > MOST_ROWS {
                let what = format!("{} MiB of rows in a plan that travels", MOST_ROWS >> 20);
                let hint = "store them as a table of the server first".into();
                return Err(SinewError::TooMany { what, hint }.into());
            }
            writer.write(&batch)?;
        }
        Ok(writer.finish()?)
    }

    fn try_decode_udf(&self, name: &str, _: &[u8]) -> Result<Arc<ScalarUDF>> {
        Err(stays(format!("the function '{name}'")))
    }

    fn try_decode_udaf(&self, name: &str, _: &[u8]) -> Result<Arc<AggregateUDF>> {
        Err(stays(format!("the aggregate function '{name}'")))
    }

    fn try_decode_udwf(&self, name: &str, _: &[u8]) -> Result<Arc<WindowUDF>> {
        Err(stays(format!("the window function '{name}'")))
    }
}

fn rows_of(table: &MemTable) -> Result<Vec<RecordBatch>> {
    let mut all = Vec::new();
    for partition in &table.batches {
        let rows = partition.try_read();
        let rows = rows.map_err(|_| DataFusionError::Execution("the table in memory is being written".into()))?;
        all.extend(rows.iter().cloned());
    }
    Ok(all)
}
