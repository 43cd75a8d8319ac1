//! Credentials that come soon or not at all.
//!
//! Where nothing is configured, the services' clients ask the machine they hope to run on. A machine that
//! is not in that cloud does not answer, and a reader who forgot a variable must not wait for that.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;

use super::address::Service;
use crate::error::SinewError;

/// How long credentials may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Another provider, with a limit of time and an error that says what to set.
#[derive(Debug)]
pub struct Credentials<T> {
    inner: Arc<dyn CredentialProvider<Credential = T>>,
    service: Service,
    address: String,
}

impl<T> Credentials<T> {
    /// The credentials of `inner` for the store at `address`.
    pub fn new(inner: Arc<dyn CredentialProvider<Credential = T>>, service: Service, address: &str) -> Self {
        Self { inner, service, address: address.into() }
    }
}

#[async_trait]
impl<T: Debug + Send + Sync + 'static> CredentialProvider for Credentials<T> {
    type Credential = T;

    async fn get_credential(&self) -> object_store::Result<Arc<T>> {
        let reason = match tokio::time::timeout(PATIENCE, self.inner.get_credential()).await {
            Ok(Ok(credential)) => return Ok(credential),
            Ok(Err(error)) => super::failure::Cause::of(&error).to_string(),
            Err(_) => format!("none came within {} seconds", PATIENCE.as_secs()),
        };
        let error = SinewError::Credentials { address: self.address.clone(), reason, hint: self.service.credentials() };
        Err(object_store::Error::Generic { store: self.service.name(), source: Box::new(error) })
    }
}
