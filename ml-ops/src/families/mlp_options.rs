//! Options of networks, and what they mean for the steps.

use super::options;
use crate::error::{MlError, Result};
use crate::network::{Activation, Rule};
use crate::optimizers::{Pace, Patience, Schedule};
use crate::params::{ParamKind, ParamSpec, ParamValue, Params};

/// Steps of a round, at most, where no option says otherwise.
const ROUND: u32 = 64;

pub(super) static PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "hidden_units",
        aliases: &["hiddenUnits", "hidden_layer_sizes", "hiddenLayerSizes"],
        kind: ParamKind::Ints(1, 65_536),
        default: ParamValue::Ints(std::borrow::Cow::Borrowed(&[100])),
        doc: "Units of each hidden layer; [] is a network without any, which is a linear model.",
    },
    ParamSpec {
        name: "layers",
        aliases: &[],
        kind: ParamKind::Ints(1, 1 << 30),
        default: ParamValue::Null,
        doc: "MLlib's way to say hidden_units, as in [4, 8, 3]: the inputs, the units of each hidden layer, and the outputs. A number is one input, a category is one, and each class is one output; both ends are checked.",
    },
    ParamSpec {
        name: "activation",
        aliases: &["activation_fn", "activationFn"],
        kind: ParamKind::Text(&["relu", "tanh", "sigmoid", "gelu", "logistic"]),
        default: ParamValue::text("relu"),
        doc: "The function after each hidden layer; logistic is sigmoid.",
    },
    ParamSpec {
        name: "dropout",
        aliases: &[],
        kind: ParamKind::Float(0.0, 0.95),
        default: ParamValue::Float(0.0),
        doc: "Probability that a hidden unit is left out of a step; what is left is scaled up.",
    },
    ParamSpec {
        name: "solver",
        aliases: &["optimizer", "optimize_strategy", "optimizeStrategy"],
        kind: ParamKind::Text(&["adam", "adamw", "sgd", "lbfgs", "l-bfgs", "auto"]),
        default: ParamValue::text("adam"),
        doc: "How the objective is minimised: steps of adam, adamw or sgd over mini-batches, or lbfgs over all rows; auto is adam.",
    },
    ParamSpec {
        name: "batch_size",
        aliases: &["batchSize"],
        kind: ParamKind::Int(0, 1 << 30),
        default: ParamValue::Int(256),
        doc: "Rows of a step over all shards together, each of which takes its part; 0 is a step along the gradient of all rows.",
    },
    ParamSpec {
        name: "learn_rate",
        aliases: &["learnRate", "learning_rate", "learningRate", "learning_rate_init", "step_size", "stepSize"],
        kind: ParamKind::FloatAbove(0.0, f64::MAX),
        default: ParamValue::Null,
        doc: "Step length; by default 0.001 for adam and adamw, 0.01 for sgd.",
    },
    ParamSpec {
        name: "learn_rate_schedule",
        aliases: &["learning_rate_schedule", "learnRateSchedule"],
        kind: ParamKind::Text(&["constant", "inverse_scaling", "invscaling", "cosine", "step"]),
        default: ParamValue::text("constant"),
        doc: "How the step length changes with the epochs: inverse_scaling divides it by the square root of the epoch's number, cosine lets it fall to zero at max_iter, step divides it by 10 after half of the epochs and again after three quarters.",
    },
    ParamSpec {
        name: "momentum",
        aliases: &[],
        kind: ParamKind::Float(0.0, 0.9999),
        default: ParamValue::Float(0.9),
        doc: "Momentum of sgd.",
    },
    ParamSpec {
        name: "nesterov",
        aliases: &["nesterovs_momentum"],
        kind: ParamKind::Bool,
        default: ParamValue::Bool(true),
        doc: "Whether sgd has Nesterov's form of momentum.",
    },
    ParamSpec {
        name: "beta_1",
        aliases: &["beta1"],
        kind: ParamKind::Float(0.0, 0.9999),
        default: ParamValue::Float(0.9),
        doc: "How much adam and adamw keep of their running mean of gradients in a step.",
    },
    ParamSpec {
        name: "beta_2",
        aliases: &["beta2"],
        kind: ParamKind::Float(0.0, 0.999_999),
        default: ParamValue::Float(0.999),
        doc: "How much adam and adamw keep of their running mean of squared gradients in a step.",
    },
    ParamSpec {
        name: "epsilon",
        aliases: &[],
        kind: ParamKind::FloatAbove(0.0, 1.0),
        default: ParamValue::Float(1e-8),
        doc: "What adam and adamw add to the root of that mean before they divide by it.",
    },
    ParamSpec {
        name: "weight_decay",
        aliases: &["weightDecay"],
        kind: ParamKind::Float(0.0, f64::MAX),
        default: ParamValue::Float(0.01),
        doc: "Decay of weights in each step of adamw, times the step length.",
    },
    ParamSpec {
        name: "reg_param",
        aliases: &["regParam", "l2_reg"],
        kind: ParamKind::Float(0.0, f64::MAX),
        default: ParamValue::Float(0.0),
        doc: "Strength of the L2 penalty on weights, lambda; biases are never penalised.",
    },
    ParamSpec {
        name: "max_iter",
        aliases: &["maxIter", "max_iterations", "epochs"],
        kind: ParamKind::Int(0, 1_000_000),
        default: ParamValue::Int(200),
        doc: "Largest number of epochs (of iterations for lbfgs).",
    },
    ParamSpec {
        name: "early_stop",
        aliases: &["earlyStop", "early_stopping"],
        kind: ParamKind::Bool,
        default: ParamValue::Bool(true),
        doc: "Whether training stops when the loss of the held-out rows (without any, of the training rows) no longer falls; the weights are then those with the least held-out loss.",
    },
    ParamSpec {
        name: "n_iter_no_change",
        aliases: &["patience"],
        kind: ParamKind::Int(1, 1_000_000),
        default: ParamValue::Int(10),
        doc: "Epochs in a row without progress after which early_stop stops.",
    },
    ParamSpec {
        name: "tol",
        aliases: &["min_rel_progress"],
        kind: ParamKind::Float(0.0, 1.0),
        default: ParamValue::Float(1e-4),
        doc: "What the loss must fall by to count as progress; for lbfgs, the largest entry of the gradient at the end, times max(1, |objective|).",
    },
    ParamSpec {
        name: "standardization",
        aliases: &["standardize_features"],
        kind: ParamKind::Bool,
        default: ParamValue::Bool(true),
        doc: "Whether every column is divided by its own standard deviation; otherwise all are divided by one number, which suits columns of one unit, such as pixels.",
    },
    ParamSpec {
        name: "shards",
        aliases: &[],
        kind: ParamKind::Int(1, 4096),
        default: ParamValue::Int(8),
        doc: "Virtual shards that rows are spread over by their hash: as many processor cores work at the same time, and the model depends on their number alone.",
    },
    ParamSpec {
        name: "local_steps",
        aliases: &["localSteps"],
        kind: ParamKind::Int(1, 1_000_000),
        default: ParamValue::Null,
        doc: "Steps that every shard takes before the mean is taken of where they came to; by default an epoch, at most 64.",
    },
    options::SEED,
    options::ON_MISSING,
];

/// Methods of `solver`, without synonyms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Solver {
    Adam,
    AdamW,
    Sgd,
    Lbfgs,
}

impl Solver {
    pub(super) fn of(params: &Params) -> Self {
        match params.text("solver") {
            "adamw" => Self::AdamW,
            "sgd" => Self::Sgd,
            "lbfgs" | "l-bfgs" => Self::Lbfgs,
            _ => Self::Adam,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Adam => "adam",
            Self::AdamW => "adamw",
            Self::Sgd => "sgd",
            Self::Lbfgs => "lbfgs",
        }
    }
}

pub(super) fn hidden(params: &Params) -> Vec<usize> {
    params.ints("hidden_units").iter().map(|units| *units as usize).collect()
}

pub(super) fn activation(params: &Params) -> Activation {
    match params.text("activation") {
        "tanh" => Activation::Tanh,
        "sigmoid" | "logistic" => Activation::Sigmoid,
        "gelu" => Activation::Gelu,
        _ => Activation::Relu,
    }
}

pub(super) fn shards(params: &Params) -> u32 {
    whole(params, "shards", 8)
}

fn whole(params: &Params, name: &str, usual: u32) -> u32 {
    params.int(name).map_or(usual, |value| value.clamp(0, i64::from(u32::MAX)) as u32)
}

/// The steps over `rows` training rows.
pub(super) fn pace(params: &Params, solver: Solver, rows: u64) -> Pace {
    let number = |name, usual: f64| params.float(name).unwrap_or(usual);
    let adam = |decay| {
        let betas = [number("beta_1", 0.9), number("beta_2", 0.999)];
        Rule::Adam { decay, betas, epsilon: number("epsilon", 1e-8) }
    };
    let (rule, usual) = match solver {
        Solver::Sgd => {
            let momentum = params.float("momentum").unwrap_or(0.0);
            (Rule::Sgd { momentum, nesterov: params.flag("nesterov") }, 0.01)
        }
        Solver::AdamW => (adam(params.float("weight_decay").unwrap_or(0.0)), 0.001),
        Solver::Adam | Solver::Lbfgs => (adam(0.0), 0.001),
    };
    let batch = u64::from(whole(params, "batch_size", 256));
    let per_epoch = if batch == 0 { 0 } else { rows.div_ceil(batch).clamp(1, u64::from(u32::MAX)) as u32 };
    Pace {
        rule,
        rate: params.float("learn_rate").unwrap_or(usual),
        schedule: match params.text("learn_rate_schedule") {
            "inverse_scaling" | "invscaling" => Schedule::InverseScaling,
            "cosine" => Schedule::Cosine,
            "step" => Schedule::Step,
            _ => Schedule::Constant,
        },
        epochs: whole(params, "max_iter", 200),
        per_epoch,
        per_round: whole(params, "local_steps", ROUND).max(1),
    }
}

pub(super) fn patience(params: &Params) -> Patience {
    let epochs = params.flag("early_stop").then(|| whole(params, "n_iter_no_change", 10));
    Patience { epochs, tol: params.float("tol").unwrap_or(0.0) }
}

/// Whether the ends of `layers`, where they are given, are the network's.
///
/// # Errors
/// When they are not.
pub(super) fn check_layers(params: &Params, inputs: usize, outputs: usize) -> Result<()> {
    let layers = params.ints("layers");
    let (Some(first), Some(last)) = (layers.first(), layers.last()) else { return Ok(()) };
    let wrong = |end: &str, said: i64, what: &str, there: usize| {
        let hidden = ParamValue::Ints(hidden(params).iter().map(|units| *units as i64).collect::<Vec<_>>().into());
        Err(MlError::Conflict {
            reason: format!(
                "layers = {} {end} {said}, and {what} {there}; write {there} there, or hidden_units = {hidden} instead",
                ParamValue::Ints(layers.to_vec().into())
            ),
        })
    };
    if *first != inputs as i64 {
        return wrong("begins with", *first, "the number of inputs (one for each number and each category) is", inputs);
    }
    if *last != outputs as i64 {
        return wrong("ends with", *last, "the number of outputs (one for each class, 1 for a number) is", outputs);
    }
    Ok(())
}

/// # Errors
/// When there are no mini-batches to leave units out of.
pub(super) fn dropout(params: &Params, solver: Solver, per_epoch: u32) -> Result<f64> {
    let dropout = params.float("dropout").unwrap_or(0.0);
    if dropout > 0.0 && (solver == Solver::Lbfgs || per_epoch == 0) {
        return Err(MlError::Conflict {
            reason: "dropout needs mini-batches: use solver = 'adam', 'adamw' or 'sgd' with a batch_size above 0, or \
                     dropout = 0"
                .into(),
        });
    }
    Ok(dropout)
}
