//! k-means clustering.

use super::{named, options, tensor, values};
use crate::error::{MlError, Result};
use crate::family::{Family, Learner, Setup, Task, Weights};
use crate::fold::{Kernel, Layout};
use crate::objectives::{Clusters, cluster_coordinates};
use crate::optimizer::Outcome;
use crate::optimizers::{Lloyd, Start};
use crate::params::{ParamKind, ParamSpec, ParamValue, Params};

/// Tensors: `centers` `[K, P]` in the columns' own scale, and `shift` and `scale` `[P]`: distances are
/// taken in `(x - shift) * scale`.
#[derive(Debug)]
pub(super) struct KMeans;

static PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "k",
        aliases: &["num_clusters", "numClusters"],
        kind: ParamKind::Int(1, 100_000),
        default: ParamValue::Int(2),
        doc: "Number of centres; the data must have at least as many distinct rows.",
    },
    ParamSpec {
        name: "init_mode",
        aliases: &["initMode", "kmeans_init_method"],
        kind: ParamKind::Text(&["k-means||", "random", "kmeans++", "k-means++"]),
        default: ParamValue::text("k-means||"),
        doc: "How the first centres are chosen: k-means|| (kmeans++ means the same) or random rows.",
    },
    ParamSpec {
        name: "init_steps",
        aliases: &["initSteps"],
        kind: ParamKind::Int(1, 64),
        default: ParamValue::Int(2),
        doc: "Rounds of sampling of k-means||.",
    },
    ParamSpec {
        name: "max_iter",
        aliases: &["maxIter", "max_iterations"],
        kind: ParamKind::Int(0, 1_000_000),
        default: ParamValue::Int(20),
        doc: "Largest number of times that the centres move.",
    },
    ParamSpec {
        name: "tol",
        aliases: &["min_rel_progress"],
        kind: ParamKind::Float(0.0, f64::MAX),
        default: ParamValue::Float(1e-4),
        doc: "Training stops when no centre moves farther than this.",
    },
    ParamSpec {
        name: "standardize_features",
        aliases: &["standardizeFeatures"],
        kind: ParamKind::Bool,
        default: ParamValue::Bool(false),
        doc: "Whether distances are taken over features divided by their standard deviation.",
    },
    options::SEED,
    options::ON_MISSING,
];

impl Family for KMeans {
    fn name(&self) -> &'static str {
        "kmeans"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["k_means"]
    }

    fn task(&self) -> Task {
        Task::Clustering
    }

    fn doc(&self) -> &'static str {
        "k-means clustering by Lloyd's algorithm: minimises 1/W sum w min_k |x - c_k|^2 over k centres, started by \
         k-means||."
    }

    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }

    fn learner(&self, setup: &Setup) -> Result<Learner> {
        let (params, width) = (&setup.params, setup.layout.width());
        let centers = params.int("k").unwrap_or(2).max(1) as usize;
        if centers as u64 > setup.moments.rows {
            return Err(MlError::Data {
                reason: format!(
                    "k = {centers}, and there are {} training rows; choose a smaller k",
                    setup.moments.rows
                ),
            });
        }
        let start = match params.text("init_mode") {
            "random" => Start::Random,
            _ => Start::Parallel { rounds: params.int("init_steps").unwrap_or(2).clamp(1, 64) as u32 },
        };
        Ok(Learner {
            objective: Box::new(Clusters::new(setup, centers, params.flag("standardize_features"))),
            optimizer: Box::new(Lloyd::new(centers, width, start, options::stopping(params), setup.seed)),
            solver: "lloyd",
        })
    }

    fn finish(&self, setup: &Setup, outcome: &Outcome) -> Result<Weights> {
        let (shift, scale) = cluster_coordinates(setup, setup.params.flag("standardize_features"));
        let width = shift.len();
        let raw = |(i, z): (usize, &f64)| shift[i % width] + z / scale[i % width];
        let centers: Vec<f64> = outcome.at.iter().enumerate().map(raw).collect();
        [
            named("centers", vec![centers.len() / width.max(1), width], centers),
            named("shift", vec![width], shift),
            named("scale", vec![width], scale),
        ]
        .into_iter()
        .collect()
    }

    fn scorer(&self, _params: &Params, layout: &Layout, weights: &Weights) -> Result<Kernel> {
        let width = layout.width();
        let shift = values(tensor(weights, "shift", 1)?, "shift", width)?;
        let scale = values(tensor(weights, "scale", 1)?, "scale", width)?;
        let centers = values(tensor(weights, "centers", 2)?, "centers", width)?;
        let centers = centers.iter().enumerate().map(|(i, c)| (c - shift[i % width]) * scale[i % width]).collect();
        Ok(Kernel::Centroids { shift, scale, centers })
    }
}
