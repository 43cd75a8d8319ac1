//! Options of a session as Flight has them: the current catalog and schema, and whatever SET knows.

use std::collections::HashMap;

use datafusion::common::config::ExtensionOptions;

use super::metadata::INFORMATION_SCHEMA;
use super::protocol::{
    GetSessionOptionsResult, INVALID_NAME, INVALID_VALUE, OptionError, OptionValue, SessionOptionValue,
    SetSessionOptionsRequest, SetSessionOptionsResult,
};
use crate::config::SessionOptions;
use crate::session::{Session, split};

/// The name that SET knows an option by.
fn setting(name: &str) -> Option<&str> {
    match name {
        "catalog" => Some("datafusion.catalog.default_catalog"),
        "schema" => Some("datafusion.catalog.default_schema"),
        other => {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
            other.contains('.').then_some(other).filter(|name| name.chars().all(plain))
        }
    }
}

/// Whether a session has the catalog or schema.
fn there(session: &Session, name: &str, value: &str) -> bool {
    let context = session.context();
    let current = context.state().config_options().catalog.default_catalog.clone();
    match name {
        "catalog" => context.catalog(value).is_some(),
        "schema" if value == INFORMATION_SCHEMA => true,
        "schema" => context.catalog(&current).is_some_and(|catalog| catalog.schema(value).is_some()),
        _ => true,
    }
}

/// Sets options; those that cannot be set are in the answer.
pub async fn set(session: &Session, request: SetSessionOptionsRequest) -> SetSessionOptionsResult {
    let mut errors = HashMap::new();
    // The catalog first: a schema is looked for in it.
    let mut options: Vec<_> = request.session_options.into_iter().collect();
    options.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, value) in options {
        let value = match value.option_value {
            Some(OptionValue::Text(text)) => Some(text),
            Some(OptionValue::Bool(value)) => Some(value.to_string()),
            Some(OptionValue::Int(value)) => Some(value.to_string()),
            Some(OptionValue::Double(value)) => Some(value.to_string()),
            Some(OptionValue::List(_)) | None => None,
        };
        let error = match (setting(&name), value) {
            (None, _) => Some(INVALID_NAME),
            (Some(_), None) => Some(INVALID_VALUE),
            (Some(_), Some(value)) if !there(session, &name, &value) => Some(INVALID_VALUE),
            (Some(setting), Some(value)) => {
                let text = format!("SET {setting} = '{}'", value.replace('\'', "''"));
                match session.run(&split(&text)[0]).await {
                    Ok(_) => None,
                    Err(error) if error.to_string().contains("not found") => Some(INVALID_NAME),
                    Err(_) => Some(INVALID_VALUE),
                }
            }
        };
        if let Some(value) = error {
            errors.insert(name, OptionError { value });
        }
    }
    SetSessionOptionsResult { errors }
}

/// The current catalog and schema, and the options of this program.
pub fn get(session: &Session) -> GetSessionOptionsResult {
    let text = |text: String| SessionOptionValue { option_value: Some(OptionValue::Text(text)) };
    let state = session.context().state();
    let options = state.config_options();
    let mut all = HashMap::from([
        ("catalog".to_string(), text(options.catalog.default_catalog.clone())),
        ("schema".to_string(), text(options.catalog.default_schema.clone())),
    ]);
    let ours = options.extensions.get::<SessionOptions>().map(|options| options.entries()).unwrap_or_default();
    all.extend(ours.into_iter().map(|entry| (entry.key, text(entry.value.unwrap_or_default()))));
    GetSessionOptionsResult { session_options: all }
}
