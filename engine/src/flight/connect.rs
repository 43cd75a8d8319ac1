//! How to reach a server: its address, who asks, and whom to trust.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use url::{Host, Url};

use super::PORT;
use super::auth::secret::to_base64;
use super::tls::own_certificate;
use crate::error::{Result, SinewError};

/// How long the other side may take to answer the first call for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How often the connection is tried while a statement runs.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Bytes of rows that may be on their way on one stream, and on all of a connection.
const WINDOW: u32 = 4 << 20;
/// As [`WINDOW`], for the connection.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Where systems keep the authorities they trust, where SSL_CERT_FILE does not say.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a client says of itself, and whom it trusts. The default says nothing, and trusts whom the system does.
#[derive(Clone, Default)]
pub struct ConnectOptions {
    /// The user, who has a password.
    pub user: Option<String>,
    /// The password of that user.
    pub password: Option<String>,
    /// A token, in place of a user.
    pub token: Option<String>,
    /// The authority that has signed the server's certificate, or that certificate: a PEM file.
    pub tls_ca: Option<PathBuf>,
    /// A certificate of the client and its key, PEM files.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// Whether a password or token may be sent to another machine without encryption.
    pub allow_plaintext: bool,
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ConnectOptions");
        shown.field("user", &self.user).field("tls_ca", &self.tls_ca).finish_non_exhaustive()
    }
}

/// A server's address, ready to be connected to, and the header of the first call.
#[derive(Debug)]
pub struct Target {
    /// The address.
    pub endpoint: Endpoint,
    /// Who asks; `None` says nothing.
    pub login: Option<Login>,
}

/// The first words of a client.
#[derive(Clone)]
pub enum Login {
    /// A user and a password, for which the server gives a token.
    Basic(String),
    /// A token.
    Bearer(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    /// The header `authorization`.
    pub fn header(&self) -> String {
        match self {
            Self::Basic(text) => format!("Basic {text}"),
            Self::Bearer(token) => format!("Bearer {token}"),
        }
    }
}

impl Target {
    /// The server at `grpc://host[:port]`, or at `grpcs://host[:port]` with encryption.
    ///
    /// # Errors
    /// When the address is none, a file cannot be used, or a password would be sent in the open.
    pub fn new(url: &str, options: &ConnectOptions) -> Result<Self> {
        let refuse = |reason: &str| SinewError::Unreachable { url: url.to_string(), reason: reason.to_string() };
        let form = "write the address as grpc://host:50051, or grpcs://host:50051 for a server with a certificate";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| refuse(form))?;
        let encrypted = match scheme {
            "grpc" | "grpc+tcp" | "http" => false,
            "grpcs" | "grpc+tls" | "https" => true,
            _ => return Err(refuse(form)),
        };
        let host = rest.trim_end_matches('/');
        let parsed = Url::parse(&format!("http://{host}")).map_err(|_| refuse(form))?;
        let bare = matches!(parsed.path(), "" | "/") && parsed.query().is_none() && parsed.username().is_empty();
        let name = parsed.host_str().filter(|_| bare).ok_or_else(|| refuse(form))?;
        // The parser leaves out the port of HTTP; written out it is meant.
        let port = parsed.port().unwrap_or(if host.ends_with(":80") { 80 } else { PORT });
        let web = if encrypted { "https" } else { "http" };
        let endpoint = Endpoint::from_shared(format!("{web}://{name}:{port}")).map_err(|_| refuse(form))?;
        let login = options.login()?;
        let here = parsed.host().is_some_and(|host| is_here(&host));
        if login.is_some() && !encrypted && !here && !options.allow_plaintext {
            return Err(SinewError::Plaintext { url: url.into() });
        }
        let mut endpoint = endpoint
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        if encrypted {
            let failed = |e: tonic::transport::Error| SinewError::Tls { what: url.into(), reason: e.to_string() };
            endpoint = endpoint.tls_config(options.tls(here)?).map_err(failed)?;
        } else if options.tls_ca.is_some() || options.tls_client.is_some() {
            let reason = "certificates go with an address that begins with grpcs://".into();
            return Err(SinewError::Tls { what: url.into(), reason });
        }
        Ok(Self { endpoint, login })
    }
}

impl ConnectOptions {
    fn login(&self) -> Result<Option<Login>> {
        match (&self.user, &self.password, &self.token) {
            (Some(user), Some(password), None) => {
                Ok(Some(Login::Basic(to_base64(format!("{user}:{password}").as_bytes()))))
            }
            (None, _, Some(token)) => Ok(Some(Login::Bearer(token.clone()))),
            (None, _, None) => Ok(None),
            (Some(user), ..) => Err(SinewError::Config {
                name: "--user".into(),
                value: user.clone(),
                expected: "a user has a password (SINEW_PASSWORD, or asked for on a terminal), and no token".into(),
            }),
        }
    }

    /// Whom to trust: who was named, or whom the system trusts, and on this machine its own user's servers.
    fn tls(&self, here: bool) -> Result<ClientTlsConfig> {
        let read = |path: &Path| {
            let what = format!("reading '{}'", path.display());
            std::fs::read(path).map_err(|source| SinewError::Io { what, source })
        };
        let mut config = ClientTlsConfig::new().timeout(CONNECT);
        match &self.tls_ca {
            Some(path) => config = config.ca_certificate(Certificate::from_pem(read(path)?)),
            None => {
                let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
                let known = AUTHORITIES.into_iter().map(PathBuf::from);
                let authorities = named.into_iter().chain(known).find_map(|path| std::fs::read(path).ok());
                let own = own_certificate().filter(|_| here);
                config = config.ca_certificates(authorities.into_iter().chain(own).map(Certificate::from_pem));
            }
        }
        match &self.tls_client {
            Some((certificate, key)) => Ok(config.identity(Identity::from_pem(read(certificate)?, read(key)?))),
            None => Ok(config),
        }
    }
}

/// Whether what is sent to a host stays on this machine.
fn is_here(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost") || name.parse().is_ok_and(loopback),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn loopback(address: IpAddr) -> bool {
    address.is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(url: &str) -> Option<String> {
        Target::new(url, &ConnectOptions::default()).map(|target| target.endpoint.uri().to_string()).ok()
    }

    #[test]
    fn addresses_are_checked() {
        for (url, expected) in [
            ("grpc://localhost", "http://localhost:50051/"),
            ("grpc+tcp://127.0.0.1:1/", "http://127.0.0.1:1/"),
            ("grpc://[::1]:80", "http://[::1]:80/"),
            ("grpcs://h", "https://h:50051/"),
            ("grpc+tls://h:443", "https://h:443/"),
        ] {
            assert_eq!(uri(url).as_deref(), Some(expected));
        }
        for url in ["localhost:50051", "ftp://h", "grpc://", "grpc://h:x", "grpc://h/path", "grpc://u@h"] {
            assert_eq!(uri(url), None, "{url}");
        }
    }

    #[test]
    fn secrets_do_not_leave_the_machine_in_the_open() {
        let text = |url: &str, options: &ConnectOptions| {
            Target::new(url, options).map(|_| String::new()).unwrap_or_else(|e| e.to_string())
        };
        let token = ConnectOptions { token: Some("hush".into()), ..ConnectOptions::default() };
        let (user, password) = (Some("ann".to_string()), Some("hush".to_string()));
        let login = ConnectOptions { user: user.clone(), password, ..ConnectOptions::default() };
        for options in [&token, &login] {
            for url in
                ["grpc://db.example.org", "grpc://10.0.0.1:1", "grpc://localhost.example.org", "grpc://[fe80::1]"]
            {
                assert!(text(url, options).starts_with("SINEW-3707"), "{url}");
            }
            for url in ["grpc://localhost", "grpc://127.0.0.2:1", "grpc://[::1]", "grpcs://db.example.org"] {
                assert_eq!(text(url, options), "", "{url}");
            }
            let forced = ConnectOptions { allow_plaintext: true, ..options.clone() };
            assert_eq!(text("grpc://10.0.0.1", &forced), "");
            assert!(!format!("{options:?}").contains("hush"));
        }
        let nameless = ConnectOptions { user, ..ConnectOptions::default() };
        assert!(text("grpc://localhost", &nameless).contains("SINEW_PASSWORD"));
        let trusting = ConnectOptions { tls_ca: Some("x".into()), ..ConnectOptions::default() };
        assert!(text("grpc://localhost", &trusting).contains("grpcs://"));
    }
}
