//! A model's features are found among the columns of a relation by their names.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::Expr;
use sinew_ml::error::did_you_mean;
use sinew_ml::model::Model;
use sinew_ml::transform::Encoding;

use crate::error::{Result, SqlError, listed};

/// A column a feature may be read from.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub name: String,
    pub data_type: DataType,
    pub expr: Expr,
}

/// The columns of a relation, or those of one table in it.
pub(crate) fn candidates(schema: &DFSchema, of: Option<&TableReference>) -> Vec<Candidate> {
    let in_table =
        |qualifier: Option<&TableReference>| of.is_none_or(|of| qualifier.is_some_and(|q| q.resolved_eq(of)));
    schema
        .iter()
        .filter(|(qualifier, _)| in_table(*qualifier))
        .map(|(qualifier, field)| Candidate {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            expr: Expr::Column(Column::new(qualifier.cloned(), field.name())),
        })
        .collect()
}

/// The model's features, in its order. Columns that are no feature are left aside.
///
/// # Errors
/// When a feature has no column, has several, or one of another kind than at training.
pub(crate) fn features(name: &str, model: &Model, columns: &[Candidate]) -> Result<Vec<Expr>> {
    let transform = &model.manifest.transform;
    let mut found = Vec::with_capacity(transform.features.len());
    for feature in &transform.features {
        let column = find(name, &feature.name, columns)?;
        check(name, &feature.data_type, &feature.encoding, column)?;
        found.push(column.expr.clone());
    }
    Ok(found)
}

/// The one column of that name.
pub(crate) fn find<'a>(model: &str, wanted: &str, columns: &'a [Candidate]) -> Result<&'a Candidate> {
    let mut same = columns.iter().filter(|c| c.name == wanted);
    match (same.next(), same.next()) {
        (Some(column), None) => Ok(column),
        (Some(_), Some(_)) => Err(SqlError::Conflict {
            reason: format!(
                "the input of model '{model}' has several columns named '{wanted}'; select the one that is meant"
            ),
        }),
        (None, _) => {
            let names = || columns.iter().map(|c| c.name.as_str());
            Err(SqlError::MissingFeature {
                model: model.into(),
                feature: wanted.into(),
                hint: did_you_mean(wanted, names()),
                known: listed(names()),
            })
        }
    }
}

/// Refuses text for a number and numbers for text; what else there is the model's encoder decides.
fn check(model: &str, trained: &str, encoding: &Encoding, column: &Candidate) -> Result<()> {
    let refused = |hint: &str| {
        Err(SqlError::FeatureType {
            model: model.into(),
            column: column.name.clone(),
            found: column.data_type.to_string(),
            expected: trained.into(),
            hint: hint.into(),
        })
    };
    match encoding {
        Encoding::Numeric { .. } if is_text(&column.data_type) => {
            refused("give it as a number, for example with CAST(.. AS DOUBLE)")
        }
        Encoding::OneHot { .. } if column.data_type.is_numeric() && trained != "Boolean" => {
            refused("give it as text, for example with CAST(.. AS VARCHAR)")
        }
        _ => Ok(()),
    }
}

/// Strings, plain or as a dictionary.
fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}
