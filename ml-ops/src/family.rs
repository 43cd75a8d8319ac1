//! What a user names in `USING`: a family of models, its options, how it learns and how it scores.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::error::{MlError, Result, did_you_mean};
use crate::families::FAMILIES;
use crate::fold::{Around, Kernel, Layout, Spot};
use crate::objective::Objective;
use crate::optimizer::{Optimizer, Outcome};
use crate::params::{ParamSpec, Params};

/// What a family predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A number.
    Regression,
    /// One of some classes, with probabilities.
    Classification,
    /// The nearest of some centres; there is no label.
    Clustering,
}

/// A family of models: one file in `families/`, one line in [`FAMILIES`].
pub trait Family: Debug + Send + Sync {
    /// Canonical name, MLlib's in snake_case.
    fn name(&self) -> &'static str;

    /// Other names, BigQuery's model types among them.
    fn aliases(&self) -> &'static [&'static str];

    /// What it predicts.
    fn task(&self) -> Task;

    /// What it is, in one sentence, with its equation.
    fn doc(&self) -> &'static str;

    /// Its options.
    fn params(&self) -> &'static [ParamSpec];

    /// How many virtual shards its passes go over; `None` for sums over rows that may lie anywhere.
    fn shards(&self, _params: &Params) -> Option<u32> {
        None
    }

    /// Rows and columns of the matrix of parameters; one column where they form several.
    fn parameters(&self, setup: &Setup) -> (u64, u64) {
        let rows = match self.task() {
            Task::Classification if setup.classes > 2 => setup.classes as u64,
            Task::Clustering => setup.params.int("k").unwrap_or(1).max(1) as u64,
            _ => 1,
        };
        (rows, setup.layout.width() as u64 + 1)
    }

    /// What a pass over the rows of `inputs` coordinates costs where that does not follow from them: operations of a
    /// row, and how many stretches of the pass follow one another. `outputs` counts classes, 1 for a value.
    fn effort(&self, _params: &Params, _inputs: u64, _outputs: u64, _rows: u64) -> Option<(u64, u64)> {
        None
    }

    /// What is minimised on this data, and how.
    ///
    /// # Errors
    /// When the data or the options do not allow a model.
    fn learner(&self, setup: &Setup) -> Result<Learner>;

    /// The model in the columns' own scale, from where the optimizer ended.
    ///
    /// # Errors
    /// When a weight is not finite.
    fn finish(&self, setup: &Setup, outcome: &Outcome) -> Result<Weights>;

    /// The kernel that scores rows with these weights.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong shape: the artifact is damaged.
    fn scorer(&self, params: &Params, layout: &Layout, weights: &Weights) -> Result<Kernel>;
}

/// An objective and the method that minimises it.
pub struct Learner {
    /// What is minimised.
    pub objective: Box<dyn Objective>,
    /// How.
    pub optimizer: Box<dyn Optimizer>,
    /// The solver's name, for reports and the manifest.
    pub solver: &'static str,
}

/// What a family knows of the data before it learns.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// The options, complete.
    pub params: Params,
    /// Coordinates of the features.
    pub layout: Layout,
    /// Exact moments of the training rows.
    pub moments: Moments,
    /// Exact bounds over all rows.
    pub bounds: Bounds,
    /// Number of classes; 0 when the label is not a class.
    pub classes: usize,
    /// The seed of everything pseudo-random.
    pub seed: u64,
}

/// Weighted moments of the training rows. Vectors are `[P]`, in the layout's coordinates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Training rows.
    pub rows: u64,
    /// Held-out rows.
    pub eval_rows: u64,
    /// Sum of weights, W.
    pub weight: f64,
    /// Sum of squared weights.
    pub weight_squares: f64,
    /// Weighted means.
    pub mean: Vec<f64>,
    /// Weighted population variances, `sum w (x - mean)^2 / W`.
    pub variance: Vec<f64>,
    /// Weighted mean of a numeric label.
    pub label_mean: f64,
    /// Weighted population variance of a numeric label.
    pub label_variance: f64,
    /// Sum of weights in each class.
    pub class_weight: Vec<f64>,
}

/// Where a column of this mean and variance, between `low` and `high`, lies.
fn spot(mean: f64, variance: f64, (low, high): (f64, f64)) -> Spot {
    Spot { mean, deviation: variance.max(0.0).sqrt(), reach: (high - mean).max(mean - low).max(0.0) }
}

impl Setup {
    /// Where the rows lie.
    pub fn around(&self) -> Around {
        let (moments, bounds) = (&self.moments, &self.bounds);
        let numeric = self.layout.spans().filter(|span| !span.categorical).map(|span| span.offset);
        Around {
            numbers: numeric
                .map(|j| spot(moments.mean[j], moments.variance[j], (bounds.low[j], bounds.high[j])))
                .collect(),
            label: match bounds.label.0 <= bounds.label.1 {
                true => spot(moments.label_mean, moments.label_variance, bounds.label),
                false => Spot::default(),
            },
        }
    }
}

/// Ranges of all rows, for the grids of sums. Vectors are `[P]`; categories range from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Smallest values.
    pub low: Vec<f64>,
    /// Largest values.
    pub high: Vec<f64>,
    /// Largest row weight.
    pub weight: f64,
    /// Smallest and largest numeric label.
    pub label: (f64, f64),
    /// All rows, held-out ones included.
    pub rows: u64,
}

/// A fitted model's numbers by name, in the columns' own scale: what `weights.safetensors` holds.
pub type Weights = BTreeMap<String, Tensor>;

/// A dense array of doubles.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Lengths of its axes.
    pub shape: Vec<usize>,
    /// Values, last axis fastest.
    pub data: Vec<f64>,
}

/// The family of that name or alias, in any case.
///
/// # Errors
/// When there is none; the text names the nearest.
pub fn find(name: &str) -> Result<&'static dyn Family> {
    let all = || {
        FAMILIES.iter().flat_map(|f| std::iter::once(f.name()).chain(f.aliases().iter().copied()).map(move |n| (n, *f)))
    };
    all().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, family)| family).ok_or_else(|| {
        let word = name.to_lowercase();
        let network = ["mlp", "dnn", "neural", "network", "perceptron"].iter().any(|part| word.contains(part));
        let hint = match did_you_mean(name, all().map(|(n, _)| n)) {
            none if none.is_empty() && network => "; networks are 'mlp_classifier' and 'mlp_regressor'".into(),
            hint => hint,
        };
        MlError::UnknownFamily { name: name.into(), hint }
    })
}
