//! Scores of a GPU against those of the processor in double precision: every kernel that has scores, shapes around the
//! edges of tiles, blocks that are cut and sliced; then numbers it cannot hold, and a device that is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::common::{Data, Shape, all_kernels};
use super::device::{open, options, seed, seeds, shapes};
use sinew_ml::backend::Backend;
use sinew_ml::fold::{Kernel, Layout};
use sinew_ml::gpu::{Gpu, GpuBackend, GpuOptions};
use sinew_ml::kernels::{Cpu, Scoring, scores};
use sinew_ml::network::{Activation, Head, Network};

/// Networks over a layout: a classifier with two hidden layers, and a regression with none.
fn networks(layout: &Layout) -> Vec<(&'static str, Kernel)> {
    let categorical: Vec<bool> = layout.spans().flat_map(|s| vec![s.categorical; s.width]).collect();
    let pick = |other: f64, own: f64| categorical.iter().map(|c| if *c { other } else { own }).collect::<Vec<_>>();
    let network = |hidden: &[usize], outputs, activation, head| {
        let (shift, scale) = (pick(0.0, 0.25), pick(1.0, 0.5));
        Network { shift, scale, hidden: hidden.to_vec(), outputs, activation, head }
    };
    let kernel = |network: Network| {
        let parameters = network.start(layout.width().max(1), 5);
        Kernel::Network { network, parameters }
    };
    vec![
        ("network 5", kernel(network(&[33, 6], 5, Activation::Gelu, Head::Softmax))),
        ("network 1", kernel(network(&[], 1, Activation::Relu, Head::Squared { center: 0.4, scale: 1.5 }))),
        ("network 70", kernel(network(&[65], 70, Activation::Tanh, Head::Softmax))),
    ]
}

/// Every kernel that has scores.
fn scored(data: &Data) -> Vec<(&'static str, Arc<Scoring>)> {
    let known =
        |kernel: &Kernel| matches!(kernel, Kernel::Linear { .. } | Kernel::Softmax { .. } | Kernel::Centroids { .. });
    let kernels = all_kernels(data).into_iter().filter(|(_, kernel)| known(kernel)).chain(networks(&data.layout));
    kernels.map(|(name, kernel)| (name, Arc::new(Scoring { kernel, layout: data.layout.clone() }))).collect()
}

/// What the terms of a row's score come to without their signs.
fn size(scoring: &Scoring, x: &[f64], k: usize) -> f64 {
    match &scoring.kernel {
        Kernel::Linear { intercept, weights, .. } => {
            intercept.abs() + x.iter().zip(weights).map(|(x, w)| (x * w).abs()).sum::<f64>()
        }
        Kernel::Softmax { intercepts, weights } => {
            let own = &weights[k * x.len()..(k + 1) * x.len()];
            intercepts[k].abs() + x.iter().zip(own).map(|(x, w)| (x * w).abs()).sum::<f64>()
        }
        Kernel::Centroids { shift, scale, centers } => {
            let own = &centers[k * x.len()..(k + 1) * x.len()];
            let z = x.iter().zip(shift).zip(scale).map(|((x, shift), scale)| ((x - shift) * scale).abs());
            z.zip(own).map(|(z, centre)| (z + centre.abs()).powi(2)).sum()
        }
        // What goes into a network's first units, which are as large.
        Kernel::Network { network, .. } => {
            let z =
                x.iter().zip(&network.shift).zip(&network.scale).map(|((x, shift), scale)| ((x - shift) * scale).abs());
            1.0 + z.sum::<f64>()
        }
        _ => 1.0,
    }
}

async fn every_score(gpu: &Gpu) {
    let mut ran = std::collections::BTreeMap::<&str, usize>::new();
    for (shape, seed) in seeds().flat_map(|seed| shapes().into_iter().map(move |shape| (shape, seed))) {
        let data = Data::random(&shape, seed);
        for (name, scoring) in scored(&data) {
            let title = format!("{name} {shape:?}");
            for (cuts, sliced) in [(&[][..], false), (&[3, 70, 1500][..], true)] {
                let blocks = data.blocks(cuts, sliced);
                let found = match gpu.score_counted(&scoring, &blocks).await.0 {
                    Ok(found) => found,
                    Err(refusal) => {
                        assert!(refusal.is_planned(), "{title}: {refusal}");
                        continue;
                    }
                };
                *ran.entry(name).or_default() += 1;
                assert_eq!(found.len(), blocks.len(), "{title}");
                let mut first = 0;
                for (found, block) in found.iter().zip(&blocks) {
                    let expected = scores(&scoring, block).unwrap();
                    assert_eq!(found.len(), expected.len(), "{title}");
                    for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
                        assert_eq!(found.len(), block.rows, "{title}");
                        for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                            let allowed = 1e-5 * size(&scoring, &data.x(first + i), k).max(expected.abs()) + 1e-9;
                            assert!((found - expected).abs() <= allowed, "{title} {i} {k}: {found} {expected}");
                        }
                    }
                    first += block.rows;
                }
            }
        }
    }
    for name in
        ["squared", "logistic", "softmax 11", "centroids 1", "centroids 6", "network 1", "network 5", "network 70"]
    {
        let count = ran.get(name).copied().unwrap_or(0);
        assert!(count >= 10, "{name} ran {count} times only: {ran:?}");
    }
}

#[tokio::test]
async fn scores_agree_with_double_precision() {
    let Some(gpu) = open(&options()) else { return };
    every_score(&gpu).await;
}

#[tokio::test]
async fn scores_agree_with_bounds_checks() {
    let Some(gpu) = open(&GpuOptions { checked: true, ..options() }) else { return };
    every_score(&gpu).await;
}

fn wide() -> Shape {
    Shape { rows: 3000, columns: "fdwf3fdw", weight: false, role: false }
}

#[tokio::test]
async fn a_network_is_uploaded_once_and_leaves_with_its_model() {
    let Some(gpu) = open(&options()) else { return };
    let data = Data::random(&wide(), seed());
    let blocks = data.blocks(&[1000], false);
    let uploaded = || gpu.stats().uploaded_bytes.load(Ordering::Relaxed);
    let (_, scoring) = scored(&data).pop().unwrap();
    let (mut costs, mut found) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let before = uploaded();
        found.push(gpu.score_counted(&scoring, &blocks).await.0.unwrap());
        costs.push(uploaded() - before);
    }
    assert!(found[0] == found[1], "the same rows on the same device give the same bits");
    let Kernel::Network { parameters, .. } = &scoring.kernel else { panic!("the last one is a network") };
    assert!(costs[0] >= costs[1] + 4 * parameters.len() as u64, "{costs:?}, {} parameters", parameters.len());
    // A copy of the model finds what the first one left.
    let resident = || gpu.stats().resident_bytes.load(Ordering::Relaxed);
    assert!(resident() >= 4 * parameters.len() as u64);
    let other = Arc::new(Scoring::clone(&scoring));
    drop(scoring);
    let before = uploaded();
    assert!(gpu.score_counted(&other, &blocks).await.0.unwrap() == found[0]);
    assert_eq!(uploaded() - before, costs[1]);
    drop(other);
    let (_, linear) = scored(&data).remove(0);
    gpu.score_counted(&linear, &blocks).await.0.unwrap();
    assert_eq!(resident(), 0);
}

#[tokio::test]
async fn a_column_far_from_zero_keeps_its_digits() {
    let Some(gpu) = open(&options()) else { return };
    let mut data = Data::random(&Shape { rows: 500, columns: "dd", weight: false, role: false }, seed());
    let (values, _) = data.numbers[0].as_mut().unwrap();
    values.iter_mut().for_each(|v| *v = *v * 1e-3 + 1.7e9);
    for (name, scoring) in scored(&data).into_iter().filter(|(name, _)| *name == "squared") {
        let mut scoring = Scoring::clone(&scoring);
        if let Kernel::Linear { intercept, weights, .. } = &mut scoring.kernel {
            *intercept = -1.7e9 * weights[0];
        }
        let (scoring, blocks) = (Arc::new(scoring), data.blocks(&[], false));
        let found = gpu.score_counted(&scoring, &blocks).await.0.unwrap();
        let expected = scores(&scoring, &blocks[0]).unwrap();
        // The processor's own margins have lost what double precision loses near 1e9.
        let near = found[0][0].iter().zip(&expected[0]).all(|(found, expected)| (found - expected).abs() < 1e-5);
        assert!(near, "{name}");
    }
}

#[tokio::test]
async fn a_row_keeps_its_digits_beside_one_that_is_far_away() {
    let Some(gpu) = open(&options()) else { return };
    let mut data = Data::random(&Shape { rows: 300, columns: "dd", weight: false, role: false }, seed());
    let (values, _) = data.numbers[0].as_mut().unwrap();
    values[7] = 1e9;
    let blocks = data.blocks(&[], false);
    for (name, scoring) in scored(&data).into_iter().filter(|(name, _)| !name.starts_with("network")) {
        let found = gpu.score_counted(&scoring, &blocks).await.0.unwrap().remove(0);
        let expected = scores(&scoring, &blocks[0]).unwrap();
        for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                let allowed = 1e-5 * size(&scoring, &data.x(i), k).max(expected.abs()) + 1e-9;
                assert!((found - expected).abs() <= allowed, "{name} {i} {k}: {found} {expected}");
            }
        }
    }
}

#[tokio::test]
async fn a_device_that_cannot_leaves_the_scores_to_the_cpu() {
    let Some(gpu) = open(&options()) else { return };
    let backend = GpuBackend::new(Arc::clone(&gpu), Arc::new(Cpu::new()));
    let data = Data::random(&wide(), seed());
    let blocks = data.blocks(&[], false);
    let (_, scoring) = scored(&data).remove(0);
    let expected = vec![scores(&scoring, &blocks[0]).unwrap()];
    // Numbers that leave single precision.
    let mut large = Scoring::clone(&scoring);
    if let Kernel::Linear { weights, .. } = &mut large.kernel {
        weights[0] = 1e300;
    }
    let (large, ran) = (Arc::new(large.clone()), backend.score(&Arc::new(large), &blocks).await.unwrap());
    assert!(ran.1.device.starts_with("cpu") && ran.1.warning.unwrap().contains("left single precision"));
    assert_eq!(ran.0, [scores(&large, &blocks[0]).unwrap()]);
    // Distances over features with many categories have no kernel: that was known, and is no reason for a warning.
    let (_, centroids) = scored(&data).into_iter().find(|(name, _)| *name == "centroids 6").unwrap();
    let (_, ran) = backend.score(&centroids, &blocks).await.unwrap();
    assert!(ran.device.starts_with("cpu") && ran.warning.is_none());
    let (_, ran) = backend.score(&scoring, &blocks).await.unwrap();
    assert!(ran.device.starts_with("gpu (") && ran.warning.is_none(), "{ran:?}");
    assert_eq!((ran.gpu.calls, ran.gpu.fallbacks), (1, 0));
    gpu.destroy().await;
    let (found, ran) = backend.score(&scoring, &blocks).await.unwrap();
    assert!(ran.device.starts_with("cpu") && ran.warning.unwrap().contains("lost"));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn callers_at_once_get_their_own_rows() {
    let Some(gpu) = open(&options()) else { return };
    let data = Data::random(&wide(), seed());
    let (_, scoring) = scored(&data).pop().unwrap();
    let tasks: Vec<_> = [0usize, 500, 1000, 2000]
        .into_iter()
        .map(|cut| {
            let (gpu, scoring, blocks) = (Arc::clone(&gpu), Arc::clone(&scoring), data.blocks(&[cut], false));
            tokio::spawn(async move { (gpu.score_counted(&scoring, &blocks).await.0.unwrap(), blocks) })
        })
        .collect();
    for task in tasks {
        let (found, blocks) = task.await.unwrap();
        for (found, block) in found.iter().zip(&blocks) {
            let expected = scores(&scoring, block).unwrap();
            let near = |(found, expected): (&f64, &f64)| (found - expected).abs() <= 1e-5 * expected.abs().max(1.0);
            assert!(found.iter().flatten().zip(expected.iter().flatten()).all(near));
        }
    }
}
