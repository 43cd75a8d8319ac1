//! Options of a family: one table that the parser, the checks, `SHOW MODEL FAMILIES` and the manual read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{MlError, Result, did_you_mean};

/// One option of a family.
#[derive(Debug)]
pub struct ParamSpec {
    /// Canonical snake_case name.
    pub name: &'static str,
    /// MLlib's camelCase and BigQuery's name.
    pub aliases: &'static [&'static str],
    /// Type and range.
    pub kind: ParamKind,
    /// Used when the option is not given; [`ParamValue::Null`] means "depends", as `doc` says.
    pub default: ParamValue,
    /// One sentence for the manual.
    pub doc: &'static str,
}

/// Type and range of an option.
#[derive(Debug)]
pub enum ParamKind {
    /// true or false.
    Bool,
    /// A whole number in a closed range.
    Int(i64, i64),
    /// A number in a closed range.
    Float(f64, f64),
    /// A number above the first and up to the second bound.
    FloatAbove(f64, f64),
    /// One of some words.
    Text(&'static [&'static str]),
    /// A list of whole numbers in a closed range; one number is a list of one.
    Ints(i64, i64),
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// Not given, and without a fixed default.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A word, in lower case.
    Text(std::borrow::Cow<'static, str>),
    /// A list of whole numbers.
    Ints(std::borrow::Cow<'static, [i64]>),
}

impl ParamValue {
    /// A word that is part of the program.
    pub const fn text(word: &'static str) -> Self {
        Self::Text(std::borrow::Cow::Borrowed(word))
    }
}

impl From<bool> for ParamValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for ParamValue {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for ParamValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for ParamValue {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for ParamValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_string().into())
    }
}

impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "'{value}'"),
            Self::Ints(values) => {
                write!(f, "[{}]", values.iter().map(i64::to_string).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl fmt::Display for ParamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("true or false"),
            Self::Int(low, i64::MAX) => write!(f, "a whole number, at least {low}"),
            Self::Int(low, high) => write!(f, "a whole number from {low} to {high}"),
            Self::Float(low, f64::MAX) => write!(f, "a number, at least {low}"),
            Self::Float(low, high) => write!(f, "a number from {low} to {high}"),
            Self::FloatAbove(low, f64::MAX) => write!(f, "a number above {low}"),
            Self::FloatAbove(low, high) => write!(f, "a number above {low}, at most {high}"),
            Self::Ints(low, high) => write!(f, "a list of whole numbers from {low} to {high}, as in [64, 32]"),
            Self::Text(words) => {
                write!(f, "one of {}", words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

impl ParamKind {
    /// The value in this kind's own type, if it is one of this kind and in range.
    fn accept(&self, value: &ParamValue) -> Option<ParamValue> {
        let number = match value {
            ParamValue::Int(v) => Some(*v as f64),
            ParamValue::Float(v) => Some(*v),
            _ => None,
        };
        match (self, value) {
            (Self::Bool, ParamValue::Bool(_)) => Some(value.clone()),
            (Self::Bool, ParamValue::Text(word)) => word.to_lowercase().parse().ok().map(ParamValue::Bool),
            (Self::Int(low, high), _) => {
                let v = number.filter(|v| v.fract() == 0.0 && v.abs() < 9e15)? as i64;
                (*low <= v && v <= *high).then_some(ParamValue::Int(v))
            }
            (Self::Float(low, high), _) => number.filter(|v| low <= v && v <= high).map(ParamValue::Float),
            (Self::FloatAbove(low, high), _) => number.filter(|v| low < v && v <= high).map(ParamValue::Float),
            (Self::Ints(low, high), ParamValue::Ints(values)) => {
                values.iter().all(|v| low <= v && v <= high).then(|| value.clone())
            }
            (Self::Ints(low, high), _) => {
                let v = number.filter(|v| v.fract() == 0.0 && v.abs() < 9e15)? as i64;
                (*low <= v && v <= *high).then(|| ParamValue::Ints(vec![v].into()))
            }
            (Self::Text(words), ParamValue::Text(word)) => {
                let word = word.to_lowercase();
                words.iter().find(|w| **w == word).map(|w| ParamValue::text(w))
            }
            _ => None,
        }
    }
}

/// The options of one training: every option of the family, by canonical name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Params(BTreeMap<String, ParamValue>);

impl Params {
    /// Checks the options as written against the family's table and adds the defaults.
    ///
    /// BigQuery's additive `l1_reg = a` and `l2_reg = b` become `reg_param = a + b` and
    /// `elastic_net_param = a / (a + b)` for families that have these, and MLlib's `layers` says `hidden_units` too.
    ///
    /// # Errors
    /// An unknown or repeated option, or a value outside its type or range.
    pub fn resolve(family: &str, specs: &'static [ParamSpec], given: &[(String, ParamValue)]) -> Result<Self> {
        let find = |name: &str| {
            specs.iter().find(|spec| {
                spec.name.eq_ignore_ascii_case(name) || spec.aliases.iter().any(|a| a.eq_ignore_ascii_case(name))
            })
        };
        let mut values = BTreeMap::new();
        let mut additive = [None, None];
        for (name, value) in given {
            let regularised = find("reg_param").is_some() && find("elastic_net_param").is_some();
            if let Some(which) = ["l1_reg", "l2_reg"].iter().position(|a| regularised && a.eq_ignore_ascii_case(name)) {
                let kind = ParamKind::Float(0.0, f64::MAX);
                match kind.accept(value) {
                    Some(ParamValue::Float(v)) => additive[which] = Some(v),
                    _ => return Err(bad(name, value, &kind)),
                }
                continue;
            }
            let spec = find(name).ok_or_else(|| MlError::UnknownOption {
                family: family.into(),
                name: name.clone(),
                hint: did_you_mean(
                    name,
                    specs.iter().flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied())),
                ),
                known: specs.iter().map(|s| s.name).collect::<Vec<_>>().join(", "),
            })?;
            let checked = spec.kind.accept(value).ok_or_else(|| bad(spec.name, value, &spec.kind))?;
            if values.insert(spec.name.to_string(), checked).is_some() {
                return Err(MlError::Conflict { reason: format!("option {} is given twice; keep one", spec.name) });
            }
        }
        if let [l1, l2] = additive
            && (l1.is_some() || l2.is_some())
        {
            if values.contains_key("reg_param") || values.contains_key("elastic_net_param") {
                return Err(MlError::Conflict {
                    reason: "l1_reg and l2_reg cannot stand beside reg_param and elastic_net_param; use one pair"
                        .into(),
                });
            }
            let (l1, l2) = (l1.unwrap_or(0.0), l2.unwrap_or(0.0));
            values.insert("reg_param".into(), ParamValue::Float(l1 + l2));
            let ratio = if l1 + l2 > 0.0 { l1 / (l1 + l2) } else { 0.0 };
            values.insert("elastic_net_param".into(), ParamValue::Float(ratio));
        }
        if let Some(ParamValue::Ints(layers)) = values.get("layers") {
            let [_, hidden @ .., _] = layers.as_ref() else {
                return Err(MlError::BadOption {
                    name: "layers".into(),
                    value: ParamValue::Ints(layers.clone()).to_string(),
                    expected: "inputs, the units of each hidden layer, and outputs, as in [4, 8, 3]".into(),
                });
            };
            let hidden = ParamValue::Ints(hidden.to_vec().into());
            let kind = find("hidden_units").map_or(&ParamKind::Bool, |spec| &spec.kind);
            let hidden = kind.accept(&hidden).ok_or_else(|| bad("the hidden layers of layers", &hidden, kind))?;
            if values.insert("hidden_units".into(), hidden).is_some() {
                return Err(MlError::Conflict {
                    reason: "layers and hidden_units both say what the hidden layers are; keep one".into(),
                });
            }
        }
        for spec in specs {
            values.entry(spec.name.to_string()).or_insert_with(|| spec.default.clone());
        }
        Ok(Self(values))
    }

    /// The value of an option, [`ParamValue::Null`] for one the family does not have.
    pub fn get(&self, name: &str) -> &ParamValue {
        self.0.get(name).unwrap_or(&ParamValue::Null)
    }

    /// A number; `None` when it was not given and has no default.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.get(name) {
            ParamValue::Float(v) => Some(*v),
            ParamValue::Int(v) => Some(*v as f64),
            _ => None,
        }
    }

    /// A whole number; `None` when it was not given and has no default.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            ParamValue::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// A flag; false when there is none.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), ParamValue::Bool(true))
    }

    /// A word; `""` when there is none.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            ParamValue::Text(v) => v,
            _ => "",
        }
    }

    /// A list of whole numbers; empty when there is none.
    pub fn ints(&self, name: &str) -> &[i64] {
        match self.get(name) {
            ParamValue::Ints(values) => values,
            _ => &[],
        }
    }

    /// All options in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ParamValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

fn bad(name: &str, value: &ParamValue, kind: &ParamKind) -> MlError {
    MlError::BadOption { name: name.to_lowercase(), value: value.to_string(), expected: kind.to_string() }
}
