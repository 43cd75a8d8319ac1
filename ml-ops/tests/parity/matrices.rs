//! Products and steps of networks on a GPU against plain loops in double precision, over edges of tiles.

use sinew_ml::gpu::Activation;
use sinew_ml::gpu::matrix::Step;
use sinew_ml::gpu::shaders::ACTIVATIONS;

use super::device::{open, options, seed};

struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(seed())
    }

    fn values(&mut self, n: usize) -> Vec<f32> {
        let mut one = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..n).map(|_| one()).collect()
    }
}

/// The normal distribution function, by a series of the error function whose terms have one sign.
fn normal(v: f64) -> f64 {
    let x = v / 2f64.sqrt();
    let (mut term, mut sum) = (x, x);
    for n in 1..400 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + sum * (-x * x).exp() / std::f64::consts::PI.sqrt()
}

fn density(v: f64) -> f64 {
    (-v * v / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

fn applied(activation: Activation, v: f64) -> f64 {
    match activation {
        Activation::Identity => v,
        Activation::Relu => v.max(0.0),
        Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        Activation::Tanh => v.tanh(),
        Activation::Gelu => v * normal(v),
    }
}

#[tokio::test]
async fn products_agree_with_plain_loops() {
    let Some(gpu) = open(&options()) else { return };
    let mut random = Random::new();
    let shapes = [(1, 1, 1), (3, 5, 7), (64, 64, 16), (65, 63, 17), (130, 129, 33), (200, 70, 260), (5, 66, 2100)];
    for (i, (m, n, k)) in shapes.into_iter().enumerate() {
        for bits in 0..16 {
            let on = |b: u32| bits >> b & 1 == 1;
            let (ta, tb, with_bias, add) = (on(0), on(1), on(2), on(3));
            let activation = ACTIVATIONS[(i + bits as usize) % 5];
            let (a, b) = (random.values(m * k), random.values(k * n));
            let (bias, start) = (random.values(n), random.values(m * n));
            let shape = |rows, columns, turned: bool| if turned { (columns, rows) } else { (rows, columns) };
            let ((ar, ac), (br, bc)) = (shape(m, k, ta), shape(k, n, tb));
            let ga = gpu.matrix(ar, ac, &a).await.unwrap();
            let gb = gpu.matrix(br, bc, &b).await.unwrap();
            let gc = gpu.matrix(m, n, &start).await.unwrap();
            let mut step = Step::product(&ga, &gb, &gc).transposed(ta, tb).activation(activation);
            if with_bias {
                step = step.bias(&gpu.matrix(1, n, &bias).await.unwrap());
            }
            if add {
                step = step.added();
            }
            gpu.steps(vec![step]).await.unwrap();
            let found = gpu.values(&gc).await.unwrap();
            assert_eq!(found.len(), m * n);
            for r in 0..m {
                for c in 0..n {
                    let entry = |v: &[f32], at: usize| f64::from(v[at]);
                    let term = |t: usize| {
                        entry(&a, if ta { t * m + r } else { r * k + t })
                            * entry(&b, if tb { c * k + t } else { t * n + c })
                    };
                    let mut sum: f64 = (0..k).map(term).sum();
                    let size: f64 = 1.0 + (0..k).map(|t| term(t).abs()).sum::<f64>();
                    sum += if with_bias { entry(&bias, c) } else { 0.0 };
                    sum += if add { entry(&start, r * n + c) } else { 0.0 };
                    let expected = applied(activation, sum);
                    let found = f64::from(found[r * n + c]);
                    assert!(
                        (found - expected).abs() <= 2e-6 * size,
                        "{m} {n} {k} {bits} {activation:?}: {found} {expected}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn steps_over_entries_agree_with_plain_loops() {
    let Some(gpu) = open(&options()) else { return };
    let mut random = Random::new();
    for (rows, columns) in [(1, 1), (7, 5), (300, 33)] {
        let (a, b) = (random.values(rows * columns), random.values(rows * columns));
        let (ga, gb) = (gpu.matrix(rows, columns, &a).await.unwrap(), gpu.matrix(rows, columns, &b).await.unwrap());
        let out = gpu.matrix(rows, columns, &[]).await.unwrap();
        let sums = gpu.matrix(1, columns, &[]).await.unwrap();
        let combine = Step::Combine { a: ga.clone(), alpha: 2.0, b: gb.clone(), beta: -0.5, c: out.clone() };
        gpu.steps(vec![combine, Step::SumRows { a: ga.clone(), c: sums.clone(), add: false }]).await.unwrap();
        let found = gpu.values(&out).await.unwrap();
        assert!(found.iter().zip(a.iter().zip(&b)).all(|(c, (a, b))| (c - (2.0 * a - 0.5 * b)).abs() < 1e-6));
        for (j, sum) in gpu.values(&sums).await.unwrap().iter().enumerate() {
            let expected: f64 = (0..rows).map(|r| f64::from(a[r * columns + j])).sum();
            assert!((f64::from(*sum) - expected).abs() < 1e-5 * rows as f64);
        }
        for activation in ACTIVATIONS {
            let (gradient, output) = (ga.clone(), gb.clone());
            gpu.steps(vec![Step::Backward { gradient, output, activation, c: out.clone() }]).await.unwrap();
            let slope = |o: f32| match activation {
                Activation::Identity => 1.0,
                Activation::Relu => f32::from(u8::from(o > 0.0)),
                Activation::Sigmoid => o * (1.0 - o),
                Activation::Tanh => 1.0 - o * o,
                Activation::Gelu => (normal(f64::from(o)) + f64::from(o) * density(f64::from(o))) as f32,
            };
            let found = gpu.values(&out).await.unwrap();
            assert!(found.iter().zip(a.iter().zip(&b)).all(|(c, (a, b))| (c - a * slope(*b)).abs() < 1e-6));
        }
    }
    let small = gpu.matrix(2, 3, &[]).await.unwrap();
    let wrong = gpu.steps(vec![Step::product(&small, &small, &small)]).await;
    assert!(wrong.unwrap_err().to_string().contains("[2, 3] times [2, 3]"));
}
