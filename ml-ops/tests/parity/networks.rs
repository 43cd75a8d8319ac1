//! Whole passes over networks on a GPU beside the same passes on the processor: numbers, where rows stay, and what
//! happens when the device cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sinew_ml::Result;
use sinew_ml::backend::Backend;
use sinew_ml::block::Block;
use sinew_ml::exact::Grid;
use sinew_ml::fold::{Fold, Kernel, RoleSet};
use sinew_ml::gpu::{Gpu, GpuBackend, GpuOptions};
use sinew_ml::kernels::Cpu;
use sinew_ml::network::{Activation, Network, Rule, Steps, Work};
use sinew_ml::partial::Partial;

use super::device::{open, options};
use super::fixture::{block, layout, network};

/// Numbers in front of a shard's result.
const HEAD: usize = 6;

fn opened(memory_limit: Option<u64>) -> Option<Arc<Gpu>> {
    open(&GpuOptions { memory_limit, ..options() })
}

fn close(what: &str, found: &[f64], expected: &[f64], near: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3f64, |top, v| top.max(v.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= near * size, "{what} at {i}: {found}, not {expected} (of {size})");
    }
}

fn steps(rule: Rule, rate: f64) -> Steps {
    Steps {
        rule,
        rate,
        first: 0,
        count: 9,
        per_epoch: 5,
        dropout: 0.25,
        l2: 0.01,
        mean_weight: 1.0,
        seed: 0,
        held: true,
    }
}

fn lesson(network: &Network, parameters: &[f64], work: Work) -> Result<Fold> {
    let grid = Grid::covering(1024.0)?;
    Ok(Fold {
        kernel: Kernel::Lesson { network: network.clone(), parameters: parameters.to_vec(), work, shards: 8 },
        layout: layout(),
        train: RoleSet::TRAIN,
        eval: RoleSet::EVAL,
        sample: None,
        weight_grid: grid,
        loss_grid: grid,
        grids: Vec::new(),
        around: None,
    })
}

fn on_cpu(fold: &Fold, block: &Block) -> Result<Partial> {
    let mut partial = Partial::empty(fold);
    Cpu::new().fold_blocks(fold, std::slice::from_ref(block), &mut partial)?;
    Ok(partial)
}

#[tokio::test]
async fn passes_are_those_of_the_processor() -> Result<()> {
    let Some(gpu) = opened(None) else { return Ok(()) };
    let rules = [
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::usual_adam(0.05),
    ];
    for (i, rule) in rules.into_iter().enumerate() {
        let classes = [3, 0, 2][i];
        let (block, kept) = block(700, classes, i != 1, i != 2)?;
        let network = network(&[12, 7], [Activation::Tanh, Activation::Gelu, Activation::Sigmoid][i], classes);
        let mut at = network.start(5, 3);
        let count = at.len();
        for work in [Work::Loss, Work::Gradient] {
            let fold = lesson(&network, &at, work)?;
            let expected = on_cpu(&fold, &block)?;
            let found = gpu.lesson(&fold, std::slice::from_ref(&block)).await.unwrap();
            assert_eq!((found.rows, found.eval_rows), (expected.rows, expected.eval_rows));
            assert_eq!(found.totals, expected.totals);
            close("numbers", &found.gathered.rows[0].1[..HEAD], &expected.gathered.rows[0].1[..HEAD], 1e-6);
            close("gradient", &found.gathered.rows[0].1[HEAD..], &expected.gathered.rows[0].1[HEAD..], 1e-5);
        }
        at.resize(count * (1 + rule.memory()), 0.0);
        let fold = lesson(&network, &at, Work::Steps(steps(rule, 0.02)))?;
        let expected = on_cpu(&fold, &block)?.gathered.rows.remove(0).1;
        let found = gpu.lesson(&fold, std::slice::from_ref(&block)).await.unwrap().gathered.rows.remove(0);
        assert_eq!((found.0, found.1.len()), (3, expected.len()));
        close("numbers of steps", &found.1[..HEAD], &expected[..HEAD], 1e-5);
        for (j, (found, expected)) in found.1[HEAD..].iter().zip(&expected[HEAD..]).enumerate() {
            assert!((found - expected).abs() <= 1e-4, "{rule:?} {j}: {found} {expected}");
        }
        drop(kept);
    }
    Ok(())
}

#[tokio::test]
async fn shards_stay_in_pieces_while_there_is_room() -> Result<()> {
    let Some(gpu) = opened(Some(1 << 21)) else { return Ok(()) };
    let stats = |counter: fn(&sinew_ml::gpu::Stats) -> &AtomicU64| counter(gpu.stats()).load(Ordering::Relaxed);
    // A device is tested with rows that stream.
    let streamed = stats(|s| &s.streams);
    let network = network(&[6], Activation::Tanh, 2);
    let at = network.start(5, 3);
    let fold = lesson(&network, &at, Work::Gradient)?;
    let (large, kept) = block(16_000, 2, true, true)?;
    let expected = on_cpu(&fold, &large)?.gathered.rows.remove(0).1;
    for pass in 0..2 {
        let before = stats(|s| &s.uploads);
        let found = gpu.lesson(&fold, std::slice::from_ref(&large)).await.unwrap().gathered.rows.remove(0).1;
        close("gradient", &found, &expected, 1e-5);
        // More than one piece, each uploaded once.
        let uploads = stats(|s| &s.uploads) - before;
        assert!(if pass == 0 { uploads > 1 } else { uploads == 0 }, "{uploads}");
    }
    assert_eq!(stats(|s| &s.streams), streamed);
    let (larger, other) = block(60_000, 2, true, true)?;
    let expected = on_cpu(&fold, &larger)?.gathered.rows.remove(0).1;
    let found = gpu.lesson(&fold, std::slice::from_ref(&larger)).await.unwrap().gathered.rows.remove(0).1;
    close("gradient of what does not fit", &found, &expected, 1e-5);
    assert!(stats(|s| &s.streams) > streamed);
    drop((kept, other));
    Ok(())
}

#[tokio::test]
async fn a_device_that_cannot_leaves_the_pass_to_the_processor() -> Result<()> {
    let Some(gpu) = opened(None) else { return Ok(()) };
    let network = network(&[6], Activation::Relu, 2);
    let mut at = network.start(5, 3);
    let (block, _) = block(100, 2, false, false)?;
    let backend = GpuBackend::new(Arc::clone(&gpu), Arc::new(Cpu::new()));
    let blocks = std::slice::from_ref(&block);
    // Numbers that leave single precision.
    at[0] = 1e300;
    let fold = lesson(&network, &at, Work::Loss)?;
    let mut partial = Partial::empty(&fold);
    let ran = backend.fold(&fold, blocks, &mut partial).await?;
    assert!(ran.device.starts_with("cpu") && ran.warning.unwrap().contains("left single precision"));
    assert_eq!(partial, on_cpu(&fold, &block)?);
    // A class that is none: the processor says so.
    let few = Network { outputs: 1, ..network.clone() };
    let wrong = lesson(&few, &few.start(5, 3), Work::Loss)?;
    let refused = backend.fold(&wrong, blocks, &mut Partial::empty(&wrong)).await;
    assert!(refused.unwrap_err().to_string().contains("class"));
    // A device that is lost between two passes.
    at[0] = 0.0;
    let fold = lesson(&network, &at, Work::Loss)?;
    let ran = backend.fold(&fold, blocks, &mut Partial::empty(&fold)).await?;
    assert!(ran.device.starts_with("gpu"), "{ran:?}");
    gpu.destroy().await;
    let mut partial = Partial::empty(&fold);
    let ran = backend.fold(&fold, blocks, &mut partial).await?;
    assert!(ran.device.starts_with("cpu") && ran.warning.unwrap().contains("the device was lost"));
    assert_eq!(partial, on_cpu(&fold, &block)?);
    Ok(())
}

#[tokio::test]
async fn held_out_rows_are_scored_on_the_device() -> Result<()> {
    let Some(gpu) = opened(None) else { return Ok(()) };
    let backend = GpuBackend::new(gpu, Arc::new(Cpu::new()));
    for (classes, weighted) in [(0, false), (0, true), (4, false), (4, true)] {
        let network = network(&[17, 9], Activation::Tanh, classes);
        let parameters = network.start(66, 3);
        let mut fold = lesson(&network, &parameters, Work::Loss)?;
        fold.kernel = Kernel::Scores { of: Box::new(Kernel::Network { network, parameters }) };
        fold.train = RoleSet::NONE;
        let (mut blocks, mut expected) = (Vec::new(), Partial::empty(&fold));
        for rows in [300, 2, 0, 65] {
            let (mut block, _) = block(rows, classes, weighted, false)?;
            // Weights of 0 count for nothing; others tell rows apart, whose order is that of label, weight and scores.
            block.weight = block.weight.map(|weights| {
                let other = |(i, w): (usize, &f64)| if *w == 2.5 { 0.0 } else { *w + i as f64 / 1024.0 };
                weights.iter().enumerate().map(other).collect()
            });
            blocks.push(block);
        }
        Cpu::new().fold_blocks(&fold, &blocks, &mut expected)?;
        let mut found = Partial::empty(&fold);
        let ran = backend.fold(&fold, &blocks, &mut found).await?;
        assert!(ran.device.starts_with("gpu (") && ran.warning.is_none() && ran.gpu.calls == 1, "{ran:?}");
        assert!(found.single && !expected.single);
        assert_eq!(found.gathered.rows.len(), expected.gathered.rows.len());
        assert!(found.gathered.rows.len() > 20);
        if classes > 0 && !weighted {
            // Rows of one class and no weights may change places.
            let sum = |partial: &Partial| partial.gathered.rows.iter().flat_map(|row| &row.1).sum::<f64>();
            close("all scores", &[sum(&found)], &[sum(&expected)], 1e-4);
            continue;
        }
        for ((_, found), (_, expected)) in found.gathered.rows.iter().zip(&expected.gathered.rows) {
            close("label, weight and scores", found, expected, 1e-5);
        }
    }
    Ok(())
}
