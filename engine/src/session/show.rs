//! SHOW and DESCRIBE of models, as rows with fixed columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use sinew_ml::device::{DeviceInfo, DeviceRates};
use sinew_ml::families::FAMILIES;
use sinew_ml::family::Task;
use sinew_ml::model::Model;
use sinew_ml::params::ParamSpec;
use sinew_ml::transform::Encoding;

use super::trainings::Training;
use crate::error::{Result, SinewError};
use crate::warehouse::{ModelInfo, VersionInfo};

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).map_err(|e| SinewError::Internal(e.to_string()))
}

fn texts<T: AsRef<str>>(values: impl IntoIterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.into_iter().collect::<StringArray>())
}

fn ints(values: impl IntoIterator<Item = u64>) -> ArrayRef {
    maybe_ints(values.into_iter().map(Some))
}

fn maybe_ints(values: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.into_iter().map(|v| v.map(|v| v as i64)).collect::<Int64Array>())
}

fn times<'a>(versions: impl IntoIterator<Item = Option<&'a VersionInfo>>) -> ArrayRef {
    let times: TimestampMillisecondArray = versions.into_iter().map(|v| v.map(|v| v.created_ms)).collect();
    Arc::new(times.with_timezone("UTC"))
}

fn default(model: &ModelInfo) -> Option<&VersionInfo> {
    model.versions.iter().find(|v| v.version == model.default)
}

/// `SHOW MODELS [LIKE ..]`: one row for each model, about its default version; NULL beside the name of a
/// model whose records are damaged.
pub fn models(all: &[ModelInfo], like: Option<&str>) -> Result<RecordBatch> {
    let wanted = |name: &str| like.is_none_or(|pattern| matches(name, pattern));
    let found: Vec<(&ModelInfo, Option<&VersionInfo>)> =
        all.iter().filter(|m| wanted(&m.name)).map(|m| (m, default(m))).collect();
    let version = || found.iter().map(|(_, v)| *v);
    let count = |m: &ModelInfo| (!m.versions.is_empty()).then_some(m.versions.len() as u64);
    batch(vec![
        ("name", texts(found.iter().map(|(m, _)| Some(&m.name)))),
        ("version", maybe_ints(version().map(|v| v.map(|v| v.version)))),
        ("versions", maybe_ints(found.iter().map(|(m, _)| count(m)))),
        ("family", texts(version().map(|v| v.map(|v| &v.family)))),
        ("label", texts(version().map(|v| v.and_then(|v| v.label.as_ref())))),
        ("rows", maybe_ints(version().map(|v| v.map(|v| v.rows)))),
        ("eval_rows", maybe_ints(version().map(|v| v.map(|v| v.eval_rows)))),
        ("created_at", times(version())),
    ])
}

/// `SHOW VERSIONS OF MODEL`: one row for each version, oldest first.
pub fn versions(model: &ModelInfo) -> Result<RecordBatch> {
    let all = &model.versions;
    let aliases = |version: u64| {
        let names: Vec<&str> = model.aliases.iter().filter(|(_, v)| **v == version).map(|(n, _)| n.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    batch(vec![
        ("version", ints(all.iter().map(|v| v.version))),
        ("is_default", Arc::new(all.iter().map(|v| Some(v.version == model.default)).collect::<BooleanArray>())),
        ("aliases", texts(all.iter().map(|v| aliases(v.version)))),
        ("family", texts(all.iter().map(|v| Some(&v.family)))),
        ("label", texts(all.iter().map(|v| v.label.as_ref()))),
        ("rows", ints(all.iter().map(|v| v.rows))),
        ("eval_rows", ints(all.iter().map(|v| v.eval_rows))),
        ("iterations", ints(all.iter().map(|v| u64::from(v.iterations)))),
        ("converged", Arc::new(all.iter().map(|v| Some(v.converged)).collect::<BooleanArray>())),
        ("metrics", texts(all.iter().map(|v| metrics(&v.metrics)))),
        ("run", texts(all.iter().map(|v| Some(&v.run)))),
        ("created_at", times(all.iter().map(Some))),
    ])
}

/// `name = value, ..`; nothing where there is no metric.
fn metrics(metrics: &[(String, Option<f64>)]) -> Option<String> {
    let shown = metrics.iter().filter_map(|(name, value)| Some(format!("{name} = {}", (*value)?)));
    let shown: Vec<String> = shown.collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// `SHOW MODEL FAMILIES`: one row for each family, its aliases and options a line each.
pub fn families() -> Result<RecordBatch> {
    let option = |spec: &ParamSpec| format!("{} = {}", spec.name, spec.default);
    batch(vec![
        ("name", texts(FAMILIES.iter().map(|f| Some(f.name())))),
        ("aliases", texts(FAMILIES.iter().map(|f| Some(f.aliases().join("\n"))))),
        ("task", texts(FAMILIES.iter().map(|f| Some(task(f.task()))))),
        ("options", texts(FAMILIES.iter().map(|f| Some(f.params().iter().map(option).collect::<Vec<_>>().join("\n"))))),
        ("doc", texts(FAMILIES.iter().map(|f| Some(f.doc())))),
    ])
}

/// `SHOW TRAINING`: one row for each training that runs, the oldest first; no iteration before the first has ended.
pub fn trainings(all: &[Arc<Training>]) -> Result<RecordBatch> {
    let started: TimestampMillisecondArray = all.iter().map(|t| Some(t.started_ms)).collect();
    let iterations: Int64Array = all.iter().map(|t| t.progress().map(|(iteration, _)| iteration)).collect();
    let losses: Float64Array = all.iter().map(|t| t.progress().map(|(_, loss)| loss)).collect();
    batch(vec![
        ("run", texts(all.iter().map(|t| Some(&t.run)))),
        ("model", texts(all.iter().map(|t| Some(&t.model)))),
        ("user", texts(all.iter().map(|t| t.user.as_ref()))),
        ("iteration", Arc::new(iterations)),
        ("loss", Arc::new(losses)),
        ("started_at", Arc::new(started.with_timezone("UTC"))),
        ("statement", texts(all.iter().map(|t| Some(&t.statement)))),
    ])
}

/// `SHOW DEVICES`: one row for each device: the process that has it, what it was measured to do, and what it did.
pub fn devices(all: &[(String, DeviceInfo)]) -> Result<RecordBatch> {
    let gigabytes = |rate: fn(&DeviceRates) -> f64| -> ArrayRef {
        Arc::new(all.iter().map(|(_, d)| d.rates.as_ref().map(|r| rate(r) / 1e9)).collect::<Float64Array>())
    };
    batch(vec![
        ("process", texts(all.iter().map(|(process, _)| Some(process)))),
        ("name", texts(all.iter().map(|(_, d)| Some(&d.name)))),
        ("kind", texts(all.iter().map(|(_, d)| Some(&d.kind)))),
        ("driver", texts(all.iter().map(|(_, d)| Some(&d.driver)))),
        ("memory_bytes", maybe_ints(all.iter().map(|(_, d)| d.memory))),
        ("state", texts(all.iter().map(|(_, d)| Some(&d.state)))),
        ("upload_gb_s", gigabytes(|rates| rates.upload)),
        ("gradient_gb_s", gigabytes(|rates| rates.gradient)),
        ("product_gflop_s", gigabytes(|rates| rates.product)),
        ("folds", ints(all.iter().map(|(_, d)| d.folds))),
        ("fallbacks", ints(all.iter().map(|(_, d)| d.fallbacks))),
        ("uploaded_bytes", ints(all.iter().map(|(_, d)| d.uploaded_bytes))),
        ("resident_bytes", ints(all.iter().map(|(_, d)| d.resident_bytes))),
        ("busy_seconds", Arc::new(all.iter().map(|(_, d)| Some(d.busy_seconds)).collect::<Float64Array>())),
    ])
}

fn task(task: Task) -> &'static str {
    match task {
        Task::Regression => "regression",
        Task::Classification => "classification",
        Task::Clustering => "clustering",
    }
}

/// `SHOW CREATE MODEL`: the statement that trained the version.
pub fn create(name: &str, model: &Model) -> Result<RecordBatch> {
    batch(vec![("name", texts([Some(name)])), ("statement", texts([Some(&model.manifest.statement)]))])
}

/// `DESCRIBE MODEL`: what is known of one version, a property a row.
pub fn describe(name: &str, info: &VersionInfo, model: &Model) -> Result<RecordBatch> {
    let manifest = &model.manifest;
    let mut rows: Vec<(String, Option<String>)> = Vec::new();
    let mut add = |property: &str, value: Option<String>| rows.push((property.to_string(), value));
    let some = |value: &dyn std::fmt::Display| Some(value.to_string());
    add("name", some(&name));
    add("version", some(&info.version));
    add("family", some(&manifest.family));
    add("task", model.task().ok().map(|t| task(t).to_string()));
    let label = manifest.transform.label.as_ref();
    add("label", label.map(|l| format!("{} ({})", l.name, l.data_type)));
    add("classes", label.filter(|l| !l.classes.is_empty()).map(|l| l.classes.join(", ")));
    add("weight", manifest.weight_column.clone());
    for feature in &manifest.transform.features {
        let how = match &feature.encoding {
            Encoding::Numeric { impute } => format!("{}; a missing value becomes {impute}", feature.data_type),
            Encoding::OneHot { categories, null } => {
                let missing = if *null { ", and missing" } else { "" };
                format!("{}; categories {}{missing}", feature.data_type, categories.join(", "))
            }
        };
        add(&format!("feature {}", feature.name), Some(how));
    }
    for (option, value) in manifest.params.iter() {
        add(&format!("option {option}"), some(value));
    }
    add("solver", some(&manifest.solver));
    add("seed", some(&manifest.seed));
    add("iterations", some(&info.iterations));
    add("converged", some(&manifest.converged));
    add("stop_reason", some(&manifest.stop_reason));
    add("rows", some(&manifest.data.rows));
    add("eval_rows", some(&manifest.data.eval_rows));
    add("dropped_rows", some(&manifest.data.dropped_rows));
    for (metric, value) in &manifest.metrics {
        add(&format!("metric {metric}"), value.map(|v| v.to_string()));
    }
    for warning in &manifest.warnings {
        add("warning", some(warning));
    }
    for note in &manifest.notes {
        add("note", some(note));
    }
    add("statement", some(&manifest.statement));
    add("query", some(&manifest.query));
    add("run", some(&manifest.run));
    add("engine_version", some(&manifest.engine_version));
    add("device", Some(if manifest.gpus.is_empty() { "cpu".into() } else { manifest.gpus.join(", ") }));
    if let Some(processor) = &manifest.processor {
        add("processor", some(processor));
    }
    batch(vec![
        ("property", texts(rows.iter().map(|(p, _)| Some(p)))),
        ("value", texts(rows.iter().map(|(_, v)| v.as_ref()))),
    ])
}

/// SQL's LIKE: `%` is any text, `_` any character.
pub(crate) fn matches(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    // `reach[i]`: the pattern so far matches the first i characters.
    let mut reach = vec![false; text.len() + 1];
    reach[0] = true;
    for p in pattern {
        let mut next = vec![false; text.len() + 1];
        match p {
            '%' => {
                let first = reach.iter().position(|r| *r).unwrap_or(next.len());
                next[first..].fill(true);
            }
            _ => {
                for i in 0..text.len() {
                    next[i + 1] = reach[i] && (p == '_' || p == text[i]);
                }
            }
        }
        reach = next;
    }
    reach[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_knows_its_two_signs() {
        for (text, pattern) in [("churn", "c%"), ("churn", "%"), ("churn", "ch_rn"), ("", "%"), ("a%b", "a%b")] {
            assert!(matches(text, pattern), "{text} LIKE {pattern}");
        }
        for (text, pattern) in [("churn", "c"), ("churn", "C%"), ("churn", "churn_"), ("", "_"), ("ab", "%c%")] {
            assert!(!matches(text, pattern), "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn columns_stay_without_models() -> Result<()> {
        let empty = models(&[], None)?;
        assert_eq!((empty.num_rows(), empty.num_columns()), (0, 8));
        assert_eq!(families()?.num_rows(), FAMILIES.len());
        Ok(())
    }
}
