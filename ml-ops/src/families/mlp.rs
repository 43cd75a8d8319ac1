//! Multilayer perceptrons: feed-forward networks for classes and for numbers.

use super::mlp_options::{self as options, Solver};
use super::{named, tensor, values};
use crate::error::{MlError, Result};
use crate::family::{Family, Learner, Setup, Task, Weights};
use crate::fold::{Kernel, Layout};
use crate::network::{Head, Network};
use crate::objectives::{Lessons, NetworkLoss, is_constant};
use crate::optimizer::{Optimizer, Outcome};
use crate::optimizers::{Descent, Method, Rounds};
use crate::params::{ParamSpec, Params};

/// Tensors: `shift` and `scale` `[P]`: inputs are `(x - shift) * scale`; and for each layer l from 1
/// `layer_l.weight` `[in, out]` and `layer_l.bias` `[out]`. A regressor's outputs are in the label's own scale.
#[derive(Debug)]
pub(super) struct Mlp {
    task: Task,
}

pub(super) static CLASSIFIER: Mlp = Mlp { task: Task::Classification };
pub(super) static REGRESSOR: Mlp = Mlp { task: Task::Regression };

impl Mlp {
    fn network(&self, setup: &Setup) -> Network {
        let (moments, bounds) = (&setup.moments, &setup.bounds);
        let (mut shift, mut scale) = (moments.mean.clone(), vec![1.0; moments.mean.len()]);
        let numbers =
            || setup.layout.spans().filter(|span| !span.categorical).map(|span| moments.variance[span.offset]);
        // Where columns keep their proportions, it is their mean variance that becomes 1.
        let common = numbers().map(|v| v / numbers().count().max(1) as f64).sum::<f64>();
        let own = setup.params.flag("standardization");
        for span in setup.layout.spans() {
            for j in span.offset..span.offset + span.width {
                if span.categorical {
                    shift[j] = 0.0;
                } else {
                    let constant = is_constant(moments.variance[j], bounds.low[j], bounds.high[j]);
                    let variance = if own { moments.variance[j] } else { common };
                    scale[j] = if constant { 0.0 } else { 1.0 / variance.sqrt() };
                }
            }
        }
        let (outputs, head) = match self.task {
            Task::Classification => (setup.classes, Head::Softmax),
            _ => (1, Head::Squared { center: moments.label_mean, scale: 1.0 / label_deviation(setup) }),
        };
        let hidden = options::hidden(&setup.params);
        Network { shift, scale, hidden, outputs, activation: options::activation(&setup.params), head }
    }
}

/// The label's standard deviation; 1 for a constant one, which is met by the last bias alone.
fn label_deviation(setup: &Setup) -> f64 {
    let (low, high) = setup.bounds.label;
    if is_constant(setup.moments.label_variance, low, high) { 1.0 } else { setup.moments.label_variance.sqrt() }
}

impl Family for Mlp {
    fn name(&self) -> &'static str {
        if self.task == Task::Classification { "mlp_classifier" } else { "mlp_regressor" }
    }

    fn aliases(&self) -> &'static [&'static str] {
        match self.task {
            Task::Classification => &[
                "dnn_classifier",
                "multilayer_perceptron_classifier",
                "MultilayerPerceptronClassifier",
                "MLPClassifier",
            ],
            _ => &["dnn_regressor", "MLPRegressor"],
        }
    }

    fn task(&self) -> Task {
        self.task
    }

    fn doc(&self) -> &'static str {
        match self.task {
            Task::Classification => {
                "Feed-forward network for two classes or more: minimises 1/W sum w (-ln softmax(z)_y) + lambda/2 sum \
                 of squared weights, z the outputs over standardised features."
            }
            _ => {
                "Feed-forward network for numbers: minimises 1/(2W) sum w (z - (y - m)/s)^2 + lambda/2 sum of squared \
                 weights, z the output over standardised features, m and s the label's mean and standard deviation."
            }
        }
    }

    fn params(&self) -> &'static [ParamSpec] {
        options::PARAMS
    }

    fn shards(&self, params: &Params) -> Option<u32> {
        Some(options::shards(params))
    }

    fn parameters(&self, setup: &Setup) -> (u64, u64) {
        (self.network(setup).parameters() as u64, 1)
    }

    fn effort(&self, params: &Params, inputs: u64, outputs: u64, rows: u64) -> Option<(u64, u64)> {
        let (solver, hidden) = (Solver::of(params), options::hidden(params));
        let units = hidden.iter().map(|units| *units as u64).chain([outputs]);
        let (weights, _) = units
            .fold((0u64, inputs), |(sum, before), units| (sum.saturating_add(before.saturating_mul(units)), units));
        let steps = match solver {
            Solver::Lbfgs => 1,
            _ => u64::from(options::pace(params, solver, rows).per_epoch.max(1)) * u64::from(options::shards(params)),
        };
        // A multiplication and an addition forward, for the gradient, and backward.
        Some((weights.saturating_mul(6), steps))
    }

    fn learner(&self, setup: &Setup) -> Result<Learner> {
        let seen = setup.moments.class_weight.iter().filter(|w| **w > 0.0).count();
        if self.task == Task::Classification && seen < 2 {
            return Err(MlError::Data {
                reason: format!(
                    "{} needs rows of at least two classes, and the training rows have {seen}; look at the label \
                     column, the WHERE clause and the SPLIT clause",
                    self.name()
                ),
            });
        }
        let (params, network) = (&setup.params, self.network(setup));
        options::check_layers(params, network.shift.len(), network.outputs)?;
        let solver = Solver::of(params);
        let (start, layers) = (network.start(setup.layout.features(), setup.seed), network.layers());
        let pace = options::pace(params, solver, setup.moments.rows);
        let lessons = Lessons {
            shards: options::shards(params),
            per_epoch: pace.per_epoch,
            dropout: options::dropout(params, solver, pace.per_epoch)?,
            seed: setup.seed,
        };
        let optimizer: Box<dyn Optimizer> = match solver {
            Solver::Lbfgs => {
                let stopping = super::options::stopping(params);
                Box::new(Descent::new(Method::Lbfgs, start.clone(), &[], stopping, None))
            }
            _ => Box::new(Rounds::new(start.clone(), layers, pace, options::patience(params))),
        };
        let l2 = params.float("reg_param").unwrap_or(0.0);
        let objective = Box::new(NetworkLoss::new(network, setup, start, l2, lessons));
        Ok(Learner { objective, optimizer, solver: solver.name() })
    }

    fn finish(&self, setup: &Setup, outcome: &Outcome) -> Result<Weights> {
        let network = self.network(setup);
        let (layers, width) = (network.layers(), network.shift.len());
        let mut weights = Weights::new();
        for (l, layer) in layers.iter().enumerate() {
            let mut matrix = outcome.at[layer.weights.clone()].to_vec();
            let mut biases = outcome.at[layer.biases.clone()].to_vec();
            if let (true, Head::Squared { center, .. }) = (l + 1 == layers.len(), network.head) {
                let deviation = label_deviation(setup);
                matrix.iter_mut().for_each(|w| *w *= deviation);
                biases.iter_mut().for_each(|b| *b = *b * deviation + center);
            }
            weights.extend([named(&weight_name(l), vec![layer.inputs, layer.units], matrix)?]);
            weights.extend([named(&bias_name(l), vec![layer.units], biases)?]);
        }
        weights.extend([named("shift", vec![width], network.shift)?, named("scale", vec![width], network.scale)?]);
        Ok(weights)
    }

    fn scorer(&self, params: &Params, layout: &Layout, weights: &Weights) -> Result<Kernel> {
        let width = layout.width();
        let shift = values(tensor(weights, "shift", 1)?, "shift", width)?;
        let scale = values(tensor(weights, "scale", 1)?, "scale", width)?;
        let (mut units, mut inputs, mut parameters) = (Vec::new(), width, Vec::new());
        while let Ok(matrix) = tensor(weights, &weight_name(units.len()), 2) {
            let biases = tensor(weights, &bias_name(units.len()), 1)?;
            if matrix.shape[0] != inputs || matrix.shape[1] != biases.shape[0] {
                return Err(MlError::Damaged {
                    reason: format!("layer {} has shape {:?} behind {inputs} units", units.len() + 1, matrix.shape),
                });
            }
            parameters.extend_from_slice(&matrix.data);
            parameters.extend_from_slice(&biases.data);
            inputs = biases.shape[0];
            units.push(inputs);
        }
        let outputs = units.pop().ok_or_else(|| MlError::Damaged { reason: "it has no layers".into() })?;
        let head = match self.task {
            Task::Classification => Head::Softmax,
            _ => Head::Squared { center: 0.0, scale: 1.0 },
        };
        let activation = options::activation(params);
        Ok(Kernel::Network { network: Network { shift, scale, hidden: units, outputs, activation, head }, parameters })
    }
}

fn weight_name(layer: usize) -> String {
    format!("layer_{}.weight", layer + 1)
}

fn bias_name(layer: usize) -> String {
    format!("layer_{}.bias", layer + 1)
}
