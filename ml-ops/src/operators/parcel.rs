//! Plain data of an operator on its way to other processes: inside the plan while it is small, else at an
//! address that all of them reach.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{MlError, Result};
use crate::runtime::TrainRuntime;

/// Values that a process keeps after it fetched them.
const KEPT: usize = 16;

/// A value, or where it lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Parcel<T> {
    /// The value itself.
    Here(Arc<T>),
    /// In an object store.
    There(Address),
}

/// Where the encoded form of a value lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The store, as in `s3://bucket/`.
    pub store: String,
    /// The path in the store.
    pub path: String,
    /// XXH3 of the encoded value, 128 bits.
    pub digest: u128,
}

impl<T> Parcel<T> {
    /// The value, if it travels inside.
    pub fn here(&self) -> Option<&Arc<T>> {
        match self {
            Self::Here(value) => Some(value),
            Self::There(_) => None,
        }
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Parcel<T> {
    /// The value, fetched at its first use in this process.
    ///
    /// # Errors
    /// When the store cannot be read, or what lies there is something else.
    pub async fn open(&self, runtime: &TrainRuntime, context: &TaskContext) -> Result<Arc<T>> {
        let address = match self {
            Self::Here(value) => return Ok(Arc::clone(value)),
            Self::There(address) => address,
        };
        if let Some(value) = runtime.parcels.get(address.digest) {
            return value.downcast().map_err(|_| damaged(address, "it is of another kind"));
        }
        let url = ObjectStoreUrl::parse(&address.store)?;
        let store = context.runtime_env().object_store(&url)?;
        let got = store.get(&Path::from(address.path.as_str())).await.map_err(DataFusionError::from)?;
        let bytes = got.bytes().await.map_err(DataFusionError::from)?;
        if digest(&bytes) != address.digest {
            return Err(damaged(address, "its checksum differs"));
        }
        let value: Arc<T> = Arc::new(postcard::from_bytes(&bytes).map_err(|e| damaged(address, &e.to_string()))?);
        runtime.parcels.keep(address.digest, Arc::clone(&value) as Arc<dyn Any + Send + Sync>);
        Ok(value)
    }
}

/// The encoded form of a value, as it lies at an [`Address`].
///
/// # Errors
/// When it cannot be encoded.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(|e| MlError::Internal(format!("encoding an operator's data: {e}")))
}

/// The checksum of an encoded value.
pub fn digest(bytes: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(bytes)
}

fn damaged(address: &Address, reason: &str) -> MlError {
    MlError::Internal(format!("'{}{}' is no parameter of this training: {reason}", address.store, address.path))
}

/// The values that this process fetched last.
#[derive(Debug, Default)]
pub struct Parcels {
    values: Mutex<VecDeque<(u128, Arc<dyn Any + Send + Sync>)>>,
}

impl Parcels {
    fn get(&self, digest: u128) -> Option<Arc<dyn Any + Send + Sync>> {
        let mut values = self.values.lock();
        let at = values.iter().position(|(known, _)| *known == digest)?;
        let found = values.remove(at)?;
        let value = Arc::clone(&found.1);
        values.push_back(found);
        Some(value)
    }

    fn keep(&self, digest: u128, value: Arc<dyn Any + Send + Sync>) {
        let mut values = self.values.lock();
        values.retain(|(known, _)| *known != digest);
        if values.len() >= KEPT {
            values.pop_front();
        }
        values.push_back((digest, value));
    }
}
