//! The message that carries plans, in the `cmd` of a Flight descriptor, packed into a `google.protobuf.Any`.

use arrow_flight::sql::Any;
use bytes::Bytes;
use prost::Message;

/// The type of the message in its `Any`.
pub const TYPE_URL: &str = "type.googleapis.com/sinew.flight.CommandPlan";

/// Plans of DataFusion, and a statement over them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CommandPlan {
    /// The major version of DataFusion that made the plans.
    #[prost(uint32, tag = "1")]
    pub datafusion: u32,
    /// A statement that names relations as tables; where it is empty, the last relation is the result.
    #[prost(string, tag = "2")]
    pub statement: String,
    /// Relations; each may name those before it.
    #[prost(message, repeated, tag = "3")]
    pub relations: Vec<Relation>,
}

/// A name for a query.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Relation {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The query as a plan: `datafusion.LogicalPlanNode`.
    #[prost(bytes = "bytes", tag = "2")]
    pub plan: Bytes,
    /// The query as SQL, in place of a plan.
    #[prost(string, tag = "3")]
    pub query: String,
}

impl CommandPlan {
    /// The message as a descriptor carries it.
    pub fn packed(&self) -> Vec<u8> {
        Any { type_url: TYPE_URL.into(), value: self.encode_to_vec().into() }.encode_to_vec()
    }

    /// Bytes of its plans.
    pub fn bytes(&self) -> usize {
        self.relations.iter().map(|relation| relation.plan.len() + relation.query.len()).sum()
    }
}
