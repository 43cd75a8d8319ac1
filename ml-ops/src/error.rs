//! What can go wrong in this crate, one variant for each thing the reader can do about it.
//!
//! Every text starts with a stable code, so that it survives transports that carry only text.

use datafusion::error::DataFusionError;

/// An error of model training, prediction or storage. Codes `SINEW-2xxx`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MlError {
    /// No family of that name or alias.
    #[error("SINEW-2001: unknown model family '{name}'{hint}; SHOW MODEL FAMILIES lists all of them")]
    UnknownFamily {
        /// The name as written.
        name: String,
        /// `; did you mean ..` or nothing.
        hint: String,
    },
    /// The family has no such option.
    #[error("SINEW-2002: {family} has no option '{name}'{hint}; its options are {known}")]
    UnknownOption {
        /// The family's canonical name.
        family: String,
        /// The option as written.
        name: String,
        /// `; did you mean ..` or nothing.
        hint: String,
        /// All options of the family.
        known: String,
    },
    /// An option has a value outside its type or range.
    #[error("SINEW-2003: option {name} = {value} is not allowed: {expected}")]
    BadOption {
        /// The option's canonical name.
        name: String,
        /// The value as written.
        value: String,
        /// What would be allowed.
        expected: String,
    },
    /// Two options contradict each other, or do not apply together.
    #[error("SINEW-2004: {reason}")]
    Conflict {
        /// What contradicts what, and what to write.
        reason: String,
    },
    /// A column the statement names is not among the query's.
    #[error("SINEW-2005: the training query has no column '{name}'{hint}; it has {known}")]
    UnknownColumn {
        /// The column as written.
        name: String,
        /// `; did you mean ..` or nothing.
        hint: String,
        /// All columns of the query.
        known: String,
    },
    /// A column has a type this family cannot use.
    #[error("SINEW-2006: column '{column}' has type {data_type}: {hint}")]
    ColumnType {
        /// The column's name.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// What to do.
        hint: String,
    },
    /// The data cannot train this model.
    #[error("SINEW-2007: {reason}")]
    Data {
        /// What is wrong with the data, and what to do.
        reason: String,
    },
    /// A value that no arithmetic can use stands in a column.
    #[error("SINEW-2008: column '{column}' holds {value}: {hint}")]
    BadValue {
        /// The column's name.
        column: String,
        /// The offending value.
        value: String,
        /// What to do.
        hint: String,
    },
    /// The optimizer could not go on.
    #[error("SINEW-2009: training did not succeed: {reason}")]
    Numeric {
        /// What happened, and which option to change.
        reason: String,
    },
    /// A model is used on data it does not fit.
    #[error("SINEW-2010: {reason}")]
    Mismatch {
        /// Which feature, which type, and what to do.
        reason: String,
    },
    /// A stored model is damaged.
    #[error("SINEW-2011: model artifact is damaged: {reason}; train or import the model again")]
    Damaged {
        /// Which check failed.
        reason: String,
    },
    /// The state of this training would not fit.
    #[error("SINEW-2012: {what} needs {needed} bytes, and {limit} are allowed: {hint}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
        /// What to do.
        hint: String,
    },
    /// Something that parses and is not there yet.
    #[error("SINEW-2013: {what} is not available in this version: {hint}")]
    NotAvailable {
        /// The clause, function or option.
        what: String,
        /// What to use instead.
        hint: String,
    },
    /// A checkpoint does not belong to this training, or cannot be read.
    #[error("SINEW-2014: the training cannot go on where it was interrupted: {reason}; leave out RESUME to train anew")]
    Resume {
        /// What does not fit.
        reason: String,
    },
    /// A GPU is asked for, and there is none.
    #[error(
        "SINEW-2015: device = '{device}' cannot be used: {reason}; SHOW DEVICES lists what there is, device = 'auto' takes a GPU only where it helps"
    )]
    NoDevice {
        /// The device as written.
        device: String,
        /// Why there is none.
        reason: String,
    },
    /// A broken promise between two parts of this crate; please report it.
    #[error("SINEW-2099: internal error: {0}")]
    Internal(String),
    /// An error of the dataflow engine below.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
}

/// The result type of this crate.
pub type Result<T, E = MlError> = std::result::Result<T, E>;

impl From<MlError> for DataFusionError {
    fn from(error: MlError) -> Self {
        match error {
            MlError::DataFusion(inner) => inner,
            other => DataFusionError::External(Box::new(other)),
        }
    }
}

impl From<datafusion::arrow::error::ArrowError> for MlError {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        MlError::DataFusion(error.into())
    }
}

/// `; did you mean 'x'?` for the nearest of `known`, or nothing where none is near.
pub fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let word = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 3)
        .min()
        .map(|(_, candidate)| format!("; did you mean '{candidate}'?"))
        .unwrap_or_default()
}
