//! Networks: the penalised loss of a feed-forward network, its gradient, and where steps in shards lead.

use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::fold::{Fold, Kernel, Layout, RoleSet};
use crate::kernels::LESSON_HEAD;
use crate::network::{Network, Steps, Work};
use crate::objective::{Evaluation, Objective, Penalty, Want};
use crate::partial::Partial;

/// How steps over mini-batches are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lessons {
    /// The number of virtual shards.
    pub shards: u32,
    /// Steps of an epoch.
    pub per_epoch: u32,
    /// Probability that a hidden unit is left out of a step.
    pub dropout: f64,
    /// Seed of shuffles and dropout.
    pub seed: u64,
}

/// `1/W sum w loss(network(x), y) + l2/2 sum of squared weights`. A point is the network's parameters, for
/// [`Want::Steps`] followed by what the rule remembers.
///
/// Sums over rows are taken in each virtual shard, over rows in canonical order, and over shards here, in
/// their order.
#[derive(Clone, Debug)]
pub struct NetworkLoss {
    network: Network,
    layout: Layout,
    start: Vec<f64>,
    penalty: Penalty,
    l2: f64,
    /// Training rows, and their weight.
    rows: u64,
    weight: f64,
    /// Largest weight of a row.
    largest: f64,
    lessons: Lessons,
}

impl NetworkLoss {
    /// The loss of `network` on the rows that `setup` describes, from `start`.
    pub fn new(network: Network, setup: &crate::family::Setup, start: Vec<f64>, l2: f64, lessons: Lessons) -> Self {
        let weights = network.is_weight();
        let penalty = Penalty { l1: Vec::new(), l2: weights.iter().map(|w| if *w { l2 } else { 0.0 }).collect() };
        Self {
            network,
            layout: setup.layout.clone(),
            start,
            penalty,
            l2,
            rows: setup.moments.rows,
            weight: setup.moments.weight,
            largest: setup.bounds.weight,
            lessons,
        }
    }

    fn work(&self, want: Want) -> Result<Work> {
        match want {
            Want::Loss => Ok(Work::Loss),
            Want::Gradient => Ok(Work::Gradient),
            Want::Steps { rule, rate, first, count, held } => Ok(Work::Steps(Steps {
                rule,
                rate,
                first,
                count,
                per_epoch: self.lessons.per_epoch,
                dropout: self.lessons.dropout,
                l2: self.l2,
                mean_weight: self.weight / self.rows.max(1) as f64,
                seed: self.lessons.seed,
                held,
            })),
            _ => Err(MlError::Internal("a network has neither batches nor curvature nor candidates".into())),
        }
    }
}

impl Objective for NetworkLoss {
    fn start(&self) -> Vec<f64> {
        self.start.clone()
    }

    fn penalty(&self) -> &Penalty {
        &self.penalty
    }

    fn fold(&self, at: &[f64], want: Want) -> Result<Fold> {
        let (network, parameters, shards) = (self.network.clone(), at.to_vec(), self.lessons.shards);
        Ok(Fold {
            kernel: Kernel::Lesson { network, parameters, work: self.work(want)?, shards },
            layout: self.layout.clone(),
            train: RoleSet::TRAIN,
            eval: RoleSet::EVAL,
            sample: None,
            weight_grid: Grid::covering(self.largest)?,
            loss_grid: Grid::covering(0.0)?,
            grids: Vec::new(),
            around: None,
        })
    }

    fn read(&self, at: &[f64], want: Want, partial: &Partial) -> Result<Evaluation> {
        let shards = &partial.gathered.rows;
        let distinct = shards.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !distinct || partial.rows != self.rows {
            return Err(MlError::Internal(format!(
                "{} shards with {} of {} training rows answered",
                shards.len(),
                partial.rows,
                self.rows
            )));
        }
        let count = self.network.parameters();
        let length = match want {
            Want::Loss => 0,
            Want::Gradient => count,
            _ => at.len(),
        };
        let mut sums = [0.0; LESSON_HEAD];
        let mut total = vec![0.0; length];
        for (_, row) in shards {
            let Some((head, rest)) = row.split_at_checked(LESSON_HEAD).filter(|(_, rest)| rest.len() == length) else {
                return Err(MlError::Internal("a shard answered something else".into()));
            };
            sums.iter_mut().zip(head).for_each(|(sum, value)| *sum += value);
            // A sum of gradients, or a mean of points by the weight of their shards.
            let by = if want == Want::Gradient { 1.0 } else { head[0] };
            total.iter_mut().zip(rest).for_each(|(total, value)| *total += by * value);
        }
        let [mass, seen, loss, held, held_loss, _] = sums;
        let norm = shards.iter().map(|(_, row)| row[5]).fold(0.0, f64::max);
        let mut evaluation = Evaluation {
            value: if seen > 0.0 { loss / seen } else { 0.0 },
            eval_loss: (held > 0.0).then(|| held_loss / held),
            rows: partial.rows,
            weight: seen,
            gradient_norm: norm,
            ..Default::default()
        };
        total.iter_mut().for_each(|value| *value /= mass);
        let at = &at[..count];
        if want == Want::Gradient {
            total.iter_mut().zip(at).zip(&self.penalty.l2).for_each(|((g, x), l2)| *g += l2 * x);
            evaluation.gradient = total;
        } else {
            evaluation.moved = total;
        }
        evaluation.value += at.iter().zip(&self.penalty.l2).map(|(x, l2)| l2 * x * x / 2.0).sum::<f64>();
        Ok(evaluation)
    }
}
