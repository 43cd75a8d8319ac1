//! What can be wrong with a statement, one variant for each thing the reader can do about it.

use std::fmt;

use datafusion::error::DataFusionError;
use sinew_ml::MlError;

/// A place in the text of a script; both counts start at 1, columns count characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// An error of the language. Codes `SINEW-1xxx`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// Something stands where something else must stand.
    #[error("SINEW-1001: expected {expected}, found {found} at {position}, near: {near}{hint}")]
    Syntax {
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
        /// Where.
        position: Position,
        /// The text around it.
        near: String,
        /// `; did you mean ..` or another next step, or nothing.
        hint: String,
    },
    /// The text cannot be cut into words.
    #[error("SINEW-1002: {reason} at {position}")]
    Token {
        /// What is wrong.
        reason: String,
        /// Where.
        position: Position,
    },
    /// A query or another statement of DataFusion's does not parse.
    #[error("SINEW-1003: {message}")]
    Query {
        /// What was expected, what was found, and where.
        message: String,
    },
    /// A clause or an option is given more than once.
    #[error("SINEW-1004: {what} is given twice, the second time at {position}; keep one")]
    Repeated {
        /// The clause or option.
        what: String,
        /// Where the second one stands.
        position: Position,
    },
    /// A model's name or version is not one.
    #[error("SINEW-1005: '{name}' is not a {kind}: {reason}{}", at(.position))]
    ModelName {
        /// The name as written.
        name: String,
        /// `model name` or `model version`.
        kind: &'static str,
        /// The rule it breaks.
        reason: String,
        /// Where it stands, if it came from a statement.
        position: Option<Position>,
    },
    /// A value outside what the clause or option takes.
    #[error("SINEW-1006: {what} = {value} at {position} is not allowed: {expected}")]
    BadValue {
        /// The clause or option.
        what: String,
        /// The value as written.
        value: String,
        /// What would be allowed.
        expected: String,
        /// Where.
        position: Position,
    },
    /// Two parts of a statement contradict each other, or one is missing that another needs.
    #[error("SINEW-1007: {reason}")]
    Conflict {
        /// What contradicts what, and what to write.
        reason: String,
    },
    /// No function of that name.
    #[error("SINEW-1008: there is no function {name} (at {position}){hint}; the functions are {known}")]
    UnknownFunction {
        /// The name as written.
        name: String,
        /// `; did you mean ..` or nothing.
        hint: String,
        /// All functions.
        known: String,
        /// Where.
        position: Position,
    },
    /// Something that parses and is not there yet.
    #[error("SINEW-1009: {what} is not available in this version; {hint}")]
    NotYet {
        /// The statement, clause or function.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// No model of that name, or no such version.
    #[error("SINEW-1010: there is no model '{name}'{hint}; SHOW MODELS lists all of them")]
    UnknownModel {
        /// The reference as written.
        name: String,
        /// `; did you mean ..` or nothing.
        hint: String,
    },
    /// A feature of the model has no column.
    #[error(
        "SINEW-1011: model '{model}' needs column '{feature}', and the input has none of that name{hint}; it has {known}"
    )]
    MissingFeature {
        /// The model.
        model: String,
        /// The feature.
        feature: String,
        /// `; did you mean ..` or nothing.
        hint: String,
        /// The columns there are.
        known: String,
    },
    /// A column has a type the model's feature cannot take.
    #[error("SINEW-1012: column '{column}' has type {found}, and model '{model}' was trained on {expected}: {hint}")]
    FeatureType {
        /// The model.
        model: String,
        /// The column.
        column: String,
        /// Its type.
        found: String,
        /// The type at training.
        expected: String,
        /// What to do.
        hint: String,
    },
    /// A function over a model is called with arguments it does not take.
    #[error("SINEW-1013: {function}: {reason}")]
    Arguments {
        /// The function.
        function: String,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// An error of a model family, an option or a column.
    #[error(transparent)]
    Ml(#[from] MlError),
    /// An error of the query planner.
    #[error(transparent)]
    DataFusion(#[from] DataFusionError),
}

/// The result type of this crate.
pub type Result<T, E = SqlError> = std::result::Result<T, E>;

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::DataFusion(inner) => inner,
            SqlError::Ml(inner) => inner.into(),
            other => DataFusionError::External(Box::new(other)),
        }
    }
}

fn at(position: &Option<Position>) -> String {
    position.map(|p| format!(", at {p}")).unwrap_or_default()
}

/// `a, b and 12 more`, for texts that list what there is.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let all: Vec<_> = names.into_iter().collect();
    match all.len() {
        0 => "none".into(),
        n if n > SHOWN => format!("{} and {} more", all[..SHOWN].join(", "), n - SHOWN),
        _ => all.join(", "),
    }
}
