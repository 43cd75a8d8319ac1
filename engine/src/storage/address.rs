//! What an address says: which service, which bucket, and how both are shown.

use std::fmt::Display;

use datafusion::execution::object_store::ObjectStoreUrl;
use url::Url;

use crate::error::{Result, SinewError};

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The local file system.
    Local,
    /// Memory of this process.
    Memory,
    /// Amazon S3, and what speaks its language.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Gcs,
}

/// Schemes that have a store.
pub const SCHEMES: [(&str, Service); 10] = [
    ("file", Service::Local),
    ("memory", Service::Memory),
    ("s3", Service::S3),
    ("s3a", Service::S3),
    ("gs", Service::Gcs),
    ("gcs", Service::Gcs),
    ("az", Service::Azure),
    ("azure", Service::Azure),
    ("abfs", Service::Azure),
    ("abfss", Service::Azure),
];

impl Service {
    /// The service a scheme names.
    pub fn of(scheme: &str) -> Option<Self> {
        SCHEMES.iter().find(|(name, _)| *name == scheme).map(|(_, service)| *service)
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Memory => "memory",
            Self::S3 => "S3",
            Self::Azure => "Azure",
            Self::Gcs => "GCS",
        }
    }

    /// What it calls the thing that holds objects.
    pub fn holder(self) -> &'static str {
        if self == Self::Azure { "container" } else { "bucket" }
    }

    /// How credentials are given.
    pub fn credentials(self) -> &'static str {
        match self {
            Self::Local | Self::Memory => "nothing",
            Self::S3 => {
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN for temporary keys), or \
                 AWS_SKIP_SIGNATURE=true for a public bucket"
            }
            Self::Azure => {
                "AZURE_STORAGE_ACCOUNT_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING, or \
                 AZURE_SKIP_SIGNATURE=true for a public container"
            }
            Self::Gcs => {
                "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT (the file of a service account's key), or \
                 GOOGLE_SKIP_SIGNATURE=true for a public bucket"
            }
        }
    }

    /// How the place of the service is given.
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Local | Self::Memory => "nothing",
            Self::S3 => "AWS_ENDPOINT_URL and AWS_REGION",
            Self::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ENDPOINT",
            Self::Gcs => "GOOGLE_BASE_URL",
        }
    }
}

/// The service and the bucket (or container) of an address; the bucket is empty where there is none.
///
/// # Errors
/// When the scheme has no store, or the bucket's name cannot be one.
pub fn bucket(url: &Url) -> Result<(Service, String)> {
    let refuse = |reason: String| SinewError::Address { address: without_keys(url.as_str()), reason };
    let Some(service) = Service::of(url.scheme()) else {
        let known: Vec<_> = SCHEMES.iter().map(|(name, _)| format!("{name}://")).collect();
        let reason = format!("there is no store for {}://; write a path or one of {}", url.scheme(), known.join(", "));
        return Err(refuse(reason));
    };
    let host = url.host_str().unwrap_or_default();
    if matches!(service, Service::Local | Service::Memory) {
        return Ok((service, host.into()));
    }
    let container = if service == Service::Azure { url.username() } else { "" };
    let secret = url.password().is_some() || !url.username().is_empty() && container.is_empty();
    if secret {
        return Err(refuse(format!("an address holds no keys; set {}", service.credentials())));
    }
    if url.port().is_some() {
        return Err(refuse(format!(
            "{host} is where a {} stands, and a server's address goes into {}",
            service.holder(),
            service.endpoint()
        )));
    }
    let name = if container.is_empty() { host } else { container };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '$');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(refuse(format!(
            "'{name}' is no name of a {}; write {}://{}/path",
            service.holder(),
            url.scheme(),
            service.holder()
        )));
    }
    Ok((service, name.into()))
}

/// The part of an address that names its store.
pub fn key(url: &Url) -> String {
    // The container of an Azure address stands where others have a user.
    let user = if url.username().is_empty() { String::new() } else { format!("{}@", url.username()) };
    format!("{}://{user}{}", url.scheme(), &url[url::Position::BeforeHost..url::Position::AfterPort])
}

/// An address without what stands before `@`, which may be a key. (Azure's containers stand there too.)
pub fn without_keys(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.into() };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') || Service::of(scheme) != Some(Service::Azure) => {
            format!("{scheme}://***@{host}{}", &rest[authority.len()..])
        }
        _ => address.into(),
    }
}

/// A path of a store as messages show it: `/folder/x.csv`, `s3://bucket/folder/x.csv`.
pub fn show(store: &ObjectStoreUrl, path: &dyn Display) -> String {
    let url: &Url = store.as_ref();
    match url.scheme() {
        "file" => format!("/{path}"),
        _ => format!("{}/{path}", key(url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<(Service, String)> {
        let url = Url::parse(text).map_err(|e| SinewError::Internal(e.to_string()))?;
        bucket(&url)
    }

    #[test]
    fn addresses_name_a_service_and_a_bucket() {
        for (text, service, name) in [
            ("s3://b/x.parquet", Service::S3, "b"),
            ("s3a://my.bucket-1", Service::S3, "my.bucket-1"),
            ("gs://b/a/b", Service::Gcs, "b"),
            ("az://c/x", Service::Azure, "c"),
            ("abfss://c@account.dfs.core.windows.net/x", Service::Azure, "c"),
            ("memory://w/x", Service::Memory, "w"),
            ("file:///x", Service::Local, ""),
        ] {
            assert_eq!(of(text).ok(), Some((service, name.to_string())), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_a_store_is_refused_without_its_keys() {
        let text = |address| of(address).map(|_| String::new()).unwrap_or_else(|e| e.to_string());
        for address in ["http://169.254.169.254/latest", "https://x/y", "ftp://x"] {
            assert!(text(address).starts_with("SINEW-3502") && text(address).contains("s3://"), "{}", text(address));
        }
        assert_eq!(without_keys("s3://AKIA:very@secret@b:x/p"), "s3://***@b:x/p");
        assert_eq!(without_keys("abfss://c@a.dfs.core.windows.net/p@q"), "abfss://c@a.dfs.core.windows.net/p@q");
        assert!(text("s3://localhost:9000/b").contains("AWS_ENDPOINT_URL"));
        assert!(text("s3://").contains("no name of a bucket"));
        for address in
            ["s3://AKIA:verysecret@b/x", "s3://verysecret@b/x", "abfss://c:verysecret@a.dfs.core.windows.net/"]
        {
            let text = text(address);
            assert!(text.contains("holds no keys") && !text.contains("verysecret"), "{text}");
        }
    }

    #[test]
    fn two_containers_of_one_account_are_two_stores() -> Result<(), url::ParseError> {
        let a = Url::parse("abfss://a@x.dfs.core.windows.net/p")?;
        let b = Url::parse("abfss://b@x.dfs.core.windows.net/p")?;
        assert_ne!(key(&a), key(&b));
        assert_eq!(key(&Url::parse("s3://b/p/q")?), "s3://b");
        Ok(())
    }
}
