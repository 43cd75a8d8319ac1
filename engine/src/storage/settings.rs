//! What stores are made of: the environment under the names the services gave it, and the session's options,
//! which win.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::{BackoffConfig, RetryConfig};

use crate::config::{OPTIONS, OptionKind, SessionOptions};

/// Seconds in which failed requests are repeated, where no option says so.
const RETRY_SECONDS: u64 = 30;
/// Shorter values are not hidden: they would blacken innocent text.
const SHORTEST_SECRET: usize = 8;

/// Settings of all services.
#[derive(Clone)]
pub struct Settings {
    /// Variables in lower case that belong to a service.
    variables: BTreeMap<String, String>,
    options: SessionOptions,
}

impl Settings {
    /// Settings of `variables`, over which `options` win.
    pub fn new(options: &SessionOptions, variables: impl Iterator<Item = (String, String)>) -> Self {
        let ours = |name: &str| ["aws_", "azure_", "google_"].iter().any(|prefix| name.starts_with(prefix));
        let variables = variables.map(|(name, value)| (name.to_lowercase(), value));
        let mut variables: BTreeMap<_, _> = variables.filter(|(name, value)| ours(name) && !value.is_empty()).collect();
        if let Some(text) = variables.remove("azure_storage_connection_string") {
            for (name, value) in connection_string(&text) {
                variables.entry(name.into()).or_insert(value);
            }
        }
        Self { variables, options: options.clone() }
    }

    /// The variables of one service, by prefix.
    pub fn variables(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let own = self.variables.iter().filter(move |(name, _)| name.starts_with(prefix));
        own.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// An option, if it was set.
    pub fn option(&self, name: &'static str) -> Option<&str> {
        self.options.get(name)
    }

    /// How long failed requests are repeated.
    pub fn patience(&self) -> Duration {
        let seconds = self.option("storage_retry_timeout").and_then(|text| text.parse().ok());
        Duration::from_secs(seconds.unwrap_or(RETRY_SECONDS))
    }

    /// When failed requests are repeated.
    pub fn retry(&self) -> RetryConfig {
        let patience = self.patience();
        let backoff = BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5).min(patience),
            base: 2.,
        };
        let max_retries = if patience.is_zero() { 0 } else { 1_000 };
        RetryConfig { backoff, max_retries, retry_timeout: patience }
    }

    /// Every value that no text may show, longest first.
    pub fn secrets(&self) -> Arc<[String]> {
        let secret = |name: &str| {
            let is = |word| name.contains(word);
            // A file's name and a key's name are no secrets.
            let named = name.ends_with("_file") || is("key_id");
            !named && (is("secret") || is("token") || is("sas") || is("key"))
        };
        let variables = self.variables.iter().filter(|(name, _)| secret(name)).map(|(_, value)| value.as_str());
        let options = OPTIONS.iter().filter(|spec| spec.kind == OptionKind::Secret);
        let options = options.filter_map(|spec| self.options.get(spec.name));
        let mut secrets = Vec::new();
        for value in variables.chain(options) {
            // A shared access signature is told by its last part, as it is and as addresses write it.
            let signature = value.split(['?', '&']).find_map(|part| part.strip_prefix("sig="));
            for part in std::iter::once(value).chain(signature) {
                let decoded = url::form_urlencoded::parse(format!("x={part}").as_bytes()).next().map(|(_, v)| v.into());
                let encoded: String = url::form_urlencoded::byte_serialize(part.as_bytes()).collect();
                secrets.extend([Some(part.to_string()), decoded, Some(encoded)].into_iter().flatten());
            }
        }
        secrets.retain(|s: &String| s.len() >= SHORTEST_SECRET);
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        secrets.dedup();
        secrets.into()
    }
}

/// The variables an Azure connection string stands for.
fn connection_string(text: &str) -> Vec<(&'static str, String)> {
    let parts: BTreeMap<String, &str> =
        text.split(';').filter_map(|part| part.split_once('=')).map(|(k, v)| (k.trim().to_lowercase(), v)).collect();
    let part = |name: &str| parts.get(name).map(|value| value.trim().to_string());
    let mut found = Vec::new();
    let mut take = |name, value: Option<String>| found.extend(value.map(|value| (name, value)));
    take("azure_storage_account_name", part("accountname"));
    take("azure_storage_account_key", part("accountkey"));
    take("azure_storage_sas_token", part("sharedaccesssignature"));
    take("azure_storage_use_emulator", part("usedevelopmentstorage"));
    let composed = || {
        let protocol = part("defaultendpointsprotocol").unwrap_or("https".into());
        Some(format!("{protocol}://{}.blob.{}", part("accountname")?, part("endpointsuffix")?))
    };
    take("azure_storage_endpoint", part("blobendpoint").or_else(composed));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Settings {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Settings::new(&SessionOptions::new(), variables)
    }

    #[test]
    fn a_connection_string_is_taken_apart() {
        let text = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5a2V5==;EndpointSuffix=core.windows.net";
        let settings = settings(&[("AZURE_STORAGE_CONNECTION_STRING", text), ("PATH", "/bin")]);
        let found: Vec<_> = settings.variables("azure_").collect();
        assert_eq!(
            found,
            [
                ("azure_storage_account_key", "a2V5a2V5=="),
                ("azure_storage_account_name", "a"),
                ("azure_storage_endpoint", "https://a.blob.core.windows.net"),
            ]
        );
    }

    #[test]
    fn secrets_are_known_in_every_spelling() {
        let sas = "sv=2024&sig=abcdef%2Bghi%3D";
        let secrets = settings(&[("AZURE_STORAGE_SAS_TOKEN", sas), ("AWS_ACCESS_KEY_ID", "AKIAPUBLIC")]).secrets();
        assert!(
            secrets.iter().any(|s| s == "abcdef+ghi=") && secrets.iter().any(|s| s == "abcdef%2Bghi%3D"),
            "{secrets:?}"
        );
        assert!(!secrets.iter().any(|s| s.contains("AKIA")));
    }
}
