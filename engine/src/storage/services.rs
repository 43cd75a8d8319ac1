//! Clients of the services, made from the settings.

use std::str::FromStr;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{ClientConfigKey, ObjectStore};
use url::Url;

use super::address::Service;
use super::credentials::Credentials;
use super::named::Named;
use super::settings::Settings;
use crate::error::{Result, SinewError};

/// Options of a service, and the keys of its client.
type Options<K> = [(&'static str, K)];

/// The values of one client, in the order in which they are set: variables, then options, which win.
fn values<K: FromStr + Clone>(
    settings: &Settings,
    prefix: &str,
    identity: &[&str],
    options: &Options<K>,
) -> Vec<(K, String)> {
    // Half an identity of the environment must not complete one of the options.
    let own_identity = options.iter().any(|(name, _)| identity.contains(name) && settings.option(name).is_some());
    let identifies = |name: &str| ["key", "token", "sas", "secret"].iter().any(|word| name.contains(word));
    let foreign = |name: &str| own_identity && identifies(name) && !name.contains("sse");
    let variables = settings.variables(prefix).filter(|(name, _)| !foreign(name));
    let variables = variables.filter_map(|(name, value)| Some((name.parse().ok()?, value.to_string())));
    let written = |name, value: &str| if name == "storage_timeout" { format!("{value}s") } else { value.to_string() };
    let options = options.iter().filter_map(|(name, key)| Some((key.clone(), written(*name, settings.option(name)?))));
    variables.chain(options).collect()
}

/// Refuses a plain-text endpoint that nobody asked for: keys and rows would cross the network in the open.
fn check_endpoint(address: &str, endpoint: Option<String>, allow_http: Option<String>) -> Result<()> {
    let allowed = allow_http.is_some_and(|text| ["1", "true", "on", "yes", "y"].contains(&&*text.to_lowercase()));
    match endpoint {
        Some(endpoint) if endpoint.starts_with("http://") && !allowed => Err(SinewError::Address {
            address: address.into(),
            reason: "its endpoint is http://, which is not encrypted; use https://, or allow it with \
                     SINEW_STORAGE_ALLOW_HTTP=true"
                .into(),
        }),
        Some(endpoint) if !endpoint.contains("://") => Err(SinewError::Address {
            address: address.into(),
            reason: "its endpoint is no address; write it as https://host".into(),
        }),
        _ => Ok(()),
    }
}

/// An error of making a client.
fn refuse(address: &str, settings: &Settings) -> impl Fn(object_store::Error) -> SinewError {
    let (address, secrets) = (address.to_string(), settings.secrets());
    move |error| {
        let text = error.to_string();
        // `Generic S3 error: ..`
        let reason = super::named::hide(text.split_once(" error: ").map_or(text.as_str(), |(_, rest)| rest), &secrets);
        SinewError::Address {
            address: address.clone(),
            reason: format!("{reason}; docs/storage.md lists the settings"),
        }
    }
}

/// A bucket of S3.
///
/// # Errors
/// When a setting is missing or wrong.
pub fn s3(bucket: &str, address: &str, settings: &Settings) -> Result<Arc<dyn ObjectStore>> {
    use AmazonS3ConfigKey as Key;
    let options = [
        ("s3_endpoint", Key::S3Endpoint),
        ("s3_region", Key::Region),
        ("s3_access_key_id", Key::AccessKeyId),
        ("s3_secret_access_key", Key::SecretAccessKey),
        ("s3_session_token", Key::Token),
        ("storage_allow_http", Key::Client(ClientConfigKey::AllowHttp)),
        ("storage_timeout", Key::Client(ClientConfigKey::Timeout)),
    ];
    let mut builder = AmazonS3Builder::new();
    for (key, value) in values(settings, "aws_", &["s3_access_key_id", "s3_secret_access_key"], &options) {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_bucket_name(bucket).with_retry(settings.retry());
    let get = |key| builder.get_config_value(&key);
    check_endpoint(
        address,
        get(Key::S3Endpoint).or_else(|| get(Key::Endpoint)),
        get(Key::Client(ClientConfigKey::AllowHttp)),
    )?;
    let store = builder.clone().build().map_err(refuse(address, settings))?;
    let credentials = Credentials::new(Arc::clone(store.credentials()), Service::S3, address);
    let store = builder.with_credentials(Arc::new(credentials)).build().map_err(refuse(address, settings))?;
    Ok(Arc::new(Named::new(Arc::new(store), Service::S3, address, settings)))
}

/// A container of Azure Blob Storage.
///
/// # Errors
/// When a setting is missing or wrong.
pub fn azure(url: &Url, address: &str, settings: &Settings) -> Result<Arc<dyn ObjectStore>> {
    use AzureConfigKey as Key;
    let options = [
        ("azure_account", Key::AccountName),
        ("azure_endpoint", Key::Endpoint),
        ("azure_key", Key::AccessKey),
        ("azure_sas_token", Key::SasKey),
        ("storage_allow_http", Key::Client(ClientConfigKey::AllowHttp)),
        ("storage_timeout", Key::Client(ClientConfigKey::Timeout)),
    ];
    let mut builder = MicrosoftAzureBuilder::new();
    for (key, value) in values(settings, "azure_", &["azure_key", "azure_sas_token"], &options) {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_url(url.as_str()).with_retry(settings.retry());
    let get = |key| builder.get_config_value(&key);
    check_endpoint(address, get(Key::Endpoint), get(Key::Client(ClientConfigKey::AllowHttp)))?;
    let named_here = !url.username().is_empty();
    if get(Key::AccountName).is_none() && get(Key::UseEmulator).is_none_or(|text| text == "false") && !named_here {
        return Err(SinewError::Address {
            address: address.into(),
            reason: "it does not say which storage account; set AZURE_STORAGE_ACCOUNT_NAME, or write \
                     abfss://container@account.dfs.core.windows.net/path"
                .into(),
        });
    }
    let store = builder.clone().build().map_err(refuse(address, settings))?;
    let credentials = Credentials::new(Arc::clone(store.credentials()), Service::Azure, address);
    let store = builder.with_credentials(Arc::new(credentials)).build().map_err(refuse(address, settings))?;
    Ok(Arc::new(Named::new(Arc::new(store), Service::Azure, address, settings)))
}

/// A bucket of Google Cloud Storage.
///
/// # Errors
/// When a setting is missing or wrong.
pub fn gcs(bucket: &str, address: &str, settings: &Settings) -> Result<Arc<dyn ObjectStore>> {
    use GoogleConfigKey as Key;
    let options = [
        ("gcs_service_account", Key::ServiceAccount),
        ("gcs_endpoint", Key::BaseUrl),
        ("storage_allow_http", Key::Client(ClientConfigKey::AllowHttp)),
        ("storage_timeout", Key::Client(ClientConfigKey::Timeout)),
    ];
    let mut builder = GoogleCloudStorageBuilder::new();
    for (key, value) in values(settings, "google_", &[], &options) {
        builder = builder.with_config(key, value);
    }
    builder = builder.with_bucket_name(bucket).with_retry(settings.retry());
    let get = |key| builder.get_config_value(&key);
    check_endpoint(address, get(Key::BaseUrl), get(Key::Client(ClientConfigKey::AllowHttp)))?;
    let unsigned = get(Key::SkipSignature).is_some_and(|text| text == "true");
    let mut store = builder.clone().build().map_err(refuse(address, settings))?;
    if !unsigned {
        let credentials = Credentials::new(Arc::clone(store.credentials()), Service::Gcs, address);
        store = builder.with_credentials(Arc::new(credentials)).build().map_err(refuse(address, settings))?;
    }
    Ok(Arc::new(Named::new(Arc::new(store), Service::Gcs, address, settings)))
}
