//! Fitted transforms: what was learnt from the training rows about turning a table's columns into
//! features, with the state frozen, so that prediction does the same.

mod apply;
mod codes;
mod label;
mod numeric;
mod text;

use serde::{Deserialize, Serialize};

use crate::fold::Layout;

pub use apply::{Encoder, Prepared};
pub(crate) use text::EXACT;
pub use text::{ValueKind, value_order, value_text};

/// How each column of a query becomes a feature, and the label a value or a class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FittedTransform {
    /// Features in the order of the training query.
    pub features: Vec<FittedFeature>,
    /// The label; `None` for families without one.
    pub label: Option<FittedLabel>,
    /// What happens to rows with missing values.
    pub on_missing: OnMissing,
}

/// One feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FittedFeature {
    /// The column's name.
    pub name: String,
    /// The column's Arrow type at training, as Arrow prints it.
    pub data_type: String,
    /// How it is encoded.
    pub encoding: Encoding,
}

/// How a column becomes coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Encoding {
    /// The number itself. NULL and NaN become `impute`.
    Numeric {
        /// The training rows' weighted mean.
        impute: f64,
    },
    /// One indicator for each category, in the order of their values. A value that is not among them
    /// has all indicators zero.
    OneHot {
        /// Known values.
        categories: Vec<String>,
        /// Whether NULL was seen at training: it is then one more category, the last.
        null: bool,
    },
}

/// The label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FittedLabel {
    /// The column's name.
    pub name: String,
    /// The column's Arrow type at training, as Arrow prints it.
    pub data_type: String,
    /// The classes in ascending order, as text; empty for a number. With two classes the second is
    /// the positive one.
    pub classes: Vec<String>,
}

/// What happens to rows with missing values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// Numbers take the training mean; strings and booleans are a category of their own.
    #[default]
    Impute,
    /// The row is left out of training and predicts NULL.
    Skip,
    /// The statement fails.
    Error,
}

impl Encoding {
    /// `None` for a number, else how many categories there are, NULL included.
    pub fn categories(&self) -> Option<u32> {
        match self {
            Self::Numeric { .. } => None,
            Self::OneHot { categories, null } => Some(categories.len() as u32 + u32::from(*null)),
        }
    }
}

impl FittedTransform {
    /// The coordinates of the features.
    pub fn layout(&self) -> Layout {
        Layout::new(self.features.iter().map(|f| f.encoding.categories()))
    }
}
