//! What each column of a training query is for.

use datafusion::arrow::datatypes::{DataType, Schema};
use serde::{Deserialize, Serialize};

use crate::error::{MlError, Result, did_you_mean};
use crate::family::Task;
use crate::split::SplitSpec;

/// The roles of the query's columns, by position. Plain data: it travels with the operators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// Features in the order of the query.
    pub features: Vec<FeatureColumn>,
    /// The label, for families that have one.
    pub label: Option<LabelColumn>,
    /// Position of the weight column.
    pub weight: Option<usize>,
    /// Position of the column that says which rows are held out.
    pub split: Option<usize>,
}

/// A column that is a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeatureColumn {
    /// Position in the query.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its Arrow type as Arrow prints it.
    pub data_type: String,
    /// Whether its values are categories rather than numbers.
    pub categorical: bool,
}

/// The column that is the label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelColumn {
    /// Position in the query.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Its Arrow type as Arrow prints it.
    pub data_type: String,
    /// Whether its values are classes rather than numbers.
    pub class: bool,
}

impl Columns {
    /// Assigns the columns of `schema`: whatever is not label, weight or split is a feature.
    ///
    /// # Errors
    /// A named column that does not exist (with the nearest name) or serves two purposes; a label that
    /// is missing; a type no model can use; no feature at all.
    pub fn assign(
        schema: &Schema,
        task: Task,
        label: Option<&str>,
        weight: Option<&str>,
        split: &SplitSpec,
    ) -> Result<Self> {
        let mut columns = Columns::default();
        if let Some(name) = label.filter(|_| task != Task::Clustering) {
            let index = position(schema, name)?;
            let data_type = schema.field(index).data_type();
            check_label(name, data_type, task)?;
            let class = task == Task::Classification;
            columns.label = Some(LabelColumn { index, name: name.into(), data_type: data_type.to_string(), class });
        } else if task != Task::Clustering {
            return Err(MlError::Conflict { reason: "the statement names no label; write PREDICT column".into() });
        }
        if let Some(name) = weight {
            let index = position(schema, name)?;
            let data_type = schema.field(index).data_type();
            if !(data_type.is_numeric() || data_type.is_null()) {
                return Err(MlError::ColumnType {
                    column: name.into(),
                    data_type: data_type.to_string(),
                    hint: "a weight is a number, 0 or above".into(),
                });
            }
            columns.weight = Some(index);
        }
        if let SplitSpec::By { column } = split {
            let index = position(schema, column)?;
            let data_type = schema.field(index).data_type();
            if *data_type != DataType::Boolean {
                return Err(MlError::ColumnType {
                    column: column.clone(),
                    data_type: data_type.to_string(),
                    hint: "SPLIT BY takes a boolean column that is true for held-out rows".into(),
                });
            }
            columns.split = Some(index);
        }
        let taken: Vec<usize> =
            columns.label.iter().map(|l| l.index).chain(columns.weight).chain(columns.split).collect();
        for (i, index) in taken.iter().enumerate() {
            if taken[..i].contains(index) {
                let name = schema.field(*index).name();
                return Err(MlError::Conflict {
                    reason: format!("column '{name}' cannot be two of label, weight and split at once"),
                });
            }
        }
        for (index, field) in schema.fields().iter().enumerate().filter(|(i, _)| !taken.contains(i)) {
            let categorical = is_categorical(field.data_type());
            if !categorical && !is_number(field.data_type()) {
                return Err(MlError::ColumnType {
                    column: field.name().clone(),
                    data_type: field.data_type().to_string(),
                    hint: format!(
                        "a feature is a number, a boolean or a string; cast it, or leave it out with SELECT * EXCEPT ({})",
                        field.name()
                    ),
                });
            }
            columns.features.push(FeatureColumn {
                index,
                name: field.name().clone(),
                data_type: field.data_type().to_string(),
                categorical,
            });
        }
        if columns.features.is_empty() {
            return Err(MlError::Conflict {
                reason: "the training query has no feature column beside label, weight and split".into(),
            });
        }
        Ok(columns)
    }
}

/// Types whose values are categories.
pub fn is_categorical(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => true,
        DataType::Dictionary(_, values) => is_categorical(values),
        _ => false,
    }
}

/// Types whose values are numbers. NULL alone counts: such a column is constant.
pub fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || data_type.is_null()
}

fn check_label(name: &str, data_type: &DataType, task: Task) -> Result<()> {
    let (fits, hint) = match task {
        Task::Classification => {
            (is_number(data_type) || is_categorical(data_type), "a class is a number, a boolean or a string")
        }
        _ => (
            is_number(data_type) || *data_type == DataType::Boolean,
            "this family predicts a number; cast the column, or use a classifier such as logistic_regression",
        ),
    };
    if fits {
        return Ok(());
    }
    Err(MlError::ColumnType { column: name.into(), data_type: data_type.to_string(), hint: hint.into() })
}

fn position(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| MlError::UnknownColumn {
        name: name.into(),
        hint: did_you_mean(name, schema.fields().iter().map(|f| f.name().as_str())),
        known: schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Field;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("a", DataType::Float32, true),
            Field::new("s", DataType::Utf8View, true),
            Field::new("y", DataType::Int64, true),
            Field::new("w", DataType::Float64, true),
            Field::new("held", DataType::Boolean, true),
        ])
    }

    #[test]
    fn what_is_left_is_a_feature() -> Result<()> {
        let split = SplitSpec::By { column: "held".into() };
        let columns = Columns::assign(&schema(), Task::Classification, Some("y"), Some("w"), &split)?;
        let names: Vec<_> = columns.features.iter().map(|f| (f.name.as_str(), f.categorical)).collect();
        assert_eq!(names, [("a", false), ("s", true)]);
        Ok(())
    }

    #[test]
    fn a_misspelt_or_doubly_used_column_is_an_error() {
        let none = SplitSpec::None;
        let text = |r: Result<Columns>| r.err().map(|e| e.to_string()).unwrap_or_default();
        let wrong = text(Columns::assign(&schema(), Task::Regression, Some("hold"), None, &none));
        assert!(wrong.contains("did you mean 'held'"), "{wrong}");
        let twice = text(Columns::assign(&schema(), Task::Regression, Some("y"), Some("y"), &none));
        assert!(twice.contains("'y' cannot be two"), "{twice}");
        let string = text(Columns::assign(&schema(), Task::Regression, Some("s"), None, &none));
        assert!(string.contains("logistic_regression"), "{string}");
    }
}
