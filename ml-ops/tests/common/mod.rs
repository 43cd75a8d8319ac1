//! Random tables of every shape, and the plain loops that kernels are compared with.
// Plain loops index several arrays at once.
#![allow(clippy::unwrap_used, clippy::panic, clippy::needless_range_loop)]

use datafusion::arrow::buffer::ScalarBuffer;
use sinew_ml::block::{Block, Column, Label};
use sinew_ml::exact::Grid;
use sinew_ml::fold::{Around, Curvature, Fold, Kernel, Layout, Loss, RoleSet, Spot, mix, uniform};
use sinew_ml::kernels::Cpu;
use sinew_ml::partial::Partial;

/// What a table looks like. Columns: `f` single, `d` double, a digit for that many categories,
/// `w` a wide category.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: usize,
    pub columns: &'static str,
    pub weight: bool,
    pub role: bool,
}

pub fn shapes() -> Vec<Shape> {
    let shape = |rows, columns, weight, role| Shape { rows, columns, weight, role };
    vec![
        shape(0, "fd3", true, true),
        shape(1, "fd3", true, true),
        shape(15, "ffffffff", false, false),
        shape(16, "d", false, false),
        shape(17, "", false, false),
        shape(257, "9", false, true),
        shape(1009, "fffffffffffff", false, false),
        shape(1024, "ffd3fdddd9fffff", true, false),
        shape(2053, "ddfff4ff2wf", true, true),
        shape(3000, "fdf3fd", false, true),
    ]
}

/// A table, column by column.
#[derive(Clone)]
pub struct Data {
    pub rows: usize,
    pub layout: Layout,
    pub numbers: Vec<Option<(Vec<f64>, bool)>>,
    pub codes: Vec<Vec<u32>>,
    pub value: Vec<f64>,
    pub weight: Option<Vec<f64>>,
    pub role: Option<Vec<u8>>,
    pub hash: Option<Vec<u32>>,
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        mix(self.0 as u32, self.0 >> 32 ^ 0x5eed)
    }
    fn unit(&mut self) -> f64 {
        uniform(self.next())
    }
}

impl Data {
    pub fn random(shape: &Shape, seed: u64) -> Self {
        let mut random = Random(seed << 40);
        let n = shape.rows;
        let mut layout = vec![];
        let (mut numbers, mut codes) = (vec![], vec![]);
        for (c, kind) in shape.columns.chars().enumerate() {
            let categories = match kind {
                'f' | 'd' => None,
                'w' => Some(700),
                digit => Some(digit.to_digit(10).unwrap()),
            };
            layout.push(categories);
            match categories {
                None => {
                    let size = [1.0, 100.0, 0.01][c % 3];
                    let x = |v: f64| if kind == 'f' { f64::from(v as f32) } else { v };
                    numbers.push(Some(((0..n).map(|_| x((random.unit() - 0.4) * size)).collect(), kind == 'f')));
                    codes.push(vec![]);
                }
                Some(k) => {
                    numbers.push(None);
                    // One more than there are: a code for none of them.
                    codes.push(
                        (0..n)
                            .map(|_| {
                                if random.unit() < 0.02 { u32::MAX } else { (random.next() % u64::from(k + 1)) as u32 }
                            })
                            .collect(),
                    );
                }
            }
        }
        Data {
            rows: n,
            layout: Layout::new(layout),
            numbers,
            codes,
            value: (0..n).map(|_| random.unit() * 10.0 - 4.0).collect(),
            weight: shape.weight.then(|| (0..n).map(|i| if i % 11 == 0 { 0.0 } else { random.unit() * 3.0 }).collect()),
            role: shape.role.then(|| (0..n).map(|_| [0, 0, 0, 1, 2, 255][(random.next() % 6) as usize]).collect()),
            hash: Some((0..n).map(|_| random.next() as u32).collect()),
        }
    }

    pub fn shuffled(&self, seed: u64) -> Self {
        let mut random = Random(seed << 20);
        let mut order: Vec<usize> = (0..self.rows).collect();
        for i in (1..order.len()).rev() {
            order.swap(i, (random.next() % (i as u64 + 1)) as usize);
        }
        fn pick<T: Copy>(v: &[T], order: &[usize]) -> Vec<T> {
            if v.is_empty() { vec![] } else { order.iter().map(|&i| v[i]).collect() }
        }
        Data {
            rows: self.rows,
            layout: self.layout.clone(),
            numbers: self.numbers.iter().map(|c| c.as_ref().map(|(v, single)| (pick(v, &order), *single))).collect(),
            codes: self.codes.iter().map(|c| pick(c, &order)).collect(),
            value: pick(&self.value, &order),
            weight: self.weight.as_ref().map(|v| pick(v, &order)),
            role: self.role.as_ref().map(|v| pick(v, &order)),
            hash: self.hash.as_ref().map(|v| pick(v, &order)),
        }
    }

    /// The table as blocks, cut before the rows `cuts`; `sliced` from longer buffers at odd offsets.
    pub fn blocks(&self, cuts: &[usize], sliced: bool) -> Vec<Block> {
        fn buffer<T: datafusion::arrow::datatypes::ArrowNativeType>(v: &[T], sliced: bool) -> ScalarBuffer<T> {
            if !sliced {
                return ScalarBuffer::from(v.to_vec());
            }
            let mut longer = vec![T::default(); 3];
            longer.extend_from_slice(v);
            longer.push(T::default());
            ScalarBuffer::from(longer).slice(3, v.len())
        }
        let mut edges = vec![0];
        edges.extend(cuts.iter().map(|c| (*c).min(self.rows)));
        edges.push(self.rows);
        edges
            .windows(2)
            .map(|w| {
                let range = w[0]..w[1];
                let columns = self.numbers.iter().zip(&self.codes).map(|(numbers, codes)| match numbers {
                    Some((v, true)) => {
                        let v: Vec<f32> = v[range.clone()].iter().map(|v| *v as f32).collect();
                        Column::F32(buffer(&v, sliced))
                    }
                    Some((v, false)) => Column::F64(buffer(&v[range.clone()], sliced)),
                    None => Column::Codes(buffer(&codes[range.clone()], sliced)),
                });
                Block {
                    rows: range.len(),
                    columns: columns.collect(),
                    label: Label::Value(buffer(&self.value[range.clone()], sliced)),
                    weight: self.weight.as_ref().map(|v| buffer(&v[range.clone()], sliced)),
                    role: self.role.as_ref().map(|v| buffer(&v[range.clone()], sliced)),
                    hash: self.hash.as_ref().map(|v| buffer(&v[range.clone()], sliced)),
                    origin: Default::default(),
                }
            })
            .collect()
    }

    /// Where the rows lie.
    #[allow(dead_code, reason = "tests of a GPU ask")]
    pub fn around(&self) -> Around {
        let spot = |values: &[f64]| {
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            let square = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len().max(1) as f64;
            let reach = values.iter().fold(0f64, |most, v| most.max((v - mean).abs()));
            Spot { mean, deviation: square.sqrt(), reach }
        };
        let numbers = self.numbers.iter().flatten().map(|(values, _)| spot(values)).collect();
        Around { numbers, label: spot(&self.value) }
    }

    /// Coordinates of row `i`.
    pub fn x(&self, i: usize) -> Vec<f64> {
        let mut x = vec![0.0; self.layout.width()];
        for (c, span) in self.layout.spans().enumerate() {
            match &self.numbers[c] {
                Some((v, _)) => x[span.offset] = v[i],
                None if (self.codes[c][i] as usize) < span.width => x[span.offset + self.codes[c][i] as usize] = 1.0,
                None => {}
            }
        }
        x
    }
}

pub fn run(cpu: &Cpu, fold: &Fold, blocks: &[Block]) -> Partial {
    let mut partial = Partial::empty(fold);
    let blocks: Vec<Block> = blocks.iter().map(|b| adapted(fold, b)).collect();
    cpu.fold_blocks(fold, &blocks, &mut partial).unwrap();
    partial
}

/// The label a kernel asks for: classes are the value's sign or its remainder.
pub fn adapted(fold: &Fold, block: &Block) -> Block {
    let mut block = block.clone();
    let Label::Value(v) = &block.label else { return block };
    let of = |kernel: &Kernel| match kernel {
        Kernel::Softmax { intercepts, .. } => Some(intercepts.len()),
        Kernel::Linear { loss: Loss::Logistic, .. } => Some(2),
        _ => None,
    };
    let classes = match &fold.kernel {
        Kernel::Scores { of: kernel } => of(kernel),
        kernel => of(kernel),
    };
    if let Some(k) = classes {
        block.label = Label::Class(v.iter().map(|v| class_of(*v, k)).collect());
        // Other rows than those of its arrays.
        block.origin = Default::default();
    }
    block
}

pub fn class_of(v: f64, k: usize) -> u32 {
    ((v + 4.0) * 1000.0) as u32 % k as u32
}

pub fn all_kernels(data: &Data) -> Vec<(&'static str, Kernel)> {
    let p = data.layout.width();
    let mut random = Random(99);
    let mut some = |n: usize, size: f64| -> Vec<f64> { (0..n).map(|_| (random.unit() - 0.5) * size).collect() };
    let categorical: Vec<bool> =
        data.layout.spans().flat_map(|s| std::iter::repeat_n(s.categorical, s.width)).collect();
    let shift: Vec<f64> = some(p, 1.0).iter().zip(&categorical).map(|(s, c)| if *c { 0.0 } else { *s }).collect();
    let scale: Vec<f64> =
        categorical.iter().enumerate().map(|(j, c)| if *c { 1.0 } else { [1.0, 0.0078125, 0.5][j % 3] }).collect();
    let weights = some(p, 0.3);
    let linear = |loss| Kernel::Linear { loss, intercept: 0.25, weights: weights.clone() };
    let softmax = |k: usize, some: &mut dyn FnMut(usize, f64) -> Vec<f64>| Kernel::Softmax {
        intercepts: some(k, 1.0),
        weights: some(k * p, 0.3),
    };
    let mut kernels = vec![
        ("moments", Kernel::Moments { shift: shift.clone(), label_shift: 0.5 }),
        ("squared", linear(Loss::Squared)),
        ("logistic", linear(Loss::Logistic)),
        ("softmax 3", softmax(3, &mut some)),
        ("softmax 11", softmax(11, &mut some)),
        ("scores linear", Kernel::Scores { of: Box::new(linear(Loss::Logistic)) }),
        ("scores softmax", Kernel::Scores { of: Box::new(softmax(4, &mut some)) }),
    ];
    if p < 100 {
        kernels.push((
            "gram",
            Kernel::Gram {
                shift: shift.clone(),
                scale: scale.clone(),
                label: Some((1.0, 0.125)),
                curvature: Curvature::Weight,
            },
        ));
        kernels.push((
            "gram logistic",
            Kernel::Gram {
                shift: shift.clone(),
                scale: scale.clone(),
                label: None,
                curvature: Curvature::Logistic { intercept: -0.1, weights: weights.clone() },
            },
        ));
    }
    let centers = |k: usize, some: &mut dyn FnMut(usize, f64) -> Vec<f64>| some(k * p, 1.0);
    for (name, k) in [("centroids 1", 1), ("centroids 6", 6)] {
        kernels.push((
            name,
            Kernel::Centroids { shift: shift.clone(), scale: scale.clone(), centers: centers(k, &mut some) },
        ));
    }
    let of = Kernel::Centroids { shift: shift.clone(), scale: scale.clone(), centers: centers(5, &mut some) };
    kernels.push(("scores centroids", Kernel::Scores { of: Box::new(of) }));
    for (name, k, keep) in [("candidates 0", 0, 10), ("candidates 3", 3, 40), ("candidates all", 3, 0)] {
        kernels.push((
            name,
            Kernel::Candidates {
                shift: shift.clone(),
                scale: scale.clone(),
                centers: centers(k, &mut some),
                salt: 5,
                factor: 0.02,
                keep,
            },
        ));
    }
    if p == 0 {
        kernels.retain(|(_, k)| !matches!(k, Kernel::Centroids { .. } | Kernel::Candidates { .. }));
        kernels.retain(|(name, _)| *name != "scores centroids");
    }
    kernels
}

pub fn fold_for(data: &Data, kernel: Kernel) -> Fold {
    let p = data.layout.width();
    let grid = |bound: f64| Grid::covering(bound).unwrap();
    let grids = match &kernel {
        Kernel::Moments { .. } => (0..1 + 2 + 2 * p).map(|i| grid([1e5, 2e5][i % 2])).collect(),
        Kernel::Linear { .. } => (0..1 + p).map(|j| grid([4e4, 4e4, 8e4][j % 3])).collect(),
        Kernel::Softmax { intercepts, .. } => (0..(1 + p) * intercepts.len()).map(|_| grid(400.0)).collect(),
        Kernel::Gram { label, .. } => {
            let n = 1 + p + usize::from(label.is_some());
            vec![grid(1e4); n * (n + 1) / 2]
        }
        Kernel::Centroids { centers, .. } => {
            let k = centers.len() / p.max(1);
            // One centre with a grid of its own takes the general road.
            (0..k * (1 + p))
                .map(|j| grid(if k == 1 || j % 5 != 2 || p.is_multiple_of(2) { 400.0 } else { 900.0 }))
                .collect()
        }
        Kernel::Candidates { .. } | Kernel::Scores { .. } | Kernel::Network { .. } | Kernel::Lesson { .. } => vec![],
    };
    Fold {
        kernel,
        layout: data.layout.clone(),
        train: RoleSet(0b101),
        eval: RoleSet::EVAL,
        sample: None,
        weight_grid: grid(3.0),
        loss_grid: grid(1e6),
        grids,
        around: None,
    }
}

/// A plain loop's sums: each with the sum of the magnitudes of its terms.
#[derive(Default)]
pub struct Naive {
    pub rows: u64,
    pub eval_rows: u64,
    pub totals: [(f64, f64); 4],
    pub sums: Vec<(f64, f64)>,
    pub gathered: Vec<(u64, Vec<f64>)>,
}

fn add(sum: &mut (f64, f64), term: f64) {
    sum.0 += term;
    sum.1 += term.abs();
}

fn margin(intercept: f64, weights: &[f64], x: &[f64]) -> f64 {
    intercept + x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>()
}

fn probabilities(intercepts: &[f64], weights: &[f64], x: &[f64]) -> (Vec<f64>, f64) {
    let p = x.len();
    let m: Vec<f64> = intercepts.iter().enumerate().map(|(k, b)| margin(*b, &weights[k * p..][..p], x)).collect();
    let top = m.iter().copied().fold(f64::MIN, f64::max);
    let sum: f64 = m.iter().map(|m| (m - top).exp()).sum();
    (m.iter().map(|m| (m - top).exp() / sum).collect(), top + sum.ln())
}

fn nearest(z: &[f64], centers: &[f64]) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (k, c) in centers.chunks_exact(z.len()).enumerate() {
        let d = z.iter().zip(c).map(|(z, c)| (z - c) * (z - c)).sum();
        if d < best.1 {
            best = (k, d);
        }
    }
    best
}

fn scaled(x: &[f64], shift: &[f64], scale: &[f64]) -> Vec<f64> {
    x.iter().zip(shift).zip(scale).map(|((x, shift), scale)| (x - shift) * scale).collect()
}

/// Whether a row counts as a training row and as a held-out one, and its weight.
pub fn counted(fold: &Fold, data: &Data, i: usize) -> (bool, bool, f64) {
    let role = data.role.as_ref().map_or(0, |r| r[i]);
    let weight = data.weight.as_ref().map_or(1.0, |w| w[i]);
    let sampled = fold.sample.is_none_or(|s| s.takes(data.hash.as_ref().unwrap()[i]));
    (fold.train.contains(role) && sampled, fold.eval.contains(role), weight)
}

pub fn naive(fold: &Fold, data: &Data) -> Naive {
    let mut out = Naive { sums: vec![(0.0, 0.0); fold.grids.len()], ..Naive::default() };
    let p = data.layout.width();
    for i in 0..data.rows {
        let (train, held, weight) = counted(fold, data, i);
        out.rows += u64::from(train);
        out.eval_rows += u64::from(held);
        let w = if train { weight } else { 0.0 };
        let e = if held { weight } else { 0.0 };
        add(&mut out.totals[0], w);
        add(&mut out.totals[2], e);
        let x = data.x(i);
        let y = data.value[i];
        let mut loss = None;
        match &fold.kernel {
            Kernel::Moments { shift, label_shift } => {
                add(&mut out.sums[0], w * w);
                add(&mut out.sums[1], w * (y - label_shift));
                add(&mut out.sums[2], w * (y - label_shift) * (y - label_shift));
                for (c, span) in data.layout.spans().enumerate() {
                    for j in span.offset..span.offset + span.width {
                        let d = x[j] - shift[j];
                        add(&mut out.sums[3 + j], w * d);
                        if data.numbers[c].is_some() {
                            add(&mut out.sums[3 + p + j], w * d * d);
                        }
                    }
                }
            }
            Kernel::Linear { loss: kind, intercept, weights } => {
                let m = margin(*intercept, weights, &x);
                let (slope, value) = match kind {
                    Loss::Squared => (m - y, (m - y) * (m - y) / 2.0),
                    Loss::Logistic => {
                        let y = f64::from(class_of(y, 2));
                        (1.0 / (1.0 + (-m).exp()) - y, (-m.abs()).exp().ln_1p() + m.max(0.0) - y * m)
                    }
                };
                loss = Some(value);
                add(&mut out.sums[0], w * slope);
                for j in 0..p {
                    add(&mut out.sums[1 + j], w * slope * x[j]);
                }
            }
            Kernel::Softmax { intercepts, weights } => {
                let k = intercepts.len();
                let y = class_of(y, k) as usize;
                let (ps, log_sum) = probabilities(intercepts, weights, &x);
                loss = Some(log_sum - margin(intercepts[y], &weights[y * p..][..p], &x));
                for c in 0..k {
                    let r = w * (ps[c] - f64::from(u8::from(c == y)));
                    add(&mut out.sums[c * (1 + p)], r);
                    for j in 0..p {
                        add(&mut out.sums[c * (1 + p) + 1 + j], r * x[j]);
                    }
                }
            }
            Kernel::Gram { shift, scale, label, curvature } => {
                let mut z = vec![1.0];
                z.extend(scaled(&x, shift, scale));
                z.extend(label.map(|(shift, scale)| (y - shift) * scale));
                let h = match curvature {
                    Curvature::Weight => w,
                    Curvature::Logistic { intercept, weights } => {
                        let s = 1.0 / (1.0 + (-margin(*intercept, weights, &x)).exp());
                        w * s * (1.0 - s)
                    }
                };
                let mut at = 0;
                for a in 0..z.len() {
                    for b in a..z.len() {
                        add(&mut out.sums[at], h * z[a] * z[b]);
                        at += 1;
                    }
                }
            }
            Kernel::Centroids { shift, scale, centers } => {
                let z = scaled(&x, shift, scale);
                let (k, d) = nearest(&z, centers);
                loss = Some(d);
                add(&mut out.sums[k * (1 + p)], w);
                for j in 0..p {
                    add(&mut out.sums[k * (1 + p) + 1 + j], w * z[j]);
                }
            }
            Kernel::Candidates { shift, scale, centers, salt, factor, .. } => {
                let z = scaled(&x, shift, scale);
                let (_, d) = nearest(&z, centers);
                if !centers.is_empty() {
                    add(&mut out.totals[1], w * d);
                }
                let key = mix(data.hash.as_ref().unwrap()[i], *salt);
                if w > 0.0 && (centers.is_empty() || uniform(key) < factor * w * d) {
                    out.gathered.push((key, z));
                }
            }
            Kernel::Scores { of } if e > 0.0 => {
                let (y, scores) = match &**of {
                    Kernel::Linear { intercept, weights, .. } => {
                        (f64::from(class_of(y, 2)), vec![margin(*intercept, weights, &x)])
                    }
                    Kernel::Softmax { intercepts, weights } => {
                        let k = intercepts.len();
                        let m = (0..k).map(|c| margin(intercepts[c], &weights[c * p..][..p], &x)).collect();
                        (f64::from(class_of(y, k)), m)
                    }
                    Kernel::Centroids { shift, scale, centers } => {
                        let (k, d) = nearest(&scaled(&x, shift, scale), centers);
                        (y, vec![k as f64, d])
                    }
                    _ => panic!("no scores"),
                };
                out.gathered.push((0, [y, e].into_iter().chain(scores).collect()));
            }
            Kernel::Scores { .. } | Kernel::Network { .. } | Kernel::Lesson { .. } => {}
        }
        if let Some(loss) = loss {
            add(&mut out.totals[1], w * loss);
            add(&mut out.totals[3], e * loss);
        }
    }
    out.gathered.sort_by(|a, b| a.partial_cmp(b).unwrap());
    if let Kernel::Candidates { keep, .. } = &fold.kernel
        && *keep > 0
    {
        out.gathered.truncate(*keep as usize);
    }
    out
}
