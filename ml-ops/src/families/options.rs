//! Options that several families share, and the choice of a solver.

use crate::error::{MlError, Result};
use crate::objective::Objective;
use crate::optimizer::Optimizer;
use crate::optimizers::{Descent, Method, Rule, Stochastic, Stopping};
use crate::params::{ParamKind, ParamSpec, ParamValue, Params};

pub(super) const REG_PARAM: ParamSpec = ParamSpec {
    name: "reg_param",
    aliases: &["regParam"],
    kind: ParamKind::Float(0.0, f64::MAX),
    default: ParamValue::Float(0.0),
    doc: "Strength of the penalty on coefficients, lambda; BigQuery's l1_reg and l2_reg set it with elastic_net_param.",
};

pub(super) const ELASTIC_NET_PARAM: ParamSpec = ParamSpec {
    name: "elastic_net_param",
    aliases: &["elasticNetParam"],
    kind: ParamKind::Float(0.0, 1.0),
    default: ParamValue::Float(0.0),
    doc: "Part of the penalty that is L1, alpha: 0 is ridge, 1 is lasso.",
};

pub(super) const MAX_ITER: ParamSpec = ParamSpec {
    name: "max_iter",
    aliases: &["maxIter", "max_iterations"],
    kind: ParamKind::Int(0, 1_000_000),
    default: ParamValue::Int(100),
    doc: "Largest number of iterations; a run that reaches it is reported as not converged.",
};

pub(super) const TOL: ParamSpec = ParamSpec {
    name: "tol",
    aliases: &["min_rel_progress"],
    kind: ParamKind::Float(0.0, 1.0),
    default: ParamValue::Float(1e-6),
    doc: "Training stops when the largest entry of the gradient in standardised coordinates is at most tol * max(1, |objective|).",
};

pub(super) const FIT_INTERCEPT: ParamSpec = ParamSpec {
    name: "fit_intercept",
    aliases: &["fitIntercept"],
    kind: ParamKind::Bool,
    default: ParamValue::Bool(true),
    doc: "Whether there is an intercept, which is never penalised.",
};

pub(super) const STANDARDIZATION: ParamSpec = ParamSpec {
    name: "standardization",
    aliases: &[],
    kind: ParamKind::Bool,
    default: ParamValue::Bool(true),
    doc: "Whether the penalty is on coefficients of features divided by their standard deviation; reported coefficients are always those of the columns as they are.",
};

pub(super) const SOLVER: ParamSpec = ParamSpec {
    name: "solver",
    aliases: &["optimize_strategy", "optimizeStrategy"],
    kind: ParamKind::Text(&[
        "auto",
        "normal",
        "newton",
        "lbfgs",
        "l-bfgs",
        "owlqn",
        "gd",
        "sgd",
        "adam",
        "auto_strategy",
        "batch_gradient_descent",
        "normal_equation",
    ]),
    default: ParamValue::text("auto"),
    doc: "How the objective is minimised: auto takes normal (least squares) or newton up to 1024 coordinates and lbfgs above; sgd and adam take fixed steps.",
};

pub(super) const LEARNING_RATE: ParamSpec = ParamSpec {
    name: "learning_rate",
    aliases: &["learningRate", "learn_rate", "learnRate", "ls_init_learn_rate", "step_size", "stepSize"],
    kind: ParamKind::FloatAbove(0.0, f64::MAX),
    default: ParamValue::Null,
    doc: "Step length of gd (the first one), sgd (divided by the square root of the step's number) and adam; by default 1, 0.1 and 0.05.",
};

pub(super) const MINI_BATCH_FRACTION: ParamSpec = ParamSpec {
    name: "mini_batch_fraction",
    aliases: &["miniBatchFraction"],
    kind: ParamKind::FloatAbove(0.0, 1.0),
    default: ParamValue::Float(1.0),
    doc: "Fraction of the rows that each step of sgd or adam uses, chosen by hash.",
};

pub(super) const SEED: ParamSpec = ParamSpec {
    name: "seed",
    aliases: &[],
    kind: ParamKind::Int(0, i64::MAX),
    default: ParamValue::Null,
    doc: "Seed of everything pseudo-random: the split, mini-batches, first centres; by default a fixed one.",
};

pub(super) const ON_MISSING: ParamSpec = ParamSpec {
    name: "on_missing",
    aliases: &["onMissing"],
    kind: ParamKind::Text(&["impute", "skip", "error"]),
    default: ParamValue::text("impute"),
    doc: "What happens to rows with missing values: impute (numbers take the mean, strings are a category of their own), skip the row, or error.",
};

/// The most coordinates for which a matrix of curvature is formed.
pub(super) const MATRIX_WIDTH: usize = 1024;
/// The most parameters for which a whole matrix is kept on the driver (L1 with several classes).
const MODEL_SIZE: usize = 2112;

/// Methods of [`SOLVER`], without synonyms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Solver {
    Auto,
    Normal,
    Newton,
    Lbfgs,
    Gd,
    Sgd,
    Adam,
}

impl Solver {
    pub(super) fn of(params: &Params) -> Self {
        match params.text("solver") {
            "normal" | "normal_equation" => Self::Normal,
            "newton" => Self::Newton,
            "lbfgs" | "l-bfgs" | "owlqn" => Self::Lbfgs,
            "gd" | "batch_gradient_descent" => Self::Gd,
            "sgd" => Self::Sgd,
            "adam" => Self::Adam,
            _ => Self::Auto,
        }
    }
}

/// Refuses a matrix that no driver should hold.
pub(super) fn check_matrix(width: usize, solver: &str) -> Result<()> {
    if width <= MATRIX_WIDTH {
        return Ok(());
    }
    let bytes = |n: usize| (n * n * 8) as u64;
    Err(MlError::TooLarge {
        what: format!("solver = '{solver}' on {width} coordinates"),
        needed: bytes(width),
        limit: bytes(MATRIX_WIDTH),
        hint: "use solver = 'lbfgs'".into(),
    })
}

/// When a run ends.
pub(super) fn stopping(params: &Params) -> Stopping {
    Stopping {
        tol: params.float("tol").unwrap_or(1e-6),
        max_iter: params.int("max_iter").unwrap_or(100).clamp(0, i64::from(u32::MAX)) as u32,
    }
}

/// An iterative method for `objective`, whose features have `width` coordinates. `refresh` is the cost
/// of its curvature, or `None` when that is the same everywhere or a bound.
pub(super) fn iterative(
    params: &Params,
    objective: &dyn Objective,
    width: usize,
    refresh: Option<f64>,
    seed: u64,
) -> Result<(Box<dyn Optimizer>, &'static str)> {
    let (start, penalty, stopping) = (objective.start(), objective.penalty(), stopping(params));
    let l1 = if penalty.has_l1() { penalty.l1.clone() } else { Vec::new() };
    let fits = width <= MATRIX_WIDTH && (l1.is_empty() || start.len() <= MODEL_SIZE);
    let solver = match Solver::of(params) {
        Solver::Auto if fits => Solver::Newton,
        Solver::Auto => Solver::Lbfgs,
        chosen => chosen,
    };
    let rate = |usual: f64| params.float("learning_rate").unwrap_or(usual);
    let fraction = params.float("mini_batch_fraction").unwrap_or(1.0);
    let descent = |method, name| -> (Box<dyn Optimizer>, &'static str) {
        let warm_up = objective.sample_rows().filter(|_| !matches!(method, Method::Steepest { .. }));
        (Box::new(Descent::new(method, start.clone(), &l1, stopping, warm_up)), name)
    };
    let stochastic = |rule, usual, name| -> (Box<dyn Optimizer>, &'static str) {
        let method = Stochastic::new(rule, start.clone(), &l1, rate(usual), fraction, stopping, seed);
        (Box::new(method), name)
    };
    Ok(match solver {
        Solver::Newton => {
            check_matrix(if fits { width } else { width.max(start.len()) }, "newton")?;
            descent(Method::Newton { refresh }, "newton")
        }
        Solver::Gd => descent(Method::Steepest { rate: rate(1.0) }, "gd"),
        Solver::Sgd => stochastic(Rule::Sgd, 0.1, "sgd"),
        Solver::Adam => stochastic(Rule::Adam, 0.05, "adam"),
        Solver::Normal => {
            return Err(MlError::Conflict {
                reason: "solver = 'normal' solves least squares only; use solver = 'auto' or 'newton'".into(),
            });
        }
        Solver::Lbfgs | Solver::Auto => descent(Method::Lbfgs, if l1.is_empty() { "lbfgs" } else { "owlqn" }),
    })
}
