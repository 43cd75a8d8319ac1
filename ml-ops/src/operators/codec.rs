//! How our operators and functions travel: the part of a plan that DataFusion's protobuf does not know.
//!
//! A node of ours is `SINEW`, a tag byte, and its own data; inputs travel beside it. Anything else goes
//! to the codec that this one wraps.

use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
/// The crate of the codec's trait, for codecs in front of this one.
pub use datafusion_proto;
use datafusion_proto::physical_plan::{PhysicalExtensionCodec, PhysicalProtoConverterExtension};
use serde::{Serialize, de::DeserializeOwned};

use super::{FeatureCacheExec, GradientExec, MergeExec, Rows, ScoreExec, ScorePlace, ShardExec, Stage, TrainExec};
use crate::error::MlError;
use crate::functions::{Called, Prediction, as_model_aggregate, as_model_function};
use crate::model::Model;
use crate::training::TrainSpec;

const MAGIC: &[u8] = b"SINEW";
const TRAIN: u8 = 1;
const GRADIENT: u8 = 2;
const CACHE: u8 = 3;
const MERGE: u8 = 4;
const SHARD: u8 = 5;
const SCORE: u8 = 6;

/// A scoring without its model: functions, names of their results, columns passed on, arguments, place, and the device
/// as EXPLAIN shows it.
type Scored = (Vec<Called>, Vec<String>, Vec<usize>, ScorePlace, String);

/// Encodes our operators, and hands everything else to `inner`.
#[derive(Debug)]
pub struct SinewPhysicalCodec {
    inner: Arc<dyn PhysicalExtensionCodec>,
}

impl SinewPhysicalCodec {
    /// A codec in front of `inner`.
    pub fn new(inner: Arc<dyn PhysicalExtensionCodec>) -> Self {
        Self { inner }
    }
}

impl PhysicalExtensionCodec for SinewPhysicalCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some([tag, data @ ..]) = buf.strip_prefix(MAGIC) else {
            return self.inner.try_decode(buf, inputs, ctx, converter);
        };
        let input = super::only_child("a sinew operator", inputs.to_vec())?;
        Ok(match *tag {
            TRAIN => {
                let (spec, device): (TrainSpec, String) = from_json(data)?;
                Arc::new(TrainExec::new(Arc::new(spec), input, &device))
            }
            GRADIENT => {
                let (pass, placement) = postcard::from_bytes(data).map_err(|e| damaged(&e))?;
                Arc::new(GradientExec::new(input, pass).placed(placement))
            }
            MERGE => Arc::new(MergeExec::new(input)),
            SHARD => Arc::new(ShardExec::new(input, from_json(data)?)),
            SCORE => {
                let (json, model): (Vec<u8>, Vec<u8>) = postcard::from_bytes(data).map_err(|e| damaged(&e))?;
                let (functions, names, arguments, place, device): Scored = from_json(&json)?;
                let prediction = Prediction::new(&Arc::new(Model::from_bytes(&model)?), &functions)?;
                let exec = ScoreExec::new(input, Arc::new(prediction), names, arguments, place)?;
                Arc::new(exec.shown(device))
            }
            CACHE => {
                let (key, rows_key, stage, rows, partitions): (String, String, Stage, Rows, usize) = from_json(data)?;
                let cache = FeatureCacheExec::new(Arc::clone(&input), key, stage.clone(), partitions);
                let cache = cache.with_rows_key(rows_key);
                Arc::new(if rows == Rows::Units { cache.bound(input, stage) } else { cache })
            }
            other => return Err(damaged(&format!("unknown operator {other}"))),
        })
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let (tag, data) = if let Some(train) = node.downcast_ref::<TrainExec>() {
            (TRAIN, to_json(&(train.spec().as_ref(), train.device()))?)
        } else if let Some(gradient) = node.downcast_ref::<GradientExec>() {
            let parts = (gradient.pass(), gradient.placement());
            (GRADIENT, postcard::to_allocvec(&parts).map_err(|e| damaged(&e))?)
        } else if node.is::<MergeExec>() {
            (MERGE, Vec::new())
        } else if let Some(shard) = node.downcast_ref::<ShardExec>() {
            (SHARD, to_json(&shard.shards())?)
        } else if let Some(score) = node.downcast_ref::<ScoreExec>() {
            let functions: Vec<&Called> = score.prediction().functions().collect();
            let (names, arguments, device) = score.parts();
            let json = to_json(&(functions, names, arguments, score.place(), device))?;
            let model = score.prediction().model().to_bytes()?;
            (SCORE, postcard::to_allocvec(&(json, model)).map_err(|e| damaged(&e))?)
        } else if let Some(cache) = node.downcast_ref::<FeatureCacheExec>() {
            let partitions = cache.properties().partitioning.partition_count();
            (CACHE, to_json(&(cache.key(), cache.rows_key(), cache.stage(), cache.rows(), partitions))?)
        } else {
            return self.inner.try_encode(node, buf, converter);
        };
        buf.extend_from_slice(MAGIC);
        buf.push(tag);
        buf.extend_from_slice(&data);
        Ok(())
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        match buf.strip_prefix(MAGIC) {
            Some(data) => {
                let (function, model) = decode_function(data)?;
                Ok(function.scalar(&model)?)
            }
            None => self.inner.try_decode_udf(name, buf),
        }
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        match as_model_function(node) {
            Some((function, model)) => encode_function(function, model, buf),
            None => self.inner.try_encode_udf(node, buf),
        }
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        match buf.strip_prefix(MAGIC) {
            Some(data) => {
                let (function, model) = decode_function(data)?;
                Ok(function.aggregate(&model)?)
            }
            None => self.inner.try_decode_udaf(name, buf),
        }
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        match as_model_aggregate(node) {
            Some((function, model)) => encode_function(function, model, buf),
            None => self.inner.try_encode_udaf(node, buf),
        }
    }
}

/// A function travels with its model: executors never read the catalog.
fn encode_function(function: &Called, model: &Model, buf: &mut Vec<u8>) -> Result<()> {
    let data = postcard::to_allocvec(&(to_json(function)?, model.to_bytes()?)).map_err(|e| damaged(&e))?;
    buf.extend_from_slice(MAGIC);
    buf.extend_from_slice(&data);
    Ok(())
}

fn decode_function(data: &[u8]) -> Result<(Called, Arc<Model>)> {
    let (function, model): (Vec<u8>, Vec<u8>) = postcard::from_bytes(data).map_err(|e| damaged(&e))?;
    Ok((from_json(&function)?, Arc::new(Model::from_bytes(&model)?)))
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| damaged(&e))
}

fn from_json<T: DeserializeOwned>(data: &[u8]) -> Result<T> {
    serde_json::from_slice(data).map_err(|e| damaged(&e))
}

fn damaged(reason: &dyn std::fmt::Display) -> DataFusionError {
    MlError::Internal(format!("a plan that travelled is damaged: {reason}")).into()
}
