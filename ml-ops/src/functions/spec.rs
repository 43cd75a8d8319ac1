//! Which function of a model: its kind and options as plain data, for the codec and for equality.

use std::fmt;
use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use serde::{Deserialize, Serialize};

use super::evaluate::Evaluate;
use super::scalar::ScalarFunction;
use super::score::Scorer;
use crate::device::Device;
use crate::error::{MlError, Result};
use crate::family::Task;
use crate::model::Model;

/// A function of a model, without the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelFunction {
    /// [`super::predict`].
    Predict {
        /// The positive class is predicted above this probability.
        threshold: Option<f64>,
    },
    /// [`super::predict_label`].
    PredictLabel {
        /// The positive class is predicted above this probability.
        threshold: Option<f64>,
    },
    /// [`super::predict_proba`].
    PredictProba {
        /// A class as text.
        class: Option<String>,
    },
    /// [`super::evaluate`].
    Evaluate {
        /// The positive class is predicted above this probability.
        threshold: Option<f64>,
    },
    /// The raw scores of a row as a list, NULL where the row does not count.
    Scores,
    /// [`super::evaluate`] over the label (not for clusterings) and the list of [`Self::Scores`].
    EvaluateScores {
        /// The positive class is predicted above this probability.
        threshold: Option<f64>,
    },
}

/// A function of a model as a statement calls it, without the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Called {
    /// Which function.
    pub function: ModelFunction,
    /// The device that the call asks for, if it does.
    pub device: Option<Device>,
}

impl From<ModelFunction> for Called {
    fn from(function: ModelFunction) -> Self {
        Self { function, device: None }
    }
}

impl Called {
    /// The scalar function that carries `model`.
    ///
    /// # Errors
    /// When the options do not suit the model, or this is an aggregate.
    pub fn scalar(self, model: &Arc<Model>) -> Result<Arc<ScalarUDF>> {
        let scorer = Arc::new(Scorer::new(Arc::clone(model))?);
        Ok(Arc::new(ScalarUDF::new_from_impl(ScalarFunction::new(self, scorer)?)))
    }

    /// The aggregate that carries `model`.
    ///
    /// # Errors
    /// When the options do not suit the model, or this is no aggregate.
    pub fn aggregate(self, model: &Arc<Model>) -> Result<Arc<AggregateUDF>> {
        let scorer = Arc::new(Scorer::new(Arc::clone(model))?);
        Ok(Arc::new(AggregateUDF::new_from_impl(Evaluate::new(self, scorer)?)))
    }

    /// The name under which the function of this model appears in plans. Different models, options and devices have
    /// different names.
    pub(super) fn name(&self, scorer: &Scorer) -> String {
        let device = self.device.as_ref().map(|device| format!(", on {device}")).unwrap_or_default();
        format!("{}[{}{}{device}]", self.function.kind(), scorer.model().manifest.run, self.function)
    }
}

impl ModelFunction {
    /// The function's name without the model.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Predict { .. } => "predict",
            Self::PredictLabel { .. } => "predict_label",
            Self::PredictProba { .. } => "predict_proba",
            Self::Evaluate { .. } => "evaluate",
            Self::Scores => "scores",
            Self::EvaluateScores { .. } => "evaluate_scores",
        }
    }

    /// The scalar function that carries `model`.
    ///
    /// # Errors
    /// When the options do not suit the model, or this is an aggregate.
    pub fn scalar(self, model: &Arc<Model>) -> Result<Arc<ScalarUDF>> {
        Called::from(self).scalar(model)
    }

    /// The aggregate that carries `model`.
    ///
    /// # Errors
    /// When the options do not suit the model, or this is no aggregate.
    pub fn aggregate(self, model: &Arc<Model>) -> Result<Arc<AggregateUDF>> {
        Called::from(self).aggregate(model)
    }

    /// The threshold to use.
    ///
    /// # Errors
    /// When one is given that is outside [0, 1], or the model does not have two classes.
    pub(super) fn threshold(&self, scorer: &Scorer) -> Result<f64> {
        let (Self::Predict { threshold }
        | Self::PredictLabel { threshold }
        | Self::Evaluate { threshold }
        | Self::EvaluateScores { threshold }) = self
        else {
            return Ok(0.5);
        };
        match threshold {
            None => Ok(0.5),
            Some(given) if !(0.0..=1.0).contains(given) => Err(MlError::BadOption {
                name: "threshold".into(),
                value: given.to_string(),
                expected: "a number from 0 to 1".into(),
            }),
            Some(given) if scorer.task() == Task::Classification && scorer.classes().len() == 2 => Ok(*given),
            Some(_) => Err(MlError::Conflict {
                reason: format!(
                    "a threshold needs a model of two classes; this one is a {:?} model with {}; leave it out",
                    scorer.task(),
                    scorer.classes().len()
                )
                .to_lowercase(),
            }),
        }
    }

    /// The index of the class whose probability is wanted.
    ///
    /// # Errors
    /// When the model is no classifier, or has no such class, or none is named and there are more than two.
    pub(super) fn class(&self, scorer: &Scorer) -> Result<usize> {
        let Self::PredictProba { class } = self else { return Ok(0) };
        if scorer.task() != Task::Classification {
            return Err(MlError::Mismatch {
                reason: format!(
                    "a {} model has no probabilities; use PREDICT instead of PREDICT_PROBA",
                    scorer.model().manifest.family
                ),
            });
        }
        let classes = scorer.classes();
        let known = || classes.iter().map(|c| format!("'{c}'")).collect::<Vec<_>>().join(", ");
        match class {
            None if classes.len() == 2 => Ok(1),
            None => Err(MlError::Mismatch {
                reason: format!("the model has {} classes: name one of {}", classes.len(), known()),
            }),
            Some(class) => classes.iter().position(|c| c == class).ok_or_else(|| MlError::Mismatch {
                reason: format!("the model has no class '{class}'; its classes are {}", known()),
            }),
        }
    }
}

impl fmt::Display for ModelFunction {
    /// The options, each after a comma.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predict { threshold: Some(value) }
            | Self::PredictLabel { threshold: Some(value) }
            | Self::Evaluate { threshold: Some(value) }
            | Self::EvaluateScores { threshold: Some(value) } => write!(f, ", {value}"),
            Self::PredictProba { class: Some(class) } => write!(f, ", {class}"),
            _ => Ok(()),
        }
    }
}
