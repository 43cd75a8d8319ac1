//! The blocks of one unit: resident, or read from its file and kept.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::Count;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::feature_cache::{Stage, blocks, open, ready};
use super::units;
use crate::runtime::TrainRuntime;
use crate::store::{Entry, Unit};

/// Reads units of a query.
pub struct UnitReader {
    /// The query, bound to units.
    pub query: Arc<dyn ExecutionPlan>,
    /// The key of its rows.
    pub rows_key: String,
    /// The process's store and device.
    pub runtime: Arc<TrainRuntime>,
    /// The task's.
    pub context: Arc<TaskContext>,
    /// Units that were read from their files.
    pub loaded: Count,
}

impl UnitReader {
    /// The blocks of a unit, in the form that the stage asks for.
    pub async fn read(
        self: Arc<Self>,
        file: PartitionedFile,
        stage: Stage,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let store = units::scan(&self.query).map_or("", |scan| scan.object_store_url.as_str());
        let key = format!("{} {}", self.rows_key, units::name(store, &file));
        let unit = self.runtime.store.unit(&key);
        if stage == Stage::Raw {
            let entry = self.entry(&unit, &key, &file).await?;
            let Some(raw) = entry.all_raw() else {
                // Another run has prepared them meanwhile; a pass over raw rows is rare enough to read again.
                return Ok(self.scan(&file)?.boxed());
            };
            let raw = futures::stream::iter(0..).map(move |i| raw.get(i)).map_err(Into::into);
            return Ok(raw
                .try_take_while(|block| std::future::ready(Ok(block.is_some())))
                .try_filter_map(|block| async move {
                    tokio::task::coop::consume_budget().await;
                    Ok(block)
                })
                .boxed());
        }
        let (frozen, sample) = open(&stage, &self.runtime, &self.context).await?;
        let mut entry = self.entry(&unit, &key, &file).await?;
        if !entry.suits(&frozen) {
            entry = self.load(&unit, &key, &file).await?;
            entry.suits(&frozen);
        }
        if let Stage::Sharded(_, shards) = stage {
            // Those that lie elsewhere are empty here.
            let all = futures::stream::iter(0..shards).then(move |shard| {
                let block = entry.shard(shard, shards, &frozen, &self.runtime.store, &self.context);
                async move {
                    tokio::task::coop::consume_budget().await;
                    Ok(block?)
                }
            });
            return Ok(all.try_filter(|block| std::future::ready(block.num_rows() > 0)).boxed());
        }
        let prepared = futures::stream::iter(0..entry.len()).then(move |i| {
            let block = ready(&entry, i, &frozen, sample, &self.runtime, &self.context);
            async move {
                tokio::task::coop::consume_budget().await;
                block
            }
        });
        Ok(prepared.boxed())
    }

    /// The unit's entry, read from its file if it is not resident.
    async fn entry(&self, unit: &Arc<Unit>, key: &str, file: &PartitionedFile) -> Result<Arc<Entry>> {
        let _reading = unit.reading.lock().await;
        let resident = unit.entry();
        match resident {
            Some(entry) => Ok(entry),
            None => self.load(unit, key, file).await,
        }
    }

    /// Reads a unit from its file and keeps it.
    async fn load(&self, unit: &Arc<Unit>, key: &str, file: &PartitionedFile) -> Result<Arc<Entry>> {
        self.loaded.add(1);
        units::check_unchanged(&self.query, file, &self.context).await?;
        let entry = unit.fresh(key);
        let mut rows = self.scan(file)?;
        while let Some(block) = rows.next().await.transpose()? {
            tokio::task::yield_now().await;
            entry.push(block, &self.runtime.store, &self.context)?;
        }
        units::check_unchanged(&self.query, file, &self.context).await?;
        entry.set_loaded();
        unit.keep(Arc::clone(&entry));
        Ok(entry)
    }

    /// The blocks of a unit as its file gives them.
    fn scan(&self, file: &PartitionedFile) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let alone = units::bind(&self.query, vec![FileGroup::new(vec![file.clone()])])?;
        let rows = alone.execute(0, Arc::clone(&self.context))?;
        let cut = rows.and_then(|batch| async move { Ok(futures::stream::iter(blocks(&batch)?.into_iter().map(Ok))) });
        Ok(cut.try_flatten().boxed())
    }
}
