//! What can go wrong in a session or a warehouse, one variant for each thing the reader can do about it.

use datafusion::error::DataFusionError;

/// An error of the session, the warehouse or the configuration. Codes `SINEW-3xxx`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinewError {
    /// The text is not SQL.
    #[error("SINEW-3001: {reason}")]
    Syntax {
        /// The parser's words, with the line counted from the start of the whole text.
        reason: String,
        /// The parser's error.
        source: Box<DataFusionError>,
    },
    /// The statement names something that is not there, or does not fit together.
    #[error("SINEW-3002: {reason}{hint}")]
    Plan {
        /// The planner's words.
        reason: String,
        /// `; ` and what to do next, or nothing.
        hint: String,
        /// The planner's error.
        source: Box<DataFusionError>,
    },
    /// The statement failed while it ran.
    #[error("SINEW-3003: {reason}{hint}")]
    Execution {
        /// The engine's words.
        reason: String,
        /// `; ` and what to do next, or nothing.
        hint: String,
        /// The engine's error.
        source: Box<DataFusionError>,
    },
    /// The statement needs more memory than the session may use.
    #[error("SINEW-3004: {reason}; raise --memory-limit or SINEW_MEMORY_LIMIT, or use fewer --threads")]
    Memory {
        /// Which consumer asked for how much.
        reason: String,
        /// The engine's error.
        source: Box<DataFusionError>,
    },
    /// Something that is not there yet.
    #[error("SINEW-3005: {what} is not available in this version: {hint}")]
    NotAvailable {
        /// The statement, option or address.
        what: String,
        /// What to use instead.
        hint: String,
    },
    /// The statement was cancelled.
    #[error("SINEW-3006: cancelled; nothing was published")]
    Cancelled,
    /// An option of the session has a value outside its type or range, or does not exist.
    #[error("SINEW-3007: {name} = '{value}' is not allowed: {expected}")]
    Config {
        /// The option as the reader wrote it.
        name: String,
        /// The value as written.
        value: String,
        /// What would be allowed.
        expected: String,
    },
    /// A file or folder of data cannot be read.
    #[error("SINEW-3008: cannot read '{path}': {reason}")]
    File {
        /// The path as written.
        path: String,
        /// What is wrong and what to do.
        reason: String,
        /// The engine's error, where there is one.
        source: Option<Box<DataFusionError>>,
    },

    /// The cluster cannot do its work now.
    #[error("SINEW-3401: {reason}; {hint}")]
    Cluster {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// Two processes of a cluster are of different versions.
    #[error("SINEW-3402: {what} is of version {theirs}, and this process of version {ours}; install one version")]
    Version {
        /// The other process.
        what: String,
        /// Its version.
        theirs: String,
        /// The version of this one.
        ours: String,
    },

    /// A name cannot be used for a model or a table.
    #[error("SINEW-3101: {reason}; the name given is '{name}'")]
    BadName {
        /// The name, cut to a readable length.
        name: String,
        /// Why not.
        reason: String,
    },
    /// There is no such model.
    #[error("SINEW-3102: there is no model '{name}'{hint}; SHOW MODELS lists all of them")]
    UnknownModel {
        /// The model's name.
        name: String,
        /// `; did you mean ..` or nothing.
        hint: String,
    },
    /// The model has no such version.
    #[error("SINEW-3103: model '{name}' has no version '{version}'; it has {known}")]
    UnknownVersion {
        /// The model's name.
        name: String,
        /// Number or alias as written.
        version: String,
        /// All of its versions and aliases.
        known: String,
    },
    /// A model of that name exists.
    #[error(
        "SINEW-3104: model '{name}' exists; CREATE OR REPLACE MODEL or TRAIN MODEL adds a version, DROP MODEL removes it"
    )]
    ModelExists {
        /// The model's name.
        name: String,
    },
    /// The warehouse address cannot be used.
    #[error("SINEW-3105: the warehouse '{location}' cannot be used: {reason}")]
    Location {
        /// The address as written.
        location: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The warehouse cannot be read.
    #[error("SINEW-3106: cannot read {path} of the warehouse: {source}; {hint}")]
    Read {
        /// Path of the object.
        path: String,
        /// What to do.
        hint: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// The warehouse cannot be written.
    #[error("SINEW-3107: cannot write {path} to the warehouse: {source}; {hint}")]
    Write {
        /// Path of the object.
        path: String,
        /// What to do.
        hint: String,
        /// The store's error.
        source: object_store::Error,
    },
    /// Something in the warehouse is not what was written there.
    #[error("SINEW-3108: {path} of the warehouse is damaged: {reason}; {hint}")]
    Damaged {
        /// Path of the object.
        path: String,
        /// Which check failed.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// A record was written by a newer version of this program.
    #[error("SINEW-3109: {path} has format {format}, and this version reads up to {known}; use a newer sinew")]
    Format {
        /// Path of the record.
        path: String,
        /// Its format.
        format: u32,
        /// The newest format that is known here.
        known: u32,
    },
    /// Other writers kept taking the next number.
    #[error("SINEW-3110: {attempts} attempts to add a record under {path} lost against other writers; try again")]
    Contention {
        /// Folder of the records.
        path: String,
        /// Attempts made.
        attempts: u32,
    },
    /// A table definition cannot be used.
    #[error("SINEW-3111: table '{name}' cannot be used: {reason}")]
    Table {
        /// The table's name.
        name: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A row does not fit the table it is written to.
    #[error("SINEW-3113: column '{column}' of table '{table}' does not take the rows, and none was written: {reason}")]
    Rejected {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// Which value, and why not.
        reason: String,
    },
    /// A request to an object store failed. The cause is text, not an error: what the client's error holds may
    /// show keys.
    #[error("SINEW-3501: cannot {operation} {place}: {cause}; {hint}")]
    Storage {
        /// What was tried.
        operation: &'static str,
        /// Bucket and path.
        place: String,
        /// The service's words.
        cause: String,
        /// What to do.
        hint: String,
    },
    /// An address or the settings of its store cannot be used.
    #[error("SINEW-3502: '{address}' cannot be used: {reason}")]
    Address {
        /// The address, without keys.
        address: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// There are no credentials for an object store.
    #[error("SINEW-3503: there are no credentials for {address}: {reason}; set {hint}")]
    Credentials {
        /// The bucket.
        address: String,
        /// What was tried.
        reason: String,
        /// What to set.
        hint: &'static str,
    },
    /// There is no interrupted training of a model.
    #[error(
        "SINEW-3601: there is no interrupted training of model '{model}' to resume; RETRAIN MODEL {model} without \
         RESUME trains it anew if it exists, TRAIN MODEL does if it does not"
    )]
    NothingToResume {
        /// The model's name.
        model: String,
    },
    /// Another process trains the model.
    #[error(
        "SINEW-3602: the training of model '{model}' is still running in {process}; wait for it, or for {seconds} s \
         if that process has ended"
    )]
    StillRunning {
        /// The model's name.
        model: String,
        /// The process.
        process: String,
        /// How long the process counts as alive without another sign of life.
        seconds: u64,
    },
    /// No training of that name runs here, or none that the user may see.
    #[error(
        "SINEW-3603: no training '{run}' runs here; SHOW TRAINING lists those that do, and users other than \
         administrators see their own"
    )]
    UnknownTraining {
        /// The name that was given.
        run: String,
    },
    /// A call does not say who makes it, or not truly.
    #[error("SINEW-3701: {reason}")]
    Login {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Too many attempts to log in failed.
    #[error("SINEW-3702: too many attempts to log in as '{user}' failed; try again in {seconds} s")]
    LoginLater {
        /// The name that was given.
        user: String,
        /// How long the next attempt has to wait.
        seconds: u64,
    },
    /// A user may not run a statement.
    #[error("SINEW-3703: {what} needs the role '{role}', and user '{user}' has {roles}; an administrator can add it")]
    Role {
        /// What was asked for.
        what: &'static str,
        /// The role it needs.
        role: &'static str,
        /// Who asked.
        user: String,
        /// The roles of that user.
        roles: String,
    },
    /// An address that this process may not touch.
    #[error("SINEW-3704: '{address}' {reason}")]
    Outside {
        /// The address, without keys.
        address: String,
        /// Where it lies, and what to do.
        reason: String,
    },
    /// A file of users or tokens cannot be used.
    #[error("SINEW-3705: {place}: {reason}")]
    Accounts {
        /// The file, and the line.
        place: String,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("SINEW-3706: {what}: {reason}")]
    Tls {
        /// The file or option.
        what: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A password would cross a network in the open.
    #[error(
        "SINEW-3707: {url} is not encrypted and another machine, so no password or token is sent there; use grpcs://, \
         or allow it with --allow-plaintext"
    )]
    Plaintext {
        /// The address.
        url: String,
    },
    /// An implementation of a contract does not keep it.
    #[error("SINEW-3198: contract not kept: {what}")]
    Conformance {
        /// What was expected and what came.
        what: String,
    },
    /// A broken promise between two parts of this crate; please report it.
    #[error("SINEW-3199: internal error: {0}")]
    Internal(String),

    /// Reading or writing outside the warehouse failed.
    #[error("SINEW-3112: {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// No server answers at an address.
    #[error("SINEW-3301: cannot reach {url}: {reason}; start a server there with 'sinew serve', or check the address")]
    Unreachable {
        /// The address as written.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The connection to a server broke.
    #[error(
        "SINEW-3302: the connection to {url} broke: {reason}; the statement is cancelled where it had not ended, \
         so look what is there (SHOW MODELS, SHOW TABLES) before it is run again"
    )]
    Disconnected {
        /// The address.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// The error of a server, as it says it.
    #[error("{text}")]
    Remote {
        /// Its text, code first.
        text: String,
        /// What carried it.
        status: Box<tonic::Status>,
    },
    /// What answers is no server of ours, or something between refused.
    #[error("SINEW-3303: {url} answered {answer}; is it a Sinew server?")]
    Answered {
        /// The address.
        url: String,
        /// Status and text.
        answer: String,
        /// What carried it.
        status: Box<tonic::Status>,
    },
    /// A request of a client is not one.
    #[error("SINEW-3304: {what}; {hint}")]
    Request {
        /// What is wrong.
        what: String,
        /// What to send instead.
        hint: String,
    },
    /// A ticket or a prepared statement is not known in this session.
    #[error(
        "SINEW-3305: {what} is not known in this session: it has expired, was closed, or belongs to another; {hint}"
    )]
    UnknownHandle {
        /// What the client holds.
        what: String,
        /// How to get a new one.
        hint: String,
    },
    /// The session that a client names is over.
    #[error(
        "SINEW-3306: the session has ended, or the server was started again; connect again (settings and temporary \
         tables of the session are gone)"
    )]
    SessionEnded,
    /// A limit of the server was reached.
    #[error("SINEW-3307: the limit of {what} is reached; {hint}")]
    TooMany {
        /// What there is too much of, with the limit.
        what: String,
        /// What to do.
        hint: String,
    },
    /// A server cannot listen at an address.
    #[error("SINEW-3308: cannot listen at {address}: {reason}")]
    Listen {
        /// The address as written.
        address: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A client sends rows for a new table, and there is one.
    #[error("SINEW-3309: table '{name}' exists; ask to append to it or to replace it, or DROP TABLE first")]
    TableExists {
        /// The table's name.
        name: String,
    },
    /// A client sends rows for a table that must be there, and is not.
    #[error("SINEW-3310: there is no table '{name}' to append to; ask to create it, or SHOW TABLES lists all")]
    UnknownTable {
        /// The table's name.
        name: String,
    },
    /// The server ends, and takes no new statements.
    #[error("SINEW-3311: the server is shutting down and takes no new statements; connect again later")]
    ShuttingDown,
    /// A statement ran when the server ended.
    #[error("SINEW-3312: the server is shutting down and stopped the statement: {next}")]
    Stopped {
        /// What is left of it, and what to do.
        next: String,
    },
    /// A plan was made by another DataFusion.
    #[error(
        "SINEW-3321: the plan was made by DataFusion {theirs}, and this server has DataFusion {ours}; install the same \
         major version (pip install 'datafusion=={ours}.*'), or send SQL or Substrait"
    )]
    PlanVersion {
        /// The client's major version.
        theirs: u32,
        /// The server's.
        ours: u32,
    },
    /// An error of another part, which brings its own code.
    #[error("{text}")]
    Coded {
        /// Its text, code first.
        text: String,
        /// The error that carried it.
        source: Box<DataFusionError>,
    },
    /// An error of the language.
    #[error(transparent)]
    Sql(sinew_sql::SqlError),
    /// An error of model training, prediction or storage.
    #[error(transparent)]
    Ml(sinew_ml::MlError),
}

/// The result type of this crate.
pub type Result<T, E = SinewError> = std::result::Result<T, E>;

impl SinewError {
    /// What a panic in the engine below becomes: an error of the statement, not the end of the process.
    pub(crate) fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Self::Internal(format!("{text}; please report the statement, and run it again with RUST_BACKTRACE=1"))
    }
}

impl From<SinewError> for DataFusionError {
    fn from(error: SinewError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for SinewError {
    fn from(error: DataFusionError) -> Self {
        classify(error)
    }
}

impl From<sinew_sql::SqlError> for SinewError {
    fn from(error: sinew_sql::SqlError) -> Self {
        match error {
            sinew_sql::SqlError::DataFusion(inner) => inner.into(),
            sinew_sql::SqlError::Ml(inner) => inner.into(),
            other => Self::Sql(other),
        }
    }
}

impl From<sinew_ml::MlError> for SinewError {
    fn from(error: sinew_ml::MlError) -> Self {
        match error {
            sinew_ml::MlError::DataFusion(inner) => inner.into(),
            other => Self::Ml(other),
        }
    }
}

impl SinewError {
    /// The stable code, such as `SINEW-3002`; `None` where the text carries none.
    pub fn code(&self) -> Option<String> {
        let text = self.to_string();
        let start = text.find("SINEW-")?;
        let code: String = text[start..].chars().take(10).collect();
        code[6..].chars().all(|c| c.is_ascii_digit()).then_some(code)
    }
}

/// Sorts an error of the dataflow engine by what the reader can do about it.
fn classify(error: DataFusionError) -> SinewError {
    let error = match unwrap_external(error) {
        Ok(ours) => return ours,
        Err(error) => error,
    };
    let reason = plain_text(&error);
    // An error that crossed a text-only boundary, or stands below a context, keeps its own code.
    if let Some(at) = reason.find("SINEW-") {
        return SinewError::Coded { text: reason[at..].to_string(), source: Box::new(error) };
    }
    let hint = hint(&reason);
    match error.find_root() {
        DataFusionError::SQL(..) => SinewError::Syntax { reason, source: Box::new(error) },
        DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::Configuration(_) => {
            SinewError::Plan { reason, hint, source: Box::new(error) }
        }
        DataFusionError::NotImplemented(_) => SinewError::Plan { reason, hint, source: Box::new(error) },
        DataFusionError::ResourcesExhausted(_) => SinewError::Memory { reason, source: Box::new(error) },
        _ => SinewError::Execution { reason, hint, source: Box::new(error) },
    }
}

/// Takes an error of ours back out of the engine's envelope.
fn unwrap_external(error: DataFusionError) -> std::result::Result<SinewError, DataFusionError> {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<SinewError>() {
            Ok(ours) => Ok(*ours),
            Err(inner) => match inner.downcast::<sinew_ml::MlError>() {
                Ok(ml) => Ok(SinewError::from(*ml)),
                Err(inner) => match inner.downcast::<sinew_sql::SqlError>() {
                    Ok(sql) => Ok(SinewError::from(*sql)),
                    Err(inner) => Err(DataFusionError::External(inner)),
                },
            },
        },
        DataFusionError::Diagnostic(_, inner) => unwrap_external(*inner),
        other => Err(other),
    }
}

/// The engine's words without its prefixes, stack traces and repetitions.
pub(crate) fn plain_text(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let mut text = text.trim();
    const PREFIXES: [&str; 15] = [
        "Error during planning: ",
        "Execution error: ",
        "External error: ",
        "Arrow error: ",
        "Parquet error: ",
        "Object Store error: ",
        "SQL error: ",
        "ParserError(\"",
        "Schema error: ",
        "Invalid or Unsupported Configuration: ",
        "This feature is not implemented: ",
        "Resources exhausted: ",
        "IO error: ",
        "Internal error: ",
        "Invalid argument error: ",
    ];
    while let Some(rest) = PREFIXES.iter().find_map(|p| text.strip_prefix(p)) {
        text = rest;
    }
    let text = text.strip_suffix("\")").unwrap_or(text);
    let text = match text.find("This issue was likely caused by a bug in DataFusion") {
        Some(at) => text[..at].trim_end().trim_end_matches(['.', ' ']),
        None => text,
    };
    // One error is one line.
    text.trim_end_matches('.').split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `; ` and the next step for errors whose own words do not name one.
fn hint(reason: &str) -> String {
    let lower = reason.to_lowercase();
    let next = if lower.contains("'sinew.public.__dataframe") {
        "it stood for a DataFrame of a program, which was not recorded as SQL; run that program again"
    } else if lower.contains("table") && lower.contains("not found") {
        "SHOW TABLES lists the tables, and a file is read by its quoted path, as in FROM 'data/x.parquet'"
    } else if lower.contains("no space left on device") || lower.contains("storage full") {
        "free disk space, or name another folder with --spill-dir"
    } else if lower.contains("config namespace") {
        "stores get their settings from the environment or the session, see docs/storage.md"
    } else if lower.contains("permission denied") {
        "check the permissions of the file and its folder"
    } else if lower.contains("divide by zero") {
        "guard the divisor, as in x / NULLIF(y, 0)"
    } else if lower.contains("cannot cast") || lower.contains("could not parse") || lower.contains("cast error") {
        "TRY_CAST(x AS type) gives NULL where a value does not fit"
    } else {
        return String::new();
    };
    format!("; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_errors_get_a_code_and_lose_their_prefixes() {
        let error = SinewError::from(DataFusionError::Plan("table 'sinew.public.t' not found".into()));
        let text = error.to_string();
        assert!(text.starts_with("SINEW-3002: table 'sinew.public.t' not found; SHOW TABLES"), "{text}");
        assert_eq!(error.code().as_deref(), Some("SINEW-3002"));
    }

    #[test]
    fn every_code_stands_in_the_manual() -> std::io::Result<()> {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let manual = std::fs::read_to_string(format!("{root}/docs/errors.md"))?;
        let mut codes = Vec::new();
        for file in ["ml-ops/src/error.rs", "sql/src/error.rs", "engine/src/error.rs"] {
            let text = std::fs::read_to_string(format!("{root}/{file}"))?;
            let marks = text.lines().filter_map(|line| line.split_once("\"SINEW-"));
            codes.extend(marks.filter_map(|(_, rest)| Some(rest.split_once(": ")?.0.to_string())));
        }
        codes.retain(|code| code.len() == 4 && code.parse::<u16>().is_ok());
        assert!(codes.len() > 30, "{codes:?}");
        for code in &codes {
            assert!(manual.contains(&format!("| SINEW-{code} |")), "docs/errors.md does not explain SINEW-{code}");
        }
        for line in manual.lines().filter_map(|line| line.strip_prefix("| SINEW-")) {
            assert!(codes.iter().any(|code| line.starts_with(code)), "docs/errors.md explains SINEW-{line}");
        }
        Ok(())
    }

    #[test]
    fn our_own_errors_survive_the_engine() {
        let error = SinewError::from(DataFusionError::from(SinewError::ModelExists { name: "m".into() }));
        assert!(matches!(error, SinewError::ModelExists { .. }), "{error}");
        let nested = DataFusionError::from(SinewError::ModelExists { name: "m".into() }).context("while planning");
        assert_eq!(SinewError::from(nested).code().as_deref(), Some("SINEW-3104"));
    }
}
