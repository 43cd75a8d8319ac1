//! The list after `OPTIONS`, and the options of BigQuery's that are clauses here.

use datafusion::sql::sqlparser::tokenizer::Token;
use sinew_ml::families::FAMILIES;
use sinew_ml::params::{ParamKind, ParamValue};
use sinew_ml::split::SplitSpec;

use crate::ast::NotYet;
use crate::cursor::Cursor;
use crate::error::{Position, Result, SqlError};

/// One option as written.
#[derive(Debug)]
pub(crate) struct OptionItem {
    /// In lower case.
    pub name: String,
    pub value: OptionValue,
    pub position: Position,
}

/// A value as written.
#[derive(Debug)]
pub(crate) enum OptionValue {
    One(ParamValue),
    Array(Vec<ParamValue>),
    /// `HPARAM_RANGE` and `HPARAM_CANDIDATES`, `STRUCT`.
    Refused(NotYet),
}

/// What a list of options says.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub family: Option<(String, Position)>,
    pub labels: Option<(Vec<String>, Position)>,
    pub split: Option<(SplitSpec, Position)>,
    pub rest: Vec<(String, ParamValue)>,
    pub refused: Option<NotYet>,
}

/// Reads `( name = value, .. )`.
pub(crate) fn parse(at: &mut Cursor<'_, '_>) -> Result<Options> {
    let mut items: Vec<OptionItem> = Vec::new();
    at.expect(&Token::LParen)?;
    while !at.take(&Token::RParen) {
        if !items.is_empty() && !at.take(&Token::Comma) {
            return Err(at.unexpected("',' or ')' in OPTIONS", &[]));
        }
        let position = at.here();
        let name = at.identifier("the name of an option")?.to_lowercase();
        if items.iter().any(|item| item.name == name) {
            return Err(SqlError::Repeated { what: format!("option {name}"), position });
        }
        if !at.take(&Token::Eq) {
            return Err(at.unexpected(&format!("'=' and a value after option {name}"), &[]));
        }
        items.push(OptionItem { name, value: value(at)?, position });
    }
    sort(items)
}

fn value(at: &mut Cursor<'_, '_>) -> Result<OptionValue> {
    const EXPECTED: &str = "a number, a string, true, false or an array";
    let tuning = "train once for each value and compare the versions with ML.EVALUATE";
    if at.take(&Token::LBracket) {
        return Ok(OptionValue::Array(array(at)?));
    }
    if at.take_words(&["HPARAM_RANGE"]) {
        at.expect(&Token::LParen)?;
        scalar(at, "the lower bound")?;
        at.expect(&Token::Comma)?;
        scalar(at, "the upper bound")?;
        at.expect(&Token::RParen)?;
        return Ok(OptionValue::Refused(NotYet::new("HPARAM_RANGE", tuning)));
    }
    if at.take_words(&["HPARAM_CANDIDATES"]) {
        at.expect(&Token::LParen)?;
        at.expect(&Token::LBracket)?;
        array(at)?;
        at.expect(&Token::RParen)?;
        return Ok(OptionValue::Refused(NotYet::new("HPARAM_CANDIDATES", tuning)));
    }
    if at.sees(&["STRUCT"]) {
        at.pos += 1;
        at.group()?;
        return Ok(OptionValue::Refused(NotYet::new(
            "a STRUCT as an option's value",
            "give a number, a string, true or false",
        )));
    }
    scalar(at, EXPECTED).map(OptionValue::One)
}

/// What follows `[`, up to and with `]`.
fn array(at: &mut Cursor<'_, '_>) -> Result<Vec<ParamValue>> {
    let mut values = Vec::new();
    while !at.take(&Token::RBracket) {
        if !values.is_empty() && !at.take(&Token::Comma) {
            return Err(at.unexpected("',' or ']' in an array", &[]));
        }
        values.push(scalar(at, "a number, a string, true or false")?);
    }
    Ok(values)
}

/// A literal: `-1`, `2.5e-3`, `'text'`, `true`, `NULL`.
pub(crate) fn scalar(at: &mut Cursor<'_, '_>, expected: &str) -> Result<ParamValue> {
    let start = at.pos;
    let sign = if at.take(&Token::Minus) {
        "-"
    } else {
        at.take(&Token::Plus);
        ""
    };
    let signed = at.pos > start;
    let value = match at.token() {
        Some(Token::Number(digits, _)) => number(&format!("{sign}{digits}")),
        Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) if !signed => {
            Some(ParamValue::Text(text.clone().into()))
        }
        Some(Token::Word(word)) if !signed && word.quote_style.is_none() => {
            match word.value.to_ascii_lowercase().as_str() {
                "true" => Some(ParamValue::Bool(true)),
                "false" => Some(ParamValue::Bool(false)),
                _ => None,
            }
        }
        // The generic dialect reads "text" as an identifier; BigQuery means a string.
        Some(Token::Word(word)) if !signed && word.quote_style == Some('"') => {
            Some(ParamValue::Text(word.value.clone().into()))
        }
        _ => None,
    };
    let Some(value) = value else {
        let hint = match at.token() {
            Some(Token::Word(_)) => "; words stand in single quotes".to_string(),
            Some(Token::Number(..)) => "; the number is too large".to_string(),
            _ => String::new(),
        };
        return Err(at.unexpected_because(expected, hint));
    };
    at.pos += 1;
    Ok(value)
}

fn number(text: &str) -> Option<ParamValue> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(ParamValue::Int(whole));
    }
    text.parse::<f64>().ok().filter(|v| v.is_finite()).map(ParamValue::Float)
}

/// A fraction above 0 and below 1.
pub(crate) fn fraction(what: &str, value: &ParamValue, position: Position) -> Result<f64> {
    let number = match value {
        ParamValue::Float(v) => Some(*v),
        ParamValue::Int(v) => Some(*v as f64),
        _ => None,
    };
    number.filter(|v| 0.0 < *v && *v < 1.0).ok_or_else(|| bad(what, value, "a fraction above 0 and below 1", position))
}

fn bad(what: &str, value: impl ToString, expected: &str, position: Position) -> SqlError {
    SqlError::BadValue { what: what.into(), value: value.to_string(), expected: expected.into(), position }
}

/// Puts BigQuery's options where the clauses put theirs.
fn sort(items: Vec<OptionItem>) -> Result<Options> {
    let mut options = Options::default();
    let (mut method, mut held_out, mut column) = (None, None, None);
    for OptionItem { name, value, position } in items {
        let value = match value {
            OptionValue::Refused(refused) => {
                options.refused.get_or_insert(refused);
                continue;
            }
            value => value,
        };
        match (name.as_str(), value) {
            ("model_type", OptionValue::One(ParamValue::Text(family))) => {
                options.family = Some((family.to_lowercase(), position));
            }
            ("input_label_cols", OptionValue::Array(values)) => {
                let labels = values
                    .into_iter()
                    .map(|v| match v {
                        ParamValue::Text(label) => Ok(label.into_owned()),
                        other => Err(bad("input_label_cols", other, "names of columns as strings", position)),
                    })
                    .collect::<Result<Vec<_>>>()?;
                options.labels = Some((labels, position));
            }
            ("input_label_cols", OptionValue::One(ParamValue::Text(label))) => {
                options.labels = Some((vec![label.into_owned()], position));
            }
            ("data_split_method", OptionValue::One(ParamValue::Text(word))) => {
                method = Some((word.to_uppercase(), position))
            }
            ("data_split_eval_fraction", OptionValue::One(value)) => {
                held_out = Some((fraction("data_split_eval_fraction", &value, position)?, position));
            }
            ("data_split_col", OptionValue::One(ParamValue::Text(name))) => {
                column = Some((name.into_owned(), position))
            }
            ("model_type", _) => return Err(bad("model_type", "this", "the name of a family as a string", position)),
            ("input_label_cols", _) => {
                return Err(bad("input_label_cols", "this", "an array of column names, as in ['y']", position));
            }
            ("data_split_method" | "data_split_col", _) => return Err(bad(&name, "this", "a string", position)),
            ("data_split_test_fraction", _) => {
                let hint = "data_split_eval_fraction holds rows out for evaluation";
                options.refused.get_or_insert(NotYet::new("option data_split_test_fraction", hint));
            }
            ("warm_start", OptionValue::One(ParamValue::Bool(true))) => {
                options
                    .refused
                    .get_or_insert(NotYet::new("option warm_start = true", "leave it out to train from the start"));
            }
            ("warm_start", OptionValue::One(ParamValue::Bool(false))) => {}
            (_, OptionValue::One(value)) => options.rest.push((name, value)),
            (_, OptionValue::Array(values)) if values.iter().all(|v| matches!(v, ParamValue::Int(_))) => {
                let whole = |value| if let ParamValue::Int(v) = value { Some(v) } else { None };
                let values: Vec<i64> = values.into_iter().filter_map(whole).collect();
                options.rest.push((name, ParamValue::Ints(values.into())));
            }
            // The family says what it takes instead.
            (_, OptionValue::Array(values)) if takes_list(&name) => {
                let text = |value: &ParamValue| match value {
                    ParamValue::Float(value) => format!("{value:?}"),
                    other => other.to_string(),
                };
                let values = values.iter().map(text).collect::<Vec<_>>().join(", ");
                options.rest.push((name, ParamValue::Text(format!("[{values}]").into())));
            }
            (_, OptionValue::Array(_)) => {
                let what = format!("an array as the value of option {name}");
                options.refused.get_or_insert(NotYet::new(what, "give one number, string, true or false"));
            }
            (_, OptionValue::Refused(_)) => {}
        }
    }
    options.split = split(method, held_out, column, &mut options.refused)?;
    Ok(options)
}

/// Whether an option of some family is a list.
fn takes_list(name: &str) -> bool {
    let mut options = FAMILIES.iter().flat_map(|family| family.params());
    options.any(|spec| {
        let mut names = std::iter::once(&spec.name).chain(spec.aliases);
        matches!(spec.kind, ParamKind::Ints(..)) && names.any(|known| known.eq_ignore_ascii_case(name))
    })
}

type At<T> = Option<(T, Position)>;

fn split(
    method: At<String>,
    held_out: At<f64>,
    column: At<String>,
    refused: &mut Option<NotYet>,
) -> Result<At<SplitSpec>> {
    let only = |what: &str, needs: &str| {
        Err(SqlError::Conflict { reason: format!("option {what} needs data_split_method = '{needs}'") })
    };
    let word = method.as_ref().map(|(word, _)| word.as_str());
    if held_out.is_some() && !matches!(word, Some("RANDOM" | "SEQ")) {
        return only("data_split_eval_fraction", "RANDOM");
    }
    if column.is_some() && !matches!(word, Some("CUSTOM" | "SEQ")) {
        return only("data_split_col", "CUSTOM");
    }
    let Some((word, position)) = method else { return Ok(None) };
    let spec = match word.as_str() {
        "AUTO_SPLIT" => SplitSpec::Auto,
        "NO_SPLIT" => SplitSpec::None,
        "RANDOM" => SplitSpec::Random { fraction: held_out.map_or(0.2, |(fraction, _)| fraction), seed: None },
        "CUSTOM" => match column {
            Some((column, _)) => SplitSpec::By { column },
            None => {
                let reason = "data_split_method = 'CUSTOM' needs data_split_col = '<a boolean column, true where a row is held out>'";
                return Err(SqlError::Conflict { reason: reason.into() });
            }
        },
        "SEQ" => {
            refused.get_or_insert(sequential());
            return Ok(None);
        }
        _ => {
            let expected = "one of 'AUTO_SPLIT', 'RANDOM', 'CUSTOM', 'NO_SPLIT'";
            return Err(bad("data_split_method", format!("'{word}'"), expected, position));
        }
    };
    Ok(Some((spec, position)))
}

/// The refusal of splits in the order of a column.
pub(crate) fn sequential() -> NotYet {
    NotYet::new(
        "a sequential split",
        "mark the last rows in a boolean column of the query and write SPLIT BY that column",
    )
}
