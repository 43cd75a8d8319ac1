//! Small models for tests.
#![allow(clippy::unwrap_used)]

use super::{DataSummary, FORMAT, IterationRecord, Manifest, Model};
use crate::family::{Tensor, Weights};
use crate::params::{ParamValue, Params};
use crate::split::SplitSpec;
use crate::transform::{Encoding, FittedFeature, FittedLabel, FittedTransform, OnMissing};

/// A numeric feature.
pub(crate) fn number(name: &str, impute: f64) -> FittedFeature {
    FittedFeature { name: name.into(), data_type: "Float64".into(), encoding: Encoding::Numeric { impute } }
}

/// A text feature.
pub(crate) fn text(name: &str, categories: &[&str], null: bool) -> FittedFeature {
    let categories = categories.iter().map(|c| c.to_string()).collect();
    FittedFeature { name: name.into(), data_type: "Utf8".into(), encoding: Encoding::OneHot { categories, null } }
}

/// A label.
pub(crate) fn label(name: &str, data_type: &str, classes: &[&str]) -> FittedLabel {
    FittedLabel {
        name: name.into(),
        data_type: data_type.into(),
        classes: classes.iter().map(|c| c.to_string()).collect(),
    }
}

/// A model with a manifest that uses every kind of value.
pub(crate) fn model(run: &str, features: Vec<FittedFeature>, label: Option<FittedLabel>) -> Model {
    let given = [("tol".to_string(), ParamValue::Float(1e-6))];
    static SPECS: &[crate::params::ParamSpec] = &[
        crate::params::ParamSpec {
            name: "tol",
            aliases: &[],
            kind: crate::params::ParamKind::Float(0.0, f64::MAX),
            default: ParamValue::Float(1.0),
            doc: "",
        },
        crate::params::ParamSpec {
            name: "max_iter",
            aliases: &[],
            kind: crate::params::ParamKind::Int(0, i64::MAX),
            default: ParamValue::Int(100),
            doc: "",
        },
        crate::params::ParamSpec {
            name: "seed",
            aliases: &[],
            kind: crate::params::ParamKind::Int(0, i64::MAX),
            default: ParamValue::Null,
            doc: "",
        },
        crate::params::ParamSpec {
            name: "solver",
            aliases: &[],
            kind: crate::params::ParamKind::Text(&["auto"]),
            default: ParamValue::text("auto"),
            doc: "",
        },
        crate::params::ParamSpec {
            name: "standardization",
            aliases: &[],
            kind: crate::params::ParamKind::Bool,
            default: ParamValue::Bool(true),
            doc: "",
        },
        crate::params::ParamSpec {
            name: "whole",
            aliases: &[],
            kind: crate::params::ParamKind::Float(0.0, f64::MAX),
            default: ParamValue::Float(3.0),
            doc: "",
        },
    ];
    let iteration = IterationRecord {
        iteration: 3,
        loss: 0.1 + 0.2,
        eval_loss: None,
        learning_rate: 1.0,
        gradient_norm: 5e-324,
        duration_ms: 1.25,
    };
    let mut weights = Weights::new();
    weights.insert("intercept".into(), Tensor { shape: vec![1], data: vec![-0.0] });
    weights.insert("coefficients".into(), Tensor { shape: vec![1, 2], data: vec![f64::MIN_POSITIVE, 1.0 / 3.0] });
    Model {
        manifest: Manifest {
            format: FORMAT,
            run: run.into(),
            engine_version: "0.1.0".into(),
            statement: "TRAIN MODEL \"m\" ..\n\u{1F980}".into(),
            query: "SELECT 1".into(),
            family: "test".into(),
            params: Params::resolve("test", SPECS, &given).unwrap(),
            solver: "none".into(),
            seed: u64::MAX,
            split: SplitSpec::Random { fraction: 0.2, seed: Some(7) },
            transform: FittedTransform { features, label, on_missing: OnMissing::Impute },
            weight_column: None,
            data: DataSummary { rows: 10, eval_rows: 2, dropped_rows: 1, fingerprint: "abc".into() },
            iterations: vec![iteration],
            converged: true,
            stop_reason: "the gradient is small".into(),
            metrics: vec![("roc_auc".into(), None), ("log_loss".into(), Some(0.123_456_789_012_345_68))],
            processor: Some("avx2".into()),
            device: Some(crate::device::Device::Named("H200".into())),
            gpus: vec![],
            warnings: vec!["column 'x' is constant".into()],
            notes: vec![],
        },
        weights,
    }
}
