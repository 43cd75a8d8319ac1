//! Logistic regression, binomial and multinomial, with an elastic-net penalty.

use super::options;
use super::{named, tensor, values};
use crate::error::{MlError, Result};
use crate::family::{Family, Learner, Setup, Task, Weights};
use crate::fold::{Kernel, Layout, Loss};
use crate::objective::Objective;
use crate::objectives::{Deviation, Glm, Scaling, Softmax};
use crate::optimizer::Outcome;
use crate::params::{ParamKind, ParamSpec, ParamValue, Params};

/// Tensors: binomial `coefficients` `[P]` and `intercept` `[1]`, of the second class's log-odds;
/// multinomial `[K, P]` and `[K]`.
#[derive(Debug)]
pub(super) struct LogisticRegression;

const FAMILY: ParamSpec = ParamSpec {
    name: "family",
    aliases: &[],
    kind: ParamKind::Text(&["auto", "binomial", "multinomial"]),
    default: ParamValue::text("auto"),
    doc: "binomial has one row of coefficients, multinomial (softmax) one for each class; auto is binomial for two classes.",
};

const THRESHOLD: ParamSpec = ParamSpec {
    name: "threshold",
    aliases: &[],
    kind: ParamKind::Float(0.0, 1.0),
    default: ParamValue::Float(0.5),
    doc: "With two classes, the second is predicted when its probability is above this.",
};

static PARAMS: &[ParamSpec] = &[
    options::REG_PARAM,
    options::ELASTIC_NET_PARAM,
    options::MAX_ITER,
    options::TOL,
    options::FIT_INTERCEPT,
    options::STANDARDIZATION,
    options::SOLVER,
    options::LEARNING_RATE,
    options::MINI_BATCH_FRACTION,
    FAMILY,
    THRESHOLD,
    options::SEED,
    options::ON_MISSING,
];

/// A class without any weight among the training rows counts as this part of all.
const UNSEEN: f64 = 1e-9;

fn scaling(setup: &Setup) -> Result<Scaling> {
    Scaling::new(setup, setup.params.flag("fit_intercept"), Deviation::Unbiased)
}

fn is_binomial(setup: &Setup) -> Result<bool> {
    match (setup.params.text("family"), setup.classes) {
        ("multinomial", _) => Ok(false),
        ("binomial", 2) => Ok(true),
        ("binomial", n) => Err(MlError::Conflict {
            reason: format!(
                "family = 'binomial' needs a label with two classes, and this one has {n}; use 'multinomial'"
            ),
        }),
        (_, n) => Ok(n == 2),
    }
}

/// Logarithms of the classes' weights, centred.
fn log_counts(class_weight: &[f64]) -> Vec<f64> {
    let total: f64 = class_weight.iter().sum();
    let logs: Vec<f64> = class_weight.iter().map(|&w| libm::log((w / total).max(UNSEEN))).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    logs.iter().map(|l| l - mean).collect()
}

/// Takes the mean over rows off each column of `[rows, width]`.
fn center(matrix: &mut [f64], width: usize) {
    let rows = matrix.len() / width.max(1);
    for j in 0..width {
        let mean = (0..rows).map(|k| matrix[k * width + j]).sum::<f64>() / rows as f64;
        (0..rows).for_each(|k| matrix[k * width + j] -= mean);
    }
}

impl Family for LogisticRegression {
    fn name(&self) -> &'static str {
        "logistic_regression"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["logistic_reg", "LogisticRegression"]
    }

    fn task(&self) -> Task {
        Task::Classification
    }

    fn doc(&self) -> &'static str {
        "Logistic regression with an elastic-net penalty, for two classes or more (softmax): minimises 1/W sum w \
         logloss + lambda [alpha sum t_j |b_j| + (1-alpha)/2 sum t_j^2 b_j^2], with t_j the feature's standard \
         deviation under standardization and 1 otherwise."
    }

    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }

    fn learner(&self, setup: &Setup) -> Result<Learner> {
        let seen = setup.moments.class_weight.iter().filter(|w| **w > 0.0).count();
        if seen < 2 {
            return Err(MlError::Data {
                reason: format!(
                    "logistic regression needs rows of at least two classes, and the training rows have {seen}; look \
                     at the label column, the WHERE clause and the SPLIT clause"
                ),
            });
        }
        let (params, width, scaling) = (&setup.params, setup.layout.width(), scaling(setup)?);
        let lambda = params.float("reg_param").unwrap_or(0.0);
        let alpha = params.float("elastic_net_param").unwrap_or(0.0);
        let penalty = scaling.penalty(lambda, alpha, params.flag("standardization"), 1.0);
        let logs = log_counts(&setup.moments.class_weight);
        let (objective, refresh): (Box<dyn Objective>, _) = if is_binomial(setup)? {
            let cost = scaling.curvature_cost();
            (Box::new(Glm::new(Loss::Logistic, scaling, penalty, logs[1] - logs[0])), Some(cost))
        } else {
            (Box::new(Softmax::new(scaling, &penalty, &logs)), None)
        };
        let (optimizer, solver) = options::iterative(params, objective.as_ref(), width, refresh, setup.seed)?;
        Ok(Learner { objective, optimizer, solver })
    }

    fn finish(&self, setup: &Setup, outcome: &Outcome) -> Result<Weights> {
        let (scaling, width) = (scaling(setup)?, setup.layout.width());
        if is_binomial(setup)? {
            let (intercept, coefficients) = scaling.raw(&outcome.at)?;
            return [named("coefficients", vec![width], coefficients), named("intercept", vec![1], vec![intercept])]
                .into_iter()
                .collect();
        }
        let (mut intercepts, mut coefficients) = (Vec::new(), Vec::new());
        for theta in outcome.at.chunks_exact(scaling.parameters().max(1)) {
            let (intercept, row) = scaling.raw(theta)?;
            intercepts.push(intercept);
            coefficients.extend(row);
        }
        if setup.params.float("reg_param").unwrap_or(0.0) == 0.0 {
            center(&mut coefficients, width);
        }
        center(&mut intercepts, 1);
        let classes = intercepts.len();
        [named("coefficients", vec![classes, width], coefficients), named("intercept", vec![classes], intercepts)]
            .into_iter()
            .collect()
    }

    fn scorer(&self, _params: &Params, layout: &Layout, weights: &Weights) -> Result<Kernel> {
        let intercepts = tensor(weights, "intercept", 1)?.data.clone();
        if weights.get("coefficients").is_some_and(|t| t.shape.len() == 2) {
            let tensor = tensor(weights, "coefficients", 2)?;
            if tensor.shape[0] != intercepts.len() {
                return Err(MlError::Damaged { reason: "coefficients and intercept differ in classes".into() });
            }
            return Ok(Kernel::Softmax { intercepts, weights: values(tensor, "coefficients", layout.width())? });
        }
        let coefficients = values(tensor(weights, "coefficients", 1)?, "coefficients", layout.width())?;
        match intercepts[..] {
            [intercept] => Ok(Kernel::Linear { loss: Loss::Logistic, intercept, weights: coefficients }),
            _ => Err(MlError::Damaged { reason: format!("intercept has {} values, not 1", intercepts.len()) }),
        }
    }
}
