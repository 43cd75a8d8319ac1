//! Names of models, and references to their versions.

use std::fmt;
use std::str::FromStr;

use crate::error::{Position, Result, SqlError};

/// The most characters a model's name may have.
pub const MAX_NAME: usize = 128;

/// A model, or one version of it: `m`, `m@3`, `m@prod`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRef {
    /// The model's name.
    pub name: String,
    /// Which version; `None` means the default one.
    pub version: Option<Version>,
}

/// Which version of a model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// By number, from 1.
    Number(u64),
    /// By alias.
    Alias(String),
}

impl ModelRef {
    /// A reference to the default version.
    pub fn latest(name: impl Into<String>) -> Self {
        Self { name: name.into(), version: None }
    }

    /// The reference as SQL, quoted where it must be.
    pub fn to_sql(&self) -> String {
        match &self.version {
            None => quote(&self.name),
            Some(version) => format!("{}@{version}", quote(&self.name)),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Number(number) => write!(f, "{number}"),
            Version::Alias(alias) => f.write_str(alias),
        }
    }
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.version {
            None => Ok(()),
            Some(version) => write!(f, "@{version}"),
        }
    }
}

impl FromStr for ModelRef {
    type Err = SqlError;

    /// Reads what [`fmt::Display`] wrote: the name as it is, without quotes.
    fn from_str(text: &str) -> Result<Self> {
        let (name, version) = match text.split_once('@') {
            None => (text, None),
            Some((name, version)) => (name, Some(version)),
        };
        check_name(name, None)?;
        Ok(Self { name: name.into(), version: version.map(|v| parse_version(v, None)).transpose()? })
    }
}

/// Checks a model's name: 1 to 128 letters, digits, `_`, `-` and `.`, starting with a letter, a digit or `_`.
///
/// # Errors
/// When the name breaks a rule; the text says which.
pub fn check_name(name: &str, position: Option<Position>) -> Result<()> {
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let reason = if name.is_empty() {
        "it is empty".to_string()
    } else if name.chars().count() > MAX_NAME {
        format!("it has {} characters, and {MAX_NAME} are allowed", name.chars().count())
    } else if let Some(odd) = name.chars().find(|c| !allowed(*c)) {
        format!("{odd:?} is not allowed; a name has letters, digits, '_', '-' and '.'")
    } else if name.starts_with(['.', '-']) {
        "it must start with a letter, a digit or '_'".to_string()
    } else if name.contains("..") || name.ends_with('.') {
        "a '.' stands between two parts".to_string()
    } else {
        return Ok(());
    };
    let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
    Err(SqlError::ModelName { name: shown, kind: "model name", reason, position })
}

/// Reads what follows the `@`: digits are a number, anything else is an alias.
pub(crate) fn parse_version(text: &str, position: Option<Position>) -> Result<Version> {
    let wrong = |reason: &str| SqlError::ModelName {
        name: text.chars().take(40).flat_map(char::escape_default).collect(),
        kind: "model version",
        reason: reason.into(),
        position,
    };
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return match text.parse() {
            Ok(0) => Err(wrong("versions are counted from 1")),
            Ok(number) => Ok(Version::Number(number)),
            Err(_) => Err(wrong("the number is too large")),
        };
    }
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
    if !first || !chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) || text.chars().count() > MAX_NAME {
        return Err(wrong("after '@' stands a version number or an alias, as in m@3 or m@prod"));
    }
    Ok(Version::Alias(text.into()))
}

/// An identifier as SQL: in double quotes unless it reads the same without.
pub fn quote(name: &str) -> String {
    let plain =
        name.chars().enumerate().all(|(i, c)| c == '_' || c.is_ascii_lowercase() || (i > 0 && c.is_ascii_digit()));
    let word = crate::train::CLAUSES.iter().any(|c| c.eq_ignore_ascii_case(name));
    if plain && !word && !name.is_empty() { name.into() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_what_they_write() {
        for text in ["m", "m@3", "ds.churn@prod", "Ünï_1", "a-b@v-2"] {
            assert_eq!(text.parse::<ModelRef>().map(|r| r.to_string()).ok().as_deref(), Some(text));
        }
    }

    #[test]
    fn names_that_are_none_say_why() {
        let long = "x".repeat(129);
        for (name, part) in [
            ("", "empty"),
            (long.as_str(), "129 characters"),
            ("a/b", "'/' is not allowed"),
            ("a\nb", "'\\n' is not allowed"),
            ("..", "must start"),
            ("a..b", "between two parts"),
            ("a b", "' ' is not allowed"),
        ] {
            let text = check_name(name, None).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(text.starts_with("SINEW-1005") && text.contains(part), "{name:?}: {text}");
        }
        for bad in ["m@", "m@0", "m@99999999999999999999999", "m@a/b", "m@3x"] {
            let text = bad.parse::<ModelRef>().err().map(|e| e.to_string()).unwrap_or_default();
            assert!(text.contains("not a model version"), "{bad}: {text}");
        }
    }
}
