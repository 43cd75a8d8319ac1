//! How the operators of this crate travel, in front of those of `sinew-ml`.
//!
//! A node of ours is `SINEW`, a tag byte, and its own data, like theirs; the tags differ.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use datafusion::physical_plan::ExecutionPlan;
use sinew_ml::operators::SinewPhysicalCodec;
use sinew_ml::operators::codec::datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalProtoConverterExtension,
};

use crate::error::SinewError;
use crate::tables::copy::CopyExec;
use crate::tables::write::{Target, WriteExec};

const WRITE: &[u8] = b"SINEW\x10";
const COPY: &[u8] = b"SINEW\x11";

/// The codec of every operator and function of Sinew; everything else goes to `inner`.
pub fn codec(inner: Arc<dyn PhysicalExtensionCodec>) -> Arc<dyn PhysicalExtensionCodec> {
    Arc::new(EngineCodec { ml: SinewPhysicalCodec::new(inner) })
}

#[derive(Debug)]
struct EngineCodec {
    ml: SinewPhysicalCodec,
}

impl PhysicalExtensionCodec for EngineCodec {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (buf.strip_prefix(WRITE), buf.strip_prefix(COPY), inputs) {
            (Some(data), _, [input]) => {
                let target: Target = serde_json::from_slice(data)
                    .map_err(|e| SinewError::Internal(format!("a plan that travelled is damaged: {e}")))?;
                Ok(Arc::new(WriteExec::new(Arc::new(target), Arc::clone(input))))
            }
            (_, Some(_), [sink]) => Ok(Arc::new(CopyExec::new(Arc::clone(sink)))),
            _ => self.ml.try_decode(buf, inputs, ctx, converter),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        if let Some(write) = node.downcast_ref::<WriteExec>() {
            let target = serde_json::to_vec(write.target().as_ref());
            buf.extend_from_slice(WRITE);
            buf.extend_from_slice(&target.map_err(|e| SinewError::Internal(format!("encoding a plan: {e}")))?);
        } else if node.downcast_ref::<CopyExec>().is_some() {
            buf.extend_from_slice(COPY);
        } else {
            return self.ml.try_encode(node, buf, converter);
        }
        Ok(())
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.ml.try_decode_udf(name, buf)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ml.try_encode_udf(node, buf)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.ml.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.ml.try_encode_udaf(node, buf)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::{Session, SessionOptions};
    use datafusion::physical_plan::displayable;
    use datafusion::prelude::SessionContext;
    use sinew_ml::operators::codec::datafusion_proto::bytes::{
        physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
    };
    use sinew_ml::operators::codec::datafusion_proto::physical_plan::DefaultPhysicalExtensionCodec;

    fn there_and_back(plan: &Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        let codec = codec(Arc::new(DefaultPhysicalExtensionCodec {}));
        let bytes = physical_plan_to_bytes_with_extension_codec(Arc::clone(plan), codec.as_ref()).unwrap();
        let context = SessionContext::new();
        let back = physical_plan_from_bytes_with_extension_codec(&bytes, &context.task_ctx(), codec.as_ref()).unwrap();
        let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(true).to_string();
        assert_eq!(shown(plan), shown(&back));
        back
    }

    #[tokio::test]
    async fn writes_and_copies_survive_the_way_to_another_process() {
        let session = Session::embedded(SessionOptions::in_memory()).unwrap();
        session.sql("CREATE TABLE t (a BIGINT NOT NULL, b VARCHAR)").collect().await.unwrap();
        let plan = |sql: &'static str| {
            let session = session.clone();
            async move {
                let plan = session.context().state().create_logical_plan(sql).await.unwrap();
                let started = crate::session::physical(&session, plan).await.unwrap();
                there_and_back(&started)
            }
        };
        let back = plan("INSERT INTO t SELECT value, 'x' FROM generate_series(1, 3)").await;
        let target = back.downcast_ref::<WriteExec>().unwrap().target();
        assert_eq!((target.table.as_str(), target.store.as_str()), ("t", "memory://warehouse/"));
        assert_eq!(target.columns.iter().map(|c| c.nullable).collect::<Vec<_>>(), [false, true]);
        for kind in ["PARQUET", "CSV", "JSON"] {
            let sql = format!("COPY (SELECT 1 AS a) TO '/nowhere/x' STORED AS {kind}");
            let plan = session.context().state().create_logical_plan(&sql).await.unwrap();
            there_and_back(&crate::session::physical(&session, plan).await.unwrap());
        }
    }
}
