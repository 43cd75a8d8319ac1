//! Linear regression: least squares with an elastic-net penalty.

use super::options::{self, Solver};
use super::{named, tensor, values};
use crate::error::{MlError, Result};
use crate::family::{Family, Learner, Setup, Task, Weights};
use crate::fold::{Kernel, Layout, Loss};
use crate::objectives::{Deviation, Glm, LeastSquares, Scaling};
use crate::optimizer::Outcome;
use crate::optimizers::NormalEquations;
use crate::params::{ParamKind, ParamSpec, ParamValue, Params};

/// Tensors: `coefficients` `[P]`, `intercept` `[1]`.
#[derive(Debug)]
pub(super) struct LinearRegression;

const LOSS: ParamSpec = ParamSpec {
    name: "loss",
    aliases: &[],
    kind: ParamKind::Text(&["squared_error", "squarederror", "huber"]),
    default: ParamValue::text("squared_error"),
    doc: "The loss; only squared_error is available in this version.",
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
    LOSS,
    options::SEED,
    options::ON_MISSING,
];

fn scaling(setup: &Setup) -> Result<Scaling> {
    Scaling::new(setup, setup.params.flag("fit_intercept"), Deviation::Population)
}

/// The divisor of the L2 penalty: the label's standard deviation. For a constant label it is 1 with an
/// intercept (every coefficient is 0 whatever it is), else the label's magnitude, as MLlib has it.
fn label_deviation(setup: &Setup) -> Result<f64> {
    let (low, high) = setup.bounds.label;
    if !crate::objectives::is_constant(setup.moments.label_variance, low, high) {
        return Ok(setup.moments.label_variance.sqrt());
    }
    let params = &setup.params;
    if params.flag("fit_intercept") {
        return Ok(1.0);
    }
    if params.float("reg_param").unwrap_or(0.0) > 0.0 && params.flag("standardization") {
        return Err(MlError::Data {
            reason: "the label is constant: its standard deviation, which scales the penalty, is 0; use \
                     fit_intercept = true, reg_param = 0 or standardization = false"
                .into(),
        });
    }
    let mean = setup.moments.label_mean.abs();
    Ok(if mean > 0.0 { mean } else { 1.0 })
}

impl Family for LinearRegression {
    fn name(&self) -> &'static str {
        "linear_regression"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["linear_reg", "LinearRegression"]
    }

    fn task(&self) -> Task {
        Task::Regression
    }

    fn doc(&self) -> &'static str {
        "Linear regression with an elastic-net penalty: minimises 1/(2W) sum w (y - b0 - x.b)^2 + lambda [alpha sum \
         t_j |b_j| + (1-alpha)/2 sum t_j^2 b_j^2 / s_y], with t_j the feature's standard deviation under \
         standardization and 1 otherwise, and s_y the label's."
    }

    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }

    fn learner(&self, setup: &Setup) -> Result<Learner> {
        let params = &setup.params;
        if params.text("loss") == "huber" {
            return Err(MlError::NotAvailable {
                what: "loss = 'huber'".into(),
                hint: "use loss = 'squared_error'".into(),
            });
        }
        let scaling = scaling(setup)?;
        let lambda = params.float("reg_param").unwrap_or(0.0);
        let alpha = params.float("elastic_net_param").unwrap_or(0.0);
        let penalty = scaling.penalty(lambda, alpha, params.flag("standardization"), label_deviation(setup)?);
        let width = setup.layout.width();
        let glm = Glm::new(Loss::Squared, scaling, penalty, setup.moments.label_mean);
        let solver = Solver::of(params);
        if solver == Solver::Normal || (solver == Solver::Auto && width <= options::MATRIX_WIDTH) {
            options::check_matrix(width, "normal")?;
            let objective: Box<dyn crate::objective::Objective> = Box::new(LeastSquares::new(glm));
            let optimizer = Box::new(NormalEquations::new(objective.start(), &objective.penalty().l1));
            return Ok(Learner { objective, optimizer, solver: "normal" });
        }
        let (optimizer, solver) = options::iterative(params, &glm, width, None, setup.seed)?;
        Ok(Learner { objective: Box::new(glm), optimizer, solver })
    }

    fn finish(&self, setup: &Setup, outcome: &Outcome) -> Result<Weights> {
        let (intercept, coefficients) = scaling(setup)?.raw(&outcome.at)?;
        [named("coefficients", vec![coefficients.len()], coefficients), named("intercept", vec![1], vec![intercept])]
            .into_iter()
            .collect()
    }

    fn scorer(&self, _params: &Params, layout: &Layout, weights: &Weights) -> Result<Kernel> {
        let coefficients = values(tensor(weights, "coefficients", 1)?, "coefficients", layout.width())?;
        let intercept = values(tensor(weights, "intercept", 1)?, "intercept", 1)?;
        Ok(Kernel::Linear { loss: Loss::Squared, intercept: intercept[0], weights: coefficients })
    }
}
