//! A store over a network, with errors that name the bucket, the operation and the next step.
//!
//! Two more things differ from the client below. A create whose answer was lost is tried again; who creates
//! what may be there already compares the bytes. And times of objects carry a digest of bucket and ETag in
//! the digits below a second, which services leave empty: DataFusion's caches and the check for changed files
//! look at path, size and time alone, and would take two buckets, or two writes within a second, for one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use sha2::{Digest, Sha256};

use super::address::Service;
use super::failure::Cause;
use super::settings::Settings;
use crate::error::SinewError;

/// Wait before a create is tried again whose answer was lost.
const PAUSE: Duration = Duration::from_millis(200);

/// A store over a network.
pub struct Named {
    inner: Arc<dyn ObjectStore>,
    patience: Duration,
    name: Arc<Name>,
}

/// What messages say about a store.
struct Name {
    service: Service,
    address: String,
    secrets: Arc<[String]>,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Named({})", self.name.address)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name.address)
    }
}

/// The text without secrets.
pub fn hide(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_string(), |text, secret| text.replace(secret.as_str(), "***"))
}

impl Named {
    /// `inner` under the name `address`.
    pub fn new(inner: Arc<dyn ObjectStore>, service: Service, address: &str, settings: &Settings) -> Self {
        let name = Name { service, address: address.into(), secrets: settings.secrets() };
        Self { inner, patience: settings.patience(), name: Arc::new(name) }
    }
}

impl Name {
    fn fail(&self, operation: &'static str, path: &str, error: object_store::Error) -> object_store::Error {
        use object_store::Error;
        let error = match super::failure::ours(error) {
            Ok(ours) => return Error::Generic { store: self.service.name(), source: Box::new(ours) },
            Err(error) => error,
        };
        let cause = Cause::of(&error);
        let place = format!("{}/{path}", self.address);
        let text = hide(&cause.to_string(), &self.secrets);
        let source = text.clone().into();
        match error {
            Error::NotFound { .. } if !cause.no_bucket() => Error::NotFound { path: place, source },
            Error::AlreadyExists { .. } => Error::AlreadyExists { path: place, source },
            Error::Precondition { .. } => Error::Precondition { path: place, source },
            Error::NotModified { .. } => Error::NotModified { path: place, source },
            Error::NotSupported { .. } => Error::NotSupported { source },
            error @ (Error::NotImplemented { .. } | Error::InvalidPath { .. }) => error,
            _ => {
                let hint = cause.hint(self.service);
                let error = SinewError::Storage { operation, place, cause: text, hint };
                Error::Generic { store: self.service.name(), source: Box::new(error) }
            }
        }
    }

    /// The object's description, with a time of its own.
    fn mark(&self, mut meta: ObjectMeta) -> ObjectMeta {
        let mut digest = Sha256::new();
        digest.update(&self.address);
        // Listings of GCS may write an ETag in another way than answers about one object do.
        if let Some(tag) = meta.e_tag.as_ref().filter(|_| self.service != Service::Gcs) {
            digest.update(tag.trim_matches('"'));
        }
        let digest = digest.finalize().iter().take(8).fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let below = Duration::from_nanos(meta.last_modified.timestamp_subsec_nanos().into());
        meta.last_modified = meta.last_modified - below + Duration::from_nanos(digest % 1_000_000_000);
        meta
    }
}

fn text(path: Option<&Path>) -> String {
    path.map(Path::to_string).unwrap_or_default()
}

#[async_trait]
impl ObjectStore for Named {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = matches!(options.mode, PutMode::Create);
        let start = Instant::now();
        loop {
            let error = match self.inner.put_opts(location, payload.clone(), options.clone()).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !create || start.elapsed() >= self.patience || !Cause::of(&error).unknown_outcome() {
                return Err(self.name.fail("write", location.as_ref(), error));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(location, options).await;
        let inner = upload.map_err(|e| self.name.fail("write", location.as_ref(), e))?;
        Ok(Box::new(Upload { inner, path: location.to_string(), name: Arc::clone(&self.name) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let operation = if options.head { "look at" } else { "read" };
        let mut result = match self.inner.get_opts(location, options).await {
            Ok(result) => result,
            Err(error) => return Err(self.name.fail(operation, location.as_ref(), error)),
        };
        result.meta = self.name.mark(result.meta);
        if let GetResultPayload::Stream(stream) = result.payload {
            let (name, path) = (Arc::clone(&self.name), location.to_string());
            let stream = stream.map(move |bytes| bytes.map_err(|e| name.fail("read", &path, e)));
            result.payload = GetResultPayload::Stream(stream.boxed());
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let name = Arc::clone(&self.name);
        let deleted = self.inner.delete_stream(locations);
        deleted.map(move |path| path.map_err(|e| name.fail("delete objects of", "", e))).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (name, path) = (Arc::clone(&self.name), text(prefix));
        let listed = self.inner.list(prefix);
        listed.map(move |meta| meta.map(|m| name.mark(m)).map_err(|e| name.fail("list", &path, e))).boxed()
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (name, path) = (Arc::clone(&self.name), text(prefix));
        let listed = self.inner.list_with_offset(prefix, offset);
        listed.map(move |meta| meta.map(|m| name.mark(m)).map_err(|e| name.fail("list", &path, e))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.inner.list_with_delimiter(prefix).await;
        let mut listed = listed.map_err(|e| self.name.fail("list", &text(prefix), e))?;
        listed.objects = listed.objects.into_iter().map(|meta| self.name.mark(meta)).collect();
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copied = self.inner.copy_opts(from, to, options).await;
        copied.map_err(|e| self.name.fail("copy", from.as_ref(), e))
    }
}

/// An upload in parts.
struct Upload {
    inner: Box<dyn MultipartUpload>,
    path: String,
    name: Arc<Name>,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({}/{})", self.name.address, self.path)
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (name, path) = (Arc::clone(&self.name), self.path.clone());
        self.inner.put_part(data).map(move |part| part.map_err(|e| name.fail("write", &path, e))).boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.inner.complete().await.map_err(|e| self.name.fail("write", &self.path, e))
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await.map_err(|e| self.name.fail("write", &self.path, e))
    }
}
