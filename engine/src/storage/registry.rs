//! The stores of a process, each made when it is first asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use parking_lot::Mutex;
use url::Url;

use super::address::{Service, bucket, key};
use super::roots::Roots;
use super::services;
use super::settings::Settings;
use crate::error::{Result, SinewError};

/// Stores by the part of the address that names them.
pub struct Registry {
    settings: Settings,
    /// What is reached lies in all of them.
    roots: Vec<Arc<Roots>>,
    stores: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("stores", &self.stores.lock().keys()).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry without stores yet.
    pub fn new(settings: Settings, roots: Vec<Arc<Roots>>) -> Self {
        Self { settings, roots, stores: Mutex::default() }
    }

    fn make(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let (service, name) = bucket(url)?;
        match service {
            Service::Local => Ok(Arc::new(LocalFileSystem::new())),
            Service::Memory => Ok(Arc::new(InMemory::new())),
            Service::S3 => services::s3(&name, &key(url), &self.settings),
            Service::Azure => services::azure(url, &key(url), &self.settings),
            Service::Gcs => services::gcs(&name, &key(url), &self.settings),
        }
    }
}

impl ObjectStoreRegistry for Registry {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores.lock().insert(key(url), store)
    }

    fn deregister_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        let gone = || SinewError::Address { address: key(url), reason: "no such store is in use".into() };
        self.stores.lock().remove(&key(url)).ok_or_else(|| DataFusionError::from(gone()))
    }

    fn get_store(&self, url: &Url) -> DataFusionResult<Arc<dyn ObjectStore>> {
        let mut stores = self.stores.lock();
        if let Some(store) = stores.get(&key(url)) {
            return Ok(Arc::clone(store));
        }
        let store = self.roots.iter().fold(self.make(url)?, |store, roots| roots.confine(url, store));
        stores.insert(key(url), Arc::clone(&store));
        Ok(store)
    }
}
