//! A block on disk: one Arrow IPC stream in a file of the disk manager.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::ipc::{reader::StreamReader, writer::StreamWriter};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::spill_file::SpillFile;

use crate::error::{MlError, Result};

/// Writes a block to disk; the file goes when the last reference to it does.
pub fn spill(batch: &RecordBatch, context: &TaskContext) -> Result<Arc<dyn SpillFile>> {
    let file = context.runtime_env().disk_manager.create_tmp_file("the feature cache of a training")?;
    let mut output = file.open_writer()?;
    let mut writer = StreamWriter::try_new(&mut output, batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    output.finish()?;
    Ok(file)
}

/// Reads it back.
pub fn unspill(file: &Arc<dyn SpillFile>) -> Result<RecordBatch> {
    let path = file.path().ok_or_else(|| MlError::Internal("a spilled block is not a local file".into()))?;
    let input = BufReader::new(File::open(path).map_err(DataFusionError::from)?);
    let mut reader = StreamReader::try_new(input, None)?;
    let batch = reader.next().ok_or_else(|| MlError::Internal("a spilled block is empty".into()))?;
    Ok(batch?)
}
