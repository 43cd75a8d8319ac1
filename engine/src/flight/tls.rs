//! Certificates of a server: from files, or one that it signs itself.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::auth::secret::sha256;
use super::status::root_cause;
use crate::error::{Result, SinewError};

/// How long a client may take to agree on a connection.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For how many years a certificate is valid that the server signs itself.
const YEARS: i32 = 10;
/// Seconds of a year.
const YEAR: u64 = 31_556_952;
/// The files of a certificate that the server has signed itself.
const FILES: [&str; 2] = ["certificate.pem", "key.pem"];

/// A server's certificate and key, and who may connect.
#[derive(Clone)]
pub struct Tls {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
    /// For a person: where the certificate lies, and its fingerprint; empty for one that was given.
    pub note: String,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("client_ca", &self.client_ca.is_some()).finish_non_exhaustive()
    }
}

impl Tls {
    /// A certificate (with those between it and its authority) and its key, both PEM; with `client_ca`, only
    /// clients connect whose certificate it has signed.
    ///
    /// # Errors
    /// When a file cannot be read, or is not what it should be.
    pub fn from_files(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self> {
        let tls = Self {
            certificate: read(certificate)?,
            key: read(key)?,
            client_ca: client_ca.map(read).transpose()?,
            note: String::new(),
        };
        let what = format!("'{}' and '{}'", certificate.display(), key.display());
        tls.check(&what)?;
        Ok(tls)
    }

    /// A certificate for this machine that the server signs itself, kept in the folder of the user's state so that
    /// it is the same the next time.
    ///
    /// # Errors
    /// When none can be made, or the authority of clients cannot be read.
    pub fn self_signed(client_ca: Option<&Path>) -> Result<Self> {
        let client_ca = client_ca.map(read).transpose()?;
        let kept = state_folder();
        if let Some(folder) = &kept
            && let [Ok(certificate), Ok(key)] = FILES.map(|name| std::fs::read(folder.join(name)))
        {
            let note = note(&certificate, Some(folder));
            let tls = Self { certificate, key, client_ca: client_ca.clone(), note };
            tls.check(&format!("the files in '{}' (remove them for new ones)", folder.display()))?;
            return Ok(tls);
        }
        let (certificate, key) = make(&host_name())?;
        let written = kept.filter(|folder| match keep(folder, &certificate, &key) {
            Ok(()) => true,
            Err(error) => {
                log::warn!("the certificate is kept in memory only: {}: {error}", folder.display());
                false
            }
        });
        let note = note(certificate.as_bytes(), written.as_deref());
        let tls = Self { certificate: certificate.into_bytes(), key: key.into_bytes(), client_ca, note };
        tls.check("the certificate that was made")?;
        Ok(tls)
    }

    /// Whether clients have to have a certificate.
    pub fn asks_for_certificates(&self) -> bool {
        self.client_ca.is_some()
    }

    /// As a server takes it.
    pub fn config(&self) -> ServerTlsConfig {
        let identity = Identity::from_pem(&self.certificate, &self.key);
        let config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE);
        match &self.client_ca {
            Some(authority) => config.client_ca_root(Certificate::from_pem(authority)),
            None => config,
        }
    }

    fn check(&self, what: &str) -> Result<()> {
        let refuse = |reason: String| SinewError::Tls { what: what.into(), reason };
        if let Some(authority) = &self.client_ca
            && !authority.windows(10).any(|part| part == b"-----BEGIN")
        {
            return Err(refuse("the file of --tls-client-ca holds no certificate; write PEM".into()));
        }
        let checked = Server::builder().tls_config(self.config());
        checked.map(drop).map_err(|e| refuse(format!("{}; write a certificate and its key as PEM", root_cause(&e))))
    }

    /// The server with this certificate.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn protect(&self, server: Server) -> Result<Server> {
        let failed = |e: tonic::transport::Error| SinewError::Tls { what: "TLS".into(), reason: root_cause(&e) };
        server.tls_config(self.config()).map_err(failed)
    }
}

/// The certificate that a server of this user has signed itself on this machine, if there is one.
pub fn own_certificate() -> Option<Vec<u8>> {
    std::fs::read(state_folder()?.join(FILES[0])).ok()
}

/// Where state of the user is kept that is no configuration: `$XDG_STATE_HOME/sinew/tls`.
pub(super) fn state_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")))?;
    Some(state.join("sinew/tls"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| SinewError::Io { what: format!("reading '{}'", path.display()), source })
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    (!name.is_empty() && name.chars().all(plain)).then(|| name.to_string())
}

/// A certificate and its key, as PEM.
fn make(host: &Option<String>) -> Result<(String, String)> {
    let failed = |e: rcgen::Error| SinewError::Tls { what: "--tls self-signed".into(), reason: e.to_string() };
    let mut names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
    names.extend(host.iter().cloned());
    let mut params = CertificateParams::new(names).map_err(failed)?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, host.as_deref().unwrap_or("localhost"));
    params.distinguished_name = subject;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let year = 1970 + i32::try_from(seconds / YEAR).unwrap_or(0);
    (params.not_before, params.not_after) = (date_time_ymd(year - 1, 1, 1), date_time_ymd(year + YEARS, 1, 1));
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes both files; nobody else reads the key.
fn keep(folder: &Path, certificate: &str, key: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in FILES.into_iter().zip([certificate, key]) {
        let part = folder.join(format!("{name}.{}", std::process::id()));
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&part, folder.join(name))?;
    }
    Ok(())
}

/// What a person has to know of a certificate that nobody else has signed.
fn note(certificate: &[u8], folder: Option<&Path>) -> String {
    let pem = String::from_utf8_lossy(certificate);
    let lines = pem.lines().skip_while(|line| !line.starts_with("-----BEGIN")).skip(1);
    let body: String = lines.take_while(|line| !line.starts_with("-----END")).collect();
    let der = super::auth::secret::from_base64(&body).unwrap_or_default();
    let digits: Vec<String> = sha256(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    let fingerprint = digits.join(":");
    match folder {
        Some(folder) => {
            format!("certificate {}, SHA-256 {fingerprint}", folder.join(FILES[0]).display())
        }
        None => format!("certificate in memory, SHA-256 {fingerprint}\n{}", pem.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_was_made_can_be_used() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let place = tempfile::tempdir()?;
        let (certificate, key) = make(&Some("machine-1".into()))?;
        keep(place.path(), &certificate, &key)?;
        let [one, two] = FILES.map(|name| place.path().join(name));
        let mode = |path: &Path| {
            Ok::<_, std::io::Error>(std::os::unix::fs::PermissionsExt::mode(&path.metadata()?.permissions()))
        };
        assert_eq!(mode(&two)? & 0o777, 0o600);
        assert!(!Tls::from_files(&one, &two, None)?.asks_for_certificates());
        assert!(Tls::from_files(&one, &two, Some(&one))?.asks_for_certificates());
        let text = note(certificate.as_bytes(), Some(place.path()));
        assert_eq!(text.matches(':').count(), 31, "{text}");
        for (certificate, key, authority) in [(&two, &one, None), (&one, &one, None), (&one, &two, Some(two.as_path()))]
        {
            // A key is no authority; what is no certificate is left out, and none is left.
            let error = Tls::from_files(certificate, key, authority).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with("SINEW-3706"), "{error}");
        }
        let error = Tls::from_files(&place.path().join("none"), &two, None).err().map(|e| e.to_string());
        assert!(error.is_some_and(|text| text.contains("none")));
        Ok(())
    }
}
