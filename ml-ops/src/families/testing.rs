//! Rows in memory, and a plain evaluator of folds over them: the loop of training without an engine.

use std::collections::BTreeMap;

use crate::block::{Block, Column, Label};
use crate::error::{MlError, Result};
use crate::family::{Bounds, Moments, Setup, Weights, find};
use crate::fold::{Curvature, Fold, Kernel, Layout, Loss, ROLE_TRAIN, mix, uniform};
use crate::kernels::Cpu;
use crate::network::shard_of;
use crate::optimizer::{Ask, Iteration, Outcome};
use crate::params::{ParamValue, Params};
use crate::partial::Partial;

/// Rows with features expanded to the layout's coordinates.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub layout: Layout,
    pub x: Vec<Vec<f64>>,
    /// A value, or the index of a class.
    pub y: Vec<f64>,
    pub w: Vec<f64>,
    /// 0 when the label is a value or there is none.
    pub classes: usize,
}

impl Rows {
    pub fn new(x: Vec<Vec<f64>>, y: Vec<f64>, classes: usize) -> Self {
        let width = x.first().map_or(0, Vec::len);
        let w = vec![1.0; x.len()];
        Self { layout: Layout::new(vec![None; width]), x, y, w, classes }
    }

    fn hash(&self, i: usize) -> u32 {
        let mut h = 0x1234_5678u32;
        for v in &self.x[i] {
            h = (mix(h, v.to_bits()) >> 32) as u32;
        }
        h
    }

    pub fn setup(&self, family: &str, options: &[(&str, ParamValue)], seed: u64) -> Result<Setup> {
        let given: Vec<_> = options.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        let params = Params::resolve(family, find(family)?.params(), &given)?;
        let width = self.layout.width();
        let weight: f64 = self.w.iter().sum();
        let mean_of = |f: &dyn Fn(usize) -> f64| (0..self.x.len()).map(|i| self.w[i] * f(i)).sum::<f64>() / weight;
        let mut moments = Moments {
            rows: self.x.len() as u64,
            weight,
            weight_squares: self.w.iter().map(|w| w * w).sum(),
            class_weight: vec![0.0; self.classes],
            ..Default::default()
        };
        let mut bounds = Bounds {
            weight: self.w.iter().copied().fold(0.0, f64::max),
            label: (f64::INFINITY, f64::NEG_INFINITY),
            rows: moments.rows,
            ..Default::default()
        };
        for j in 0..width {
            let mean = mean_of(&|i| self.x[i][j]);
            moments.mean.push(mean);
            moments.variance.push(mean_of(&|i| (self.x[i][j] - mean) * (self.x[i][j] - mean)));
            bounds.low.push(self.x.iter().map(|x| x[j]).fold(f64::INFINITY, f64::min));
            bounds.high.push(self.x.iter().map(|x| x[j]).fold(f64::NEG_INFINITY, f64::max));
        }
        if !self.y.is_empty() {
            let mean = mean_of(&|i| self.y[i]);
            moments.label_mean = mean;
            moments.label_variance = mean_of(&|i| (self.y[i] - mean) * (self.y[i] - mean));
            bounds.label = self.y.iter().fold(bounds.label, |(low, high), y| (low.min(*y), high.max(*y)));
        }
        for (y, w) in self.y.iter().zip(&self.w).filter(|_| self.classes > 0) {
            moments.class_weight[*y as usize] += w;
        }
        Ok(Setup { params, layout: self.layout.clone(), moments, bounds, classes: self.classes, seed })
    }

    /// Some rows as a block.
    pub fn block(&self, rows: &[usize]) -> Block {
        let column = |j: usize| Column::F64(rows.iter().map(|&i| self.x[i][j]).collect());
        Block {
            origin: Default::default(),
            rows: rows.len(),
            columns: (0..self.layout.width()).map(column).collect(),
            label: match self.classes {
                0 => Label::Value(rows.iter().map(|&i| self.y[i]).collect()),
                _ => Label::Class(rows.iter().map(|&i| self.y[i] as u32).collect()),
            },
            weight: Some(rows.iter().map(|&i| self.w[i]).collect()),
            role: None,
            hash: Some(rows.iter().map(|&i| self.hash(i)).collect()),
        }
    }

    /// What all rows contribute to a fold, by plain loops; networks by their kernel.
    pub fn fold(&self, fold: &Fold) -> Result<Partial> {
        let mut into = Partial::empty(fold);
        if let Kernel::Lesson { shards, .. } = fold.kernel {
            let mut order: Vec<usize> = (0..self.x.len()).collect();
            order.sort_by_key(|&i| (shard_of(self.hash(i), shards), self.hash(i)));
            for shard in order.chunk_by(|a, b| shard_of(self.hash(*a), shards) == shard_of(self.hash(*b), shards)) {
                Cpu::new().fold_blocks(fold, &[self.block(shard)], &mut into)?;
            }
            into.gathered.settle();
            return Ok(into);
        }
        if let Kernel::Candidates { keep, .. } = fold.kernel {
            into.gathered.keep = keep;
        }
        for i in 0..self.x.len() {
            if !fold.train.contains(ROLE_TRAIN) || fold.sample.is_some_and(|s| !s.takes(self.hash(i))) {
                continue;
            }
            into.rows += 1;
            into.totals.add(0, self.w[i], 1.0);
            let loss = self.row(i, &fold.kernel, &mut into);
            into.totals.add(1, loss, 1.0);
        }
        into.gathered.settle();
        Ok(into)
    }

    /// Adds a row's sums and returns its loss, weighted.
    fn row(&self, i: usize, kernel: &Kernel, into: &mut Partial) -> f64 {
        let (x, w, y) = (&self.x[i], self.w[i], self.y.get(i).copied().unwrap_or(0.0));
        let margin = |b0: f64, b: &[f64]| x.iter().zip(b).fold(b0, |m, (x, b)| x.mul_add(*b, m));
        let residuals = |r: f64, first: usize, into: &mut Partial| {
            into.sums.add(first, r, 1.0);
            for (j, x) in x.iter().enumerate() {
                into.sums.add(first + 1 + j, r, *x);
            }
        };
        let place = |shift: &[f64], scale: &[f64]| -> Vec<f64> {
            x.iter().zip(shift).zip(scale).map(|((x, m), s)| (x - m) * s).collect()
        };
        let nearest = |z: &[f64], centers: &[f64]| -> (usize, f64) {
            let mut best = (0, f64::INFINITY);
            for (k, c) in centers.chunks_exact(z.len()).enumerate() {
                let d: f64 = z.iter().zip(c).map(|(a, b)| (a - b) * (a - b)).sum();
                if d < best.1 {
                    best = (k, d);
                }
            }
            best
        };
        match kernel {
            Kernel::Linear { loss, intercept, weights } => {
                let m = margin(*intercept, weights);
                let (r, loss) = match loss {
                    Loss::Squared => (m - y, (m - y) * (m - y) / 2.0),
                    Loss::Logistic => (sigmoid(m) - y, m.max(0.0) + libm::log1p(libm::exp(-m.abs())) - y * m),
                };
                residuals(w * r, 0, into);
                w * loss
            }
            Kernel::Softmax { intercepts, weights } => {
                let margins: Vec<f64> =
                    intercepts.iter().zip(weights.chunks_exact(x.len())).map(|(b0, b)| margin(*b0, b)).collect();
                let most = margins.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total: f64 = margins.iter().map(|m| libm::exp(m - most)).sum();
                for (k, m) in margins.iter().enumerate() {
                    let p = libm::exp(m - most) / total;
                    residuals(w * (p - f64::from(k == y as usize)), k * (x.len() + 1), into);
                }
                w * (most + libm::log(total) - margins[y as usize])
            }
            Kernel::Gram { shift, scale, label, curvature } => {
                let mut z = vec![1.0];
                z.extend(place(shift, scale));
                if let Some((shift, scale)) = label {
                    z.push((y - shift) * scale);
                }
                let h = match curvature {
                    Curvature::Weight => w,
                    Curvature::Logistic { intercept, weights } => {
                        let p = sigmoid(margin(*intercept, weights));
                        w * (p * (1.0 - p))
                    }
                };
                let mut at = 0;
                for a in 0..z.len() {
                    for b in a..z.len() {
                        into.sums.add(at, h * z[a], z[b]);
                        at += 1;
                    }
                }
                0.0
            }
            Kernel::Centroids { shift, scale, centers } => {
                let z = place(shift, scale);
                let (k, d) = nearest(&z, centers);
                into.sums.add(k * (z.len() + 1), w, 1.0);
                for (j, z_j) in z.iter().enumerate() {
                    into.sums.add(k * (z.len() + 1) + 1 + j, w, *z_j);
                }
                w * d
            }
            Kernel::Candidates { shift, scale, centers, salt, factor, .. } => {
                let z = place(shift, scale);
                let d = if centers.is_empty() { 0.0 } else { nearest(&z, centers).1 };
                let key = mix(self.hash(i), *salt);
                if centers.is_empty() || uniform(key) < factor * w * d {
                    into.gathered.rows.push((key, z));
                }
                w * d
            }
            Kernel::Moments { .. } | Kernel::Scores { .. } | Kernel::Network { .. } | Kernel::Lesson { .. } => 0.0,
        }
    }

    /// Trains, and checks that the run can be resumed at any point.
    pub fn train(&self, family: &str, options: &[(&str, ParamValue)], seed: u64) -> Result<Trained> {
        let setup = self.setup(family, options, seed)?;
        let mut learner = find(family)?.learner(&setup)?;
        let mut twin = find(family)?.learner(&setup)?;
        let mut passes: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut iterations = Vec::new();
        loop {
            // Every step goes on in another optimizer, restored from the state of the last.
            twin.optimizer.restore(&learner.optimizer.state())?;
            std::mem::swap(&mut learner.optimizer, &mut twin.optimizer);
            match learner.optimizer.ask() {
                Ask::Done(outcome) => {
                    let weights = find(family)?.finish(&setup, &outcome)?;
                    return Ok(Trained { outcome, weights, passes, iterations, setup, solver: learner.solver });
                }
                Ask::Evaluate { at, want } => {
                    let fold = learner.objective.fold(&at, want)?;
                    let kind = match &fold.kernel {
                        Kernel::Gram { .. } => "curvature",
                        Kernel::Candidates { .. } => "candidates",
                        _ => "gradient",
                    };
                    *passes.entry(kind).or_default() += 1;
                    let partial = Partial::decode(&self.fold(&fold)?.encode()?)?;
                    let evaluation = learner.objective.read(&at, want, &partial)?;
                    iterations.extend(learner.optimizer.tell(evaluation)?);
                }
            }
            if passes.values().sum::<usize>() > 50_000 {
                return Err(MlError::Internal("it does not end".into()));
            }
        }
    }
}

fn sigmoid(m: f64) -> f64 {
    if m >= 0.0 { 1.0 / (1.0 + libm::exp(-m)) } else { libm::exp(m) / (1.0 + libm::exp(m)) }
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Trained {
    pub outcome: Outcome,
    pub weights: Weights,
    pub passes: BTreeMap<&'static str, usize>,
    pub iterations: Vec<Iteration>,
    pub setup: Setup,
    pub solver: &'static str,
}

impl Trained {
    /// `[intercept, coefficients..]`, class by class.
    pub fn flat(&self) -> Vec<f64> {
        let (intercept, coefficients) = (&self.weights["intercept"].data, &self.weights["coefficients"].data);
        let width = coefficients.len() / intercept.len();
        (0..intercept.len())
            .flat_map(|k| std::iter::once(intercept[k]).chain(coefficients[k * width..(k + 1) * width].iter().copied()))
            .collect()
    }

    pub fn objective(&self) -> f64 {
        self.iterations.last().map_or(f64::NAN, |i| i.objective)
    }
}

/// A CSV file of the repository as columns by name; text becomes the index of its sorted values.
pub(crate) fn read_csv(path: &str) -> Result<Vec<(String, Vec<f64>)>> {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).map_err(|e| MlError::Internal(format!("{path}: {e}")))?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let cells: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let column = |j: usize| -> Vec<f64> {
        let words: Vec<&str> = cells.iter().map(|row| row[j]).collect();
        if let Ok(numbers) = words.iter().map(|w| w.parse()).collect() {
            return numbers;
        }
        let known: std::collections::BTreeSet<&str> = words.iter().copied().collect();
        words.iter().map(|w| known.iter().filter(|k| *k < w).count() as f64).collect()
    };
    Ok(names.iter().enumerate().map(|(j, name)| (name.to_string(), column(j))).collect())
}

/// Rows from a CSV: the label, an optional weight, and every other column but `ignore` as a feature.
pub(crate) fn table(path: &str, label: &str, weight: Option<&str>, ignore: &[&str], classes: usize) -> Result<Rows> {
    let columns = read_csv(path)?;
    let of = |name: &str| columns.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()).unwrap_or_default();
    let used: Vec<&Vec<f64>> = columns
        .iter()
        .filter(|(n, _)| n != label && Some(n.as_str()) != weight && !ignore.contains(&n.as_str()))
        .map(|(_, v)| v)
        .collect();
    let count = columns[0].1.len();
    let x = (0..count).map(|i| used.iter().map(|c| c[i]).collect()).collect();
    let mut rows = Rows::new(x, of(label), classes);
    if let Some(weight) = weight {
        rows.w = of(weight);
    }
    Ok(rows)
}
