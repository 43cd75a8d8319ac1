//! The options of a session: one table that gives `SET sinew.x`, the environment, the flags and the manual.

use std::any::Any;
use std::collections::BTreeMap;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::error::DataFusionError;

use crate::error::{Result, SinewError};
use crate::warehouse::DEFAULT_WAREHOUSE;

/// One option of a session.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Name after `sinew.`; `SINEW_NAME` in the environment, `--name` as a flag.
    pub name: &'static str,
    /// Type and range.
    pub kind: OptionKind,
    /// The default as shown; `""` where `doc` says what it depends on.
    pub default: &'static str,
    /// Whether `SET` may change it, or only the start of a session.
    pub at_start: bool,
    /// One sentence for the manual.
    pub doc: &'static str,
}

/// Type and range of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// A whole number in a closed range.
    Count(u64, u64),
    /// Bytes, as in `512MB` or `2GB`; powers of 1024.
    Bytes,
    /// Any text.
    Text,
    /// `true` or `false`.
    Switch,
    /// One of some words.
    Word(&'static [&'static str]),
    /// Text that is never shown. It has no flag: other users of a machine can read command lines.
    Secret,
}

/// Every option, in the order of the manual.
pub static OPTIONS: [OptionSpec; 33] = [
    OptionSpec {
        name: "threads",
        kind: OptionKind::Count(1, 1024),
        default: "",
        at_start: true,
        doc: "Threads that run statements. Default: all cores of the machine.",
    },
    OptionSpec {
        name: "memory_limit",
        kind: OptionKind::Bytes,
        default: "",
        at_start: true,
        doc: "Memory that statements may hold; sorts, joins and aggregates beyond it go to disk, and what cannot \
              fails with an error. Default: three quarters of the machine's or container's memory.",
    },
    OptionSpec {
        name: "cache_limit",
        kind: OptionKind::Bytes,
        default: "",
        at_start: false,
        doc: "The memory in which prepared rows stay after a training, for the next one over the same files. \
              Default: half of the memory limit.",
    },
    OptionSpec {
        name: "checkpoint_interval",
        kind: OptionKind::Count(0, 86_400),
        default: "30",
        at_start: false,
        doc: "Seconds between two checkpoints of a training, from which it can go on after its process died \
              (warehouse.md); 0 means after every step.",
    },
    OptionSpec {
        name: "device",
        kind: OptionKind::Text,
        default: "auto",
        at_start: false,
        doc: "Where trainings and predictions run that do not say: auto, cpu, gpu, or the name of an adapter (gpu.md).",
    },
    OptionSpec {
        name: "gpu_memory_limit",
        kind: OptionKind::Bytes,
        default: "",
        at_start: true,
        doc: "Device memory in which rows stay between the steps of a training; more rows stream through. \
              Default: four fifths of the adapter's memory.",
    },
    OptionSpec {
        name: "gpu_storage",
        kind: OptionKind::Word(&["f32", "f16", "bf16"]),
        default: "f32",
        at_start: true,
        doc: "How device memory holds numbers: f32, or with fewer digits and half the bytes f16 (11 binary digits) \
              or bf16 (8).",
    },
    OptionSpec {
        name: "gpu_allow_software",
        kind: OptionKind::Switch,
        default: "false",
        at_start: true,
        doc: "Whether adapters that are software count as GPUs; for tests.",
    },
    OptionSpec {
        name: "spill_dir",
        kind: OptionKind::Text,
        default: "",
        at_start: true,
        doc: "Folder for rows that do not fit into memory. Default: the system's folder for temporary files.",
    },
    OptionSpec {
        name: "warehouse",
        kind: OptionKind::Text,
        default: DEFAULT_WAREHOUSE,
        at_start: true,
        doc: "Folder of models and table definitions, or address of an object store (storage.md); created when \
              something is first stored.",
    },
    stored("s3_endpoint", OptionKind::Text, "", "Address of a service that speaks S3. Default: Amazon's."),
    stored("s3_region", OptionKind::Text, "", "Region of S3 buckets. Default: AWS_REGION, else us-east-1."),
    stored("s3_access_key_id", OptionKind::Text, "", "Name of the key to S3. Default: AWS_ACCESS_KEY_ID."),
    stored("s3_secret_access_key", OptionKind::Secret, "", "The key to S3. Default: AWS_SECRET_ACCESS_KEY."),
    stored("s3_session_token", OptionKind::Secret, "", "Goes with temporary keys to S3. Default: AWS_SESSION_TOKEN."),
    stored("azure_account", OptionKind::Text, "", "Storage account of Azure. Default: AZURE_STORAGE_ACCOUNT_NAME."),
    stored("azure_key", OptionKind::Secret, "", "Key of the storage account. Default: AZURE_STORAGE_ACCOUNT_KEY."),
    stored("azure_sas_token", OptionKind::Secret, "", "Shared access signature. Default: AZURE_STORAGE_SAS_TOKEN."),
    stored("azure_endpoint", OptionKind::Text, "", "Address of the blob service. Default: Azure's, by account."),
    stored(
        "gcs_service_account",
        OptionKind::Text,
        "",
        "File with the key of a Google service account. Default: GOOGLE_APPLICATION_CREDENTIALS.",
    ),
    stored("gcs_endpoint", OptionKind::Text, "", "Address of a service that speaks GCS. Default: Google's."),
    stored("storage_allow_http", OptionKind::Switch, "false", "Whether endpoints may be http://, without encryption."),
    stored("storage_timeout", OptionKind::Count(1, 3600), "30", "Seconds for one request to an object store."),
    stored(
        "storage_retry_timeout",
        OptionKind::Count(0, 3600),
        "30",
        "Seconds in which failed requests to an object store are repeated, with growing pauses; 0 means never.",
    ),
    stored(
        "roots",
        OptionKind::Text,
        "",
        "Folders and addresses, with commas between them, below which statements may read and write; `!` before one \
         forbids it, `any` is everything, and the warehouse is always one of them (security.md). Default: everything \
         in a session of one's own; for servers the warehouse and, where nobody has to log in, the folder that the \
         server was started in.",
    ),
    limit("flight_sessions", OptionKind::Count(1, 1_000_000), "1000", "Sessions of a server at the same time."),
    limit("flight_user_sessions", OptionKind::Count(1, 1_000_000), "200", "Sessions of one user who has logged in."),
    limit("flight_statements", OptionKind::Count(1, 10_000), "64", "Statements of one session at the same time."),
    limit("flight_prepared", OptionKind::Count(1, 1_000_000), "1000", "Prepared statements that a session may hold."),
    limit(
        "flight_results",
        OptionKind::Count(1, 1_000_000),
        "1000",
        "Results and runs that a session keeps to be fetched; the oldest that has ended makes room.",
    ),
    limit(
        "flight_memory",
        OptionKind::Bytes,
        "",
        "The part of the memory limit that the statements of one session may hold. Default: all of it.",
    ),
    limit("flight_message", OptionKind::Bytes, "67108864", "The largest message that a client may send."),
    limit("flight_text", OptionKind::Bytes, "16777216", "The longest text of a statement that a client may send."),
];

/// A limit of a server, which all of its sessions have.
const fn limit(name: &'static str, kind: OptionKind, default: &'static str, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind, default, at_start: true, doc }
}

/// An option of object stores, which the sessions of a process share.
const fn stored(name: &'static str, kind: OptionKind, default: &'static str, doc: &'static str) -> OptionSpec {
    OptionSpec { name, kind, default, at_start: true, doc }
}

impl OptionSpec {
    /// `SINEW_MEMORY_LIMIT`.
    pub fn env(&self) -> String {
        format!("SINEW_{}", self.name.to_uppercase())
    }

    /// `--memory-limit`.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    /// Whether there is a flag.
    pub fn has_flag(&self) -> bool {
        self.kind != OptionKind::Secret
    }

    /// How the option is given at the start: `--memory-limit or SINEW_MEMORY_LIMIT`.
    pub fn at_the_start(&self) -> String {
        if self.has_flag() { format!("{} or {}", self.flag(), self.env()) } else { self.env() }
    }

    /// The value in its canonical form.
    ///
    /// # Errors
    /// When it is outside the type or range; `written` is how the reader named the option.
    pub(crate) fn check(&self, written: &str, value: &str) -> Result<String> {
        let value = value.trim();
        let refuse = |expected: String| {
            Err(SinewError::Config { name: written.into(), value: value.into(), expected: format!("write {expected}") })
        };
        match self.kind {
            OptionKind::Count(low, high) => match value.parse::<u64>() {
                Ok(n) if (low..=high).contains(&n) => Ok(n.to_string()),
                _ => refuse(format!("a whole number from {low} to {high}")),
            },
            OptionKind::Bytes => match parse_bytes(value) {
                Some(bytes) => Ok(bytes.to_string()),
                None => refuse("a size such as 512MB or 2GB".into()),
            },
            OptionKind::Switch => match value.to_lowercase().as_str() {
                "true" | "1" | "on" | "yes" => Ok("true".into()),
                "false" | "0" | "off" | "no" => Ok("false".into()),
                _ => refuse("true or false".into()),
            },
            OptionKind::Word(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(value)) {
                Some(word) => Ok((*word).into()),
                None => refuse(format!("one of {}", words.join(", "))),
            },
            OptionKind::Text | OptionKind::Secret if value.is_empty() => refuse("a text that is not empty".into()),
            OptionKind::Text | OptionKind::Secret => Ok(value.into()),
        }
    }
}

/// Bytes of `2GB`, `512 MiB`, `1.5g` or `4096`; powers of 1024.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (1.0..9e18).contains(&bytes).then_some(bytes as u64)
}

/// How a session is opened. Every option of [`OPTIONS`] that is not set has its default.
#[derive(Clone, Default)]
pub struct SessionOptions {
    values: BTreeMap<&'static str, String>,
}

impl std::fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.values.keys().map(|name| (name, self.shown(name)))).finish()
    }
}

impl SessionOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The defaults, and a warehouse that ends with the process.
    pub fn in_memory() -> Self {
        let mut options = Self::default();
        options.values.insert("warehouse", "memory://".into());
        options
    }

    /// The defaults, overridden by `SINEW_X` of the environment.
    ///
    /// # Errors
    /// When a variable has a value outside its type or range.
    pub fn from_env() -> Result<Self> {
        let mut options = Self::default();
        for spec in &OPTIONS {
            if let Ok(value) = std::env::var(spec.env()) {
                options.values.insert(spec.name, spec.check(&spec.env(), &value)?);
            }
        }
        Ok(options)
    }

    /// Sets one option; `written` is how the reader named it, for the error.
    ///
    /// # Errors
    /// When there is no such option, or the value is outside its type or range.
    pub fn set(&mut self, name: &str, written: &str, value: &str) -> Result<()> {
        let spec = find(name, value)?;
        self.values.insert(spec.name, spec.check(written, value)?);
        Ok(())
    }

    /// These, with the warehouse at `address`.
    ///
    /// # Errors
    /// When the address is empty.
    pub fn with_warehouse(mut self, address: &str) -> Result<Self> {
        self.set("warehouse", "warehouse", address)?;
        Ok(self)
    }

    /// These, with so many threads.
    ///
    /// # Errors
    /// When the number is not from 1 to 1024.
    pub fn with_threads(mut self, threads: usize) -> Result<Self> {
        self.set("threads", "threads", &threads.to_string())?;
        Ok(self)
    }

    /// These, with so many bytes of memory.
    ///
    /// # Errors
    /// When the limit is 0.
    pub fn with_memory_limit(mut self, bytes: u64) -> Result<Self> {
        self.set("memory_limit", "memory_limit", &bytes.to_string())?;
        Ok(self)
    }

    /// An option as it was set; secrets as they are.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn text(&self, name: &'static str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    fn number(&self, name: &'static str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// Threads that run statements.
    pub fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.number("threads").map_or_else(all, |n| n as usize)
    }

    /// Bytes that statements may hold.
    pub fn memory_limit(&self) -> u64 {
        self.number("memory_limit").unwrap_or_else(|| memory_of_machine() / 4 * 3)
    }

    /// Bytes in which training keeps prepared rows.
    pub fn cache_limit(&self) -> u64 {
        self.number("cache_limit").unwrap_or_else(|| self.memory_limit() / 2).min(self.memory_limit())
    }

    /// Seconds between two checkpoints of a training.
    pub fn checkpoint_interval(&self) -> u64 {
        self.number("checkpoint_interval").unwrap_or(30)
    }

    /// The device of trainings that do not say.
    pub fn device(&self) -> &str {
        self.text("device").unwrap_or("auto")
    }

    /// How GPUs are used.
    #[cfg(feature = "gpu")]
    pub fn gpu(&self) -> sinew_ml::gpu::GpuOptions {
        use sinew_ml::gpu::{Cell, GpuOptions};
        GpuOptions {
            memory_limit: self.number("gpu_memory_limit"),
            storage: match self.text("gpu_storage") {
                Some("f16") => Cell::F16,
                Some("bf16") => Cell::Bf16,
                _ => Cell::F32,
            },
            software: self.text("gpu_allow_software") == Some("true"),
            ..GpuOptions::default()
        }
    }

    /// Folder for rows that do not fit into memory; `None` means the system's.
    pub fn spill_dir(&self) -> Option<&str> {
        self.text("spill_dir")
    }

    /// Address of the warehouse.
    pub fn warehouse(&self) -> &str {
        self.text("warehouse").unwrap_or(DEFAULT_WAREHOUSE)
    }

    /// The folders and addresses that statements may touch, as written; `None` means everything.
    pub fn roots(&self) -> Option<&str> {
        self.text("roots")
    }

    /// A count or size, or the default that the manual shows; `usize::MAX` where there is none.
    pub(crate) fn limit(&self, name: &'static str) -> usize {
        let default = || OPTIONS.iter().find(|spec| spec.name == name)?.default.parse().ok();
        let number = self.number(name).or_else(default).unwrap_or(u64::MAX);
        usize::try_from(number).unwrap_or(usize::MAX)
    }

    fn shown(&self, name: &'static str) -> String {
        match name {
            "threads" => self.threads().to_string(),
            "memory_limit" => self.memory_limit().to_string(),
            "cache_limit" => self.cache_limit().to_string(),
            "warehouse" => self.warehouse().into(),
            _ => match (OPTIONS.iter().find(|spec| spec.name == name), self.text(name)) {
                (Some(spec), Some(_)) if spec.kind == OptionKind::Secret => "***".into(),
                (Some(spec), None) => spec.default.into(),
                (_, text) => text.unwrap_or_default().into(),
            },
        }
    }
}

fn find(name: &str, value: &str) -> Result<&'static OptionSpec> {
    // A secret under a name that was misspelt is still one.
    let secret = ["key", "secret", "token", "password"].iter().any(|word| name.contains(word));
    OPTIONS.iter().find(|spec| spec.name == name).ok_or_else(|| SinewError::Config {
        name: format!("sinew.{name}"),
        value: if secret { "***".into() } else { value.into() },
        expected: format!(
            "there is no such option{}; the options are {}",
            sinew_ml::error::did_you_mean(name, OPTIONS.iter().map(|s| s.name)),
            OPTIONS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")
        ),
    })
}

impl ConfigExtension for SessionOptions {
    const PREFIX: &'static str = "sinew";
}

impl ExtensionOptions for SessionOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), DataFusionError> {
        let spec = find(key, value)?;
        if spec.at_start {
            return Err(SinewError::Config {
                name: format!("sinew.{key}"),
                value: if spec.kind == OptionKind::Secret { "***".into() } else { value.into() },
                expected: format!("it is fixed when the session opens; start again with {}", spec.at_the_start()),
            }
            .into());
        }
        self.values.insert(spec.name, spec.check(&format!("sinew.{key}"), value)?);
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let entry = |spec: &OptionSpec| ConfigEntry {
            key: format!("sinew.{}", spec.name),
            value: Some(self.shown(spec.name)),
            description: spec.doc,
        };
        OPTIONS.iter().map(entry).collect()
    }
}

/// Bytes of memory of the machine, or of the container where that has less; 4 GiB where neither tells.
fn memory_of_machine() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().to_owned();
        Some(line.parse::<u64>().ok()? * 1024)
    });
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let container = groups.iter().find_map(|path| read(path)?.trim().parse::<u64>().ok());
    machine.into_iter().chain(container).min().unwrap_or(4 << 30)
}

/// `docs/configuration.md`.
pub fn manual() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         An option is given as a flag when `sinew` starts, or in the environment; a flag wins. `SHOW sinew.x` shows \
         it in a session, and `SET sinew.x = ..` changes those that are not fixed at the start. DataFusion's own \
         options (`SHOW ALL`) are there too.\n\n\
         | option | flag | environment | value | default | changed by SET |\n|---|---|---|---|---|---|\n",
    );
    for spec in &OPTIONS {
        let value = match spec.kind {
            OptionKind::Count(low, high) => format!("{low} to {high}"),
            OptionKind::Bytes => "a size, such as `512MB` or `2GB` (powers of 1024)".into(),
            OptionKind::Text => "text".into(),
            OptionKind::Switch => "`true` or `false`".into(),
            OptionKind::Secret => "text, shown as `***`".into(),
            OptionKind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        };
        let flag = if spec.has_flag() { format!("`{}`", spec.flag()) } else { "none".into() };
        let default = if spec.default.is_empty() { "see below".into() } else { format!("`{}`", spec.default) };
        let set = if spec.at_start { "no" } else { "yes" };
        text += &format!("| `sinew.{}` | {flag} | `{}` | {value} | {default} | {set} |\n", spec.name, spec.env());
    }
    text.push('\n');
    for spec in &OPTIONS {
        text += &format!("**{}**: {}\n\n", spec.name, spec.doc);
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("2GB", 2 << 30), ("512 MiB", 512 << 20), ("1.5g", 3 << 29), ("4096", 4096)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "GB", "-1GB", "0", "2 potatoes", "1e3", "nan"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn a_wrong_option_says_what_is_right() {
        let mut options = SessionOptions::new();
        let text = |r: Result<()>| r.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text(options.set("threads", "--threads", "0")).contains("--threads = '0' is not allowed"));
        assert!(text(options.set("tread", "--tread", "1")).contains("did you mean 'threads'"));
        assert!(text(options.set("memory_limit", "SINEW_MEMORY_LIMIT", "much")).contains("2GB"));
    }
}
