//! What a pass cost the processes that ran it, as its result rows tell the driver.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use serde::{Deserialize, Serialize};

use crate::backend::GpuUse;
use crate::error::MlError;

/// Where it is among the columns of a pass's result.
const COLUMN: usize = 3;

/// What a pass cost one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The process, by a number of its own.
    pub process: u64,
    /// Units that had to be read from their files.
    pub loaded: u64,
    /// Bytes of rows that the process keeps in memory.
    pub resident_bytes: u64,
    /// Bytes of rows in the memory of its GPUs.
    pub gpu_resident_bytes: u64,
    /// Calls that the CPU did.
    pub cpu_calls: u64,
    /// What calls of a GPU cost.
    pub gpu: GpuUse,
}

impl Spent {
    /// Adds what another partition of the same process says.
    fn add(&mut self, other: &Self) {
        self.loaded += other.loaded;
        self.cpu_calls += other.cpu_calls;
        self.gpu += other.gpu;
        // What a process keeps is the same for all of its partitions.
        self.resident_bytes = self.resident_bytes.max(other.resident_bytes);
        self.gpu_resident_bytes = self.gpu_resident_bytes.max(other.gpu_resident_bytes);
    }
}

/// What the result rows of a pass say, once for each process.
///
/// # Errors
/// When a batch is not the output of a [`GradientExec`](super::GradientExec).
pub fn spent(batches: &[RecordBatch]) -> Result<Vec<Spent>, MlError> {
    let odd = || MlError::Internal("a step returned something other than a partial".into());
    let mut all: BTreeMap<u64, Spent> = BTreeMap::new();
    for batch in batches {
        let told = batch.columns().get(COLUMN).and_then(|a| a.as_binary_opt::<i32>()).ok_or_else(odd)?;
        for bytes in told.iter() {
            let told: Vec<Spent> = postcard::from_bytes(bytes.ok_or_else(odd)?).map_err(|_| odd())?;
            for one in told {
                let known = all.entry(one.process).or_insert(Spent { process: one.process, ..Spent::default() });
                known.add(&one);
            }
        }
    }
    Ok(all.into_values().collect())
}

/// The bytes that travel in a result row.
///
/// # Errors
/// Never for numbers.
pub(super) fn encode(spent: &[Spent]) -> Result<Vec<u8>, MlError> {
    postcard::to_allocvec(spent).map_err(|e| MlError::Internal(format!("encoding a report: {e}")))
}

/// What EXPLAIN ANALYZE shows of the devices of a training. Those of GPUs appear when one is called.
#[derive(Debug)]
pub struct DeviceCounts {
    metrics: ExecutionPlanMetricsSet,
    cpu_calls: Count,
    gpu: Option<GpuCounts>,
}

#[derive(Debug)]
struct GpuCounts {
    calls: Count,
    fallbacks: Count,
    uploads: Count,
    uploaded_bytes: Count,
    busy: Time,
}

impl DeviceCounts {
    /// Counters among the metrics of an operator.
    pub(super) fn new(metrics: &ExecutionPlanMetricsSet) -> Self {
        let cpu_calls = MetricBuilder::new(metrics).global_counter("cpu_calls");
        Self { metrics: metrics.clone(), cpu_calls, gpu: None }
    }

    /// Counts what a pass cost a process.
    pub fn add(&mut self, spent: &Spent) {
        self.cpu_calls.add(spent.cpu_calls as usize);
        if spent.gpu == GpuUse::default() {
            return;
        }
        let count = |name| MetricBuilder::new(&self.metrics).global_counter(name);
        let gpu = self.gpu.get_or_insert_with(|| GpuCounts {
            calls: count("gpu_calls"),
            fallbacks: count("gpu_fallbacks"),
            uploads: count("gpu_uploads"),
            uploaded_bytes: count("gpu_uploaded_bytes"),
            busy: MetricBuilder::new(&self.metrics).subset_time("gpu_busy", 0),
        });
        gpu.calls.add(spent.gpu.calls as usize);
        gpu.fallbacks.add(spent.gpu.fallbacks as usize);
        gpu.uploads.add(spent.gpu.uploads as usize);
        gpu.uploaded_bytes.add(spent.gpu.uploaded_bytes as usize);
        gpu.busy.add_duration(Duration::from_micros(spent.gpu.busy_us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Ran;

    #[test]
    fn partitions_of_one_process_add_up_and_what_it_keeps_counts_once() -> datafusion::error::Result<()> {
        let gpu = GpuUse { calls: 1, uploaded_bytes: 10, ..GpuUse::default() };
        let one = Spent { process: 7, loaded: 2, resident_bytes: 100, gpu_resident_bytes: 40, cpu_calls: 0, gpu };
        let other = Spent { process: 8, resident_bytes: 60, ..Spent::default() };
        let row = |told: &[Spent]| super::super::gradient::row(b"", 0, b"", told, Ran::default());
        let all = spent(&[row(&[one])?, row(&[one, other])?])?;
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].loaded, all[0].resident_bytes, all[0].gpu_resident_bytes), (4, 100, 40));
        assert_eq!((all[0].gpu.calls, all[0].gpu.uploaded_bytes), (2, 20));
        assert_eq!(all[1], other);
        Ok(())
    }
}
