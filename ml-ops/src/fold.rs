//! What one step asks of every block of rows, as plain data that travels to where the rows are.
//!
//! A [`Fold`] carries everything a kernel needs: the parameters, the rows that count, and the grids of
//! its sums. Objectives make folds and read their results; backends run them; neither knows the other.

use serde::{Deserialize, Serialize};

use crate::exact::Grid;
use crate::network::{Network, Work};

/// One pass over the rows: a kernel, the rows it counts, and the grids its sums live on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fold {
    /// The arithmetic.
    pub kernel: Kernel,
    /// Coordinates of the parameter space, feature by feature.
    pub layout: Layout,
    /// Roles whose rows enter the sums and the loss.
    pub train: RoleSet,
    /// Roles whose rows enter only the held-out loss.
    pub eval: RoleSet,
    /// Count only a fixed pseudo-random part of the training rows.
    pub sample: Option<Sample>,
    /// Grid of the sum of row weights.
    pub weight_grid: Grid,
    /// Grid of the loss (training and held-out alike).
    pub loss_grid: Grid,
    /// Grids of the sums, in the kernel's order.
    pub grids: Vec<Grid>,
    /// Where the rows lie, for a device that keeps differences. It changes no exact sum.
    pub around: Option<Box<Around>>,
}

/// Where the rows of a training lie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Around {
    /// The numeric features in order.
    pub numbers: Vec<Spot>,
    /// The label, if it is a number.
    pub label: Spot,
}

/// Where a column lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spot {
    /// Mean of the training rows.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// The largest distance of any row from the mean.
    pub reach: f64,
}

/// The arithmetic of a fold. `w` is the row's weight, `x` its features expanded by [`Layout`]
/// (a numeric feature is one coordinate, a category one indicator for each known category),
/// `P` the width of the layout, `y` the label. Every kernel also sums `w` over the rows it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Kernel {
    /// First and second moments. Sums, in this order:
    /// `[sum w^2]`, then the label's (`[sum w (y-s), sum w (y-s)^2]` for a value, `[sum w]` for each
    /// class, nothing without a label), then `sum w (x_j - shift_j)` for all `P` coordinates, then
    /// `sum w (x_j - shift_j)^2` for all `P`. Coordinates of categories hold `sum w` of the category
    /// in the first and zero in the second. No loss.
    Moments {
        /// Taken off every numeric coordinate; zero for categories. `[P]`.
        shift: Vec<f64>,
        /// Taken off the label.
        label_shift: f64,
    },
    /// A loss of the margin `m = intercept + x.weights`, and its gradient. Sums:
    /// `[sum r, sum r x_1, .., sum r x_P]` with `r = w * dloss/dm`. Loss: `sum w * loss(m, y)`.
    Linear {
        /// The loss and its derivative.
        loss: Loss,
        /// Added to every margin.
        intercept: f64,
        /// `[P]`.
        weights: Vec<f64>,
    },
    /// Softmax over `classes` margins `m_k = intercepts_k + x.weights_k`. Sums, for each class k:
    /// `[sum r_k, sum r_k x_1, .., sum r_k x_P]` with `r_k = w (p_k - [y = k])`. Loss: `sum -w ln p_y`.
    Softmax {
        /// `[K]`, one for each class.
        intercepts: Vec<f64>,
        /// `[K, P]`, class by class.
        weights: Vec<f64>,
    },
    /// The weighted cross products of `z = [1, (x_1 - shift_1) scale_1, .., (x_P - shift_P) scale_P]`,
    /// with `(y - label_shift) label_scale` as one more entry when `label` is set. Scales are powers of
    /// two that bring every entry of z to at most 1 in magnitude. Sums: the upper triangle of
    /// `sum h z z'` row by row (`(0,0), (0,1), .., (0,n), (1,1), ..`), with h from `curvature`.
    Gram {
        /// `[P]`; zero for categories.
        shift: Vec<f64>,
        /// `[P]` powers of two; one for categories.
        scale: Vec<f64>,
        /// Shift and scale of the label, when it takes part.
        label: Option<(f64, f64)>,
        /// The weight of a row.
        curvature: Curvature,
    },
    /// Assignment to the nearest of K centres in `z = (x - shift) * scale`, the lowest index winning a
    /// tie. Sums, for each centre k: `[sum w, sum w z_1, .., sum w z_P]` over its rows.
    /// Loss: `sum w d^2` with d the distance to the nearest centre.
    Centroids {
        /// `[P]`; zero for categories.
        shift: Vec<f64>,
        /// `[P]`; one where nothing is scaled.
        scale: Vec<f64>,
        /// `[K, P]`, in z's coordinates.
        centers: Vec<f64>,
    },
    /// Gathers rows as candidates for centres: a row is kept when `uniform(key) < factor * w * d^2`,
    /// d the distance to the nearest centre (every row when there are no centres yet). `key` mixes the
    /// row's hash with `salt`; gathered rows are `z`. Loss: `sum w d^2`. No sums.
    Candidates {
        /// As in `Centroids`.
        shift: Vec<f64>,
        /// As in `Centroids`.
        scale: Vec<f64>,
        /// `[K, P]`, possibly empty.
        centers: Vec<f64>,
        /// Makes rounds differ.
        salt: u64,
        /// Expected rows for each unit of cost.
        factor: f64,
        /// At most this many rows, those with the smallest keys.
        keep: u32,
    },
    /// The outputs of a network; it has scores and nothing else.
    Network {
        /// The shape.
        network: Network,
        /// As [`Network::layers`] has them.
        parameters: Vec<f64>,
    },
    /// What a pass over whole virtual shards does with a network. No sums: every shard's result is a gathered row
    /// under its number.
    Lesson {
        /// The shape.
        network: Network,
        /// As [`Network::layers`] has them; for steps, what the rule remembers follows.
        parameters: Vec<f64>,
        /// What is done.
        work: Work,
        /// The number of shards.
        shards: u32,
    },
    /// Gathers `[y, w, score_1, ..]` of the held-out rows, for metrics. Scores are the margins of a
    /// `Linear` or `Softmax` kernel, the outputs of a network, or `[index of the nearest centre, d^2]` of a `Centroids` kernel.
    Scores {
        /// The kernel whose scores are wanted.
        of: Box<Kernel>,
    },
}

/// Losses of a single margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Loss {
    /// `(m - y)^2 / 2`, derivative `m - y`.
    Squared,
    /// `ln(1 + e^m) - y m` for y in {0, 1}, derivative `1/(1 + e^-m) - y`.
    Logistic,
}

/// The weight of a row in a cross product.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Curvature {
    /// `h = w`.
    Weight,
    /// `h = w p (1 - p)`, `p = 1/(1 + e^-m)`, with the margin `m = intercept + x.weights`.
    Logistic {
        /// Added to every margin.
        intercept: f64,
        /// `[P]`.
        weights: Vec<f64>,
    },
}

/// The coordinates of each feature, in the order of the block's columns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// 0 for a numeric feature (one coordinate), else the number of known categories.
    categories: Vec<u32>,
}

/// One feature's place among the coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first coordinate.
    pub offset: usize,
    /// How many it has.
    pub width: usize,
    /// Whether they are indicators of categories.
    pub categorical: bool,
}

impl Layout {
    /// A layout from the number of categories of each feature; `None` for a numeric one.
    pub fn new(features: impl IntoIterator<Item = Option<u32>>) -> Self {
        Self { categories: features.into_iter().map(|n| n.map_or(0, |n| n.max(1))).collect() }
    }

    /// The number of coordinates, P.
    pub fn width(&self) -> usize {
        self.categories.iter().map(|&n| n.max(1) as usize).sum()
    }

    /// The number of features.
    pub fn features(&self) -> usize {
        self.categories.len()
    }

    /// The coordinates of each feature in turn.
    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.categories.iter().scan(0, |offset, &n| {
            let span = Span { offset: *offset, width: n.max(1) as usize, categorical: n > 0 };
            *offset += span.width;
            Some(span)
        })
    }
}

/// A set of row roles (0 to 63).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSet(pub u64);

impl RoleSet {
    /// No role.
    pub const NONE: Self = Self(0);
    /// Rows that the model is fitted on.
    pub const TRAIN: Self = Self(1 << ROLE_TRAIN);
    /// Rows that are held out.
    pub const EVAL: Self = Self(1 << ROLE_EVAL);

    /// Whether `role` is in the set; roles above 63 never are.
    #[inline]
    pub fn contains(self, role: u8) -> bool {
        role < 64 && self.0 >> role & 1 == 1
    }
}

/// The role of a training row.
pub const ROLE_TRAIN: u8 = 0;
/// The role of a held-out row.
pub const ROLE_EVAL: u8 = 1;
/// The role of a row that no fold counts (its label is missing, or the policy skips it).
pub const ROLE_DROPPED: u8 = 255;

/// A pseudo-random part of the rows, chosen by their hash and hence the same in any partitioning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Makes samples differ.
    pub salt: u64,
    /// A row counts when [`mix`]`(hash, salt) < threshold`.
    pub threshold: u64,
    /// Whether many folds ask for the same sample, so that its rows are worth a copy of their own.
    pub resident: bool,
}

impl Sample {
    /// A sample of about `fraction` (0 to 1) of the rows.
    pub fn fraction(fraction: f64, salt: u64) -> Self {
        let threshold =
            if fraction >= 1.0 { u64::MAX } else { (fraction.max(0.0) * 18_446_744_073_709_551_616.0) as u64 };
        Self { salt, threshold, resident: false }
    }

    /// A sample that many folds will ask for.
    pub fn resident(fraction: f64, salt: u64) -> Self {
        Self { resident: true, ..Self::fraction(fraction, salt) }
    }

    /// Whether a row with this hash is in the sample.
    #[inline]
    pub fn takes(self, hash: u32) -> bool {
        self.threshold == u64::MAX || mix(hash, self.salt) < self.threshold
    }
}

/// Spreads a row hash over 64 bits, differently for every salt.
/// The finaliser of SplitMix64 (Steele, Lea, Flood, *Fast Splittable Pseudorandom Number Generators*, 2014).
#[inline]
pub fn mix(hash: u32, salt: u64) -> u64 {
    let mut z = (u64::from(hash) << 32 | u64::from(hash)).wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A key of [`mix`] as a number in [0, 1).
#[inline]
pub fn uniform(key: u64) -> f64 {
    (key >> 11) as f64 / 9_007_199_254_740_992.0
}
