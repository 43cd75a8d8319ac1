//! The functions `ML.F`: which there are, and which only have their name yet.

use sinew_ml::error::did_you_mean;

use crate::ast::NotYet;
use crate::error::{Position, Result, SqlError};

/// Relations over a model that can be used in FROM.
pub(crate) const RELATIONS: &[&str] = &["PREDICT", "EVALUATE", "WEIGHTS", "TRAINING_INFO"];

const EVALUATION: &str = "ML.EVALUATE gives the metrics, ML.PREDICT each row's prediction";
const INSPECTION: &str = "ML.WEIGHTS and DESCRIBE MODEL show what a model has learnt";
const STATISTICS: &str = "compute the statistic with aggregates such as avg, stddev, corr and approx_percentile_cont";
const TRANSFORMS: &str = "compute the column in the training query; string columns are one-hot encoded by themselves";
const SCORING: &str = "ML.PREDICT scores rows";

/// Names that are part of the language and not of this version, with what to use instead.
const LATER: &[(&str, &str)] = &[
    ("CONFUSION_MATRIX", "count the pairs of label and prediction with GROUP BY over ML.PREDICT"),
    ("ROC_CURVE", EVALUATION),
    ("PR_CURVE", EVALUATION),
    ("ADVANCED_WEIGHTS", INSPECTION),
    ("FEATURE_INFO", INSPECTION),
    ("FEATURE_IMPORTANCE", INSPECTION),
    ("GLOBAL_EXPLAIN", INSPECTION),
    ("CENTROIDS", INSPECTION),
    ("PRINCIPAL_COMPONENTS", INSPECTION),
    ("PRINCIPAL_COMPONENT_INFO", INSPECTION),
    ("TRIAL_INFO", INSPECTION),
    ("EXPLAIN_PREDICT", SCORING),
    ("RECOMMEND", SCORING),
    ("FORECAST", SCORING),
    ("DETECT_ANOMALIES", SCORING),
    ("DESCRIBE_DATA", STATISTICS),
    ("CORR", STATISTICS),
    ("CHI2_TEST", STATISTICS),
    ("ANOVA", STATISTICS),
    ("KS_TEST", STATISTICS),
    ("OUTLIERS", STATISTICS),
    ("HISTOGRAM", STATISTICS),
    ("TRANSFORM", TRANSFORMS),
    ("STANDARD_SCALER", TRANSFORMS),
    ("MIN_MAX_SCALER", TRANSFORMS),
    ("MAX_ABS_SCALER", TRANSFORMS),
    ("ROBUST_SCALER", TRANSFORMS),
    ("NORMALIZER", TRANSFORMS),
    ("IMPUTER", TRANSFORMS),
    ("ONE_HOT_ENCODER", TRANSFORMS),
    ("LABEL_ENCODER", TRANSFORMS),
    ("BUCKETIZE", TRANSFORMS),
    ("QUANTILE_BUCKETIZE", TRANSFORMS),
    ("HASH_BUCKETIZE", TRANSFORMS),
    ("POLYNOMIAL_EXPAND", TRANSFORMS),
    ("FEATURE_CROSS", TRANSFORMS),
    ("NGRAMS", TRANSFORMS),
];

/// The function's canonical name, or the refusal of one that is not there yet.
///
/// # Errors
/// When the language has no such function; the text names the nearest.
pub(crate) fn resolve(name: &str, position: Position) -> Result<Result<&'static str, NotYet>> {
    if let Some(known) = RELATIONS.iter().find(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(Ok(known));
    }
    if let Some((known, hint)) = LATER.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Ok(Err(NotYet::new(format!("ML.{known}"), *hint)));
    }
    let all = RELATIONS.iter().copied().chain(LATER.iter().map(|(known, _)| *known));
    Err(SqlError::UnknownFunction {
        name: format!("ML.{name}"),
        hint: did_you_mean(name, all).replace("mean '", "mean 'ML."),
        known: RELATIONS.iter().map(|known| format!("ML.{known}")).collect::<Vec<_>>().join(", "),
        position,
    })
}
