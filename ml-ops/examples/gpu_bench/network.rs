//! Steps of a network over resident rows, and its scores of rows that are uploaded for it.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt32Array};
use sinew_ml::block::{Block, HASH, LABEL};
use sinew_ml::exact::Grid;
use sinew_ml::fold::{Fold, Kernel, Layout, RoleSet, mix, uniform};
use sinew_ml::gpu::Gpu;
use sinew_ml::kernels::{self, Cpu, Scoring};
use sinew_ml::network::{Activation, Head, Network, Rule, Steps, Work};
use sinew_ml::partial::Partial;

use super::Line;

/// Columns, units of each of two hidden layers, classes, and rows of a batch, at full size.
const INPUTS: usize = 784;
const UNITS: usize = 1024;
const CLASSES: usize = 10;
const BATCH: usize = 8192;
/// Steps of a measurement.
const STEPS: u32 = 20;

fn number(i: usize, salt: u64) -> f64 {
    uniform(mix(i as u32, salt)) - 0.5
}

/// The network and `batches` batches of rows; each step of `scale` halves every size.
struct Sample {
    network: Network,
    layout: Layout,
    batch: usize,
    rows: RecordBatch,
}

fn sample(scale: u32, batches: usize) -> Result<Sample, Box<dyn Error>> {
    let [inputs, units, batch] = [INPUTS, UNITS, BATCH].map(|size| (size >> scale).max(16));
    let rows = batches * batch;
    let mut columns: Vec<(String, ArrayRef)> = (0..inputs)
        .map(|j| {
            let values = (0..rows).map(|i| number(i, j as u64) as f32);
            (format!("c{j}"), Arc::new(Float32Array::from_iter_values(values)) as ArrayRef)
        })
        .collect();
    let class = |i: usize| mix(i as u32, 98) as u32 % CLASSES as u32;
    columns.push((LABEL.into(), Arc::new(UInt32Array::from_iter_values((0..rows).map(class)))));
    columns.push((HASH.into(), Arc::new(UInt32Array::from_iter_values(0..rows as u32))));
    let network = Network {
        shift: vec![0.0; inputs],
        scale: vec![1.0; inputs],
        hidden: vec![units, units],
        outputs: CLASSES,
        activation: Activation::Relu,
        head: Head::Softmax,
    };
    let layout = Layout::new((0..inputs).map(|_| None));
    Ok(Sample { network, layout, batch, rows: RecordBatch::try_from_iter(columns)? })
}

/// Prints the time of one step on the device and on one thread of the processor.
pub async fn steps(gpu: &Gpu, scale: u32, line: &Line) -> Result<(), Box<dyn Error>> {
    let Sample { network, layout, batch, rows } = sample(scale, 4)?;
    let (inputs, units) = (network.shift.len(), network.hidden[0]);
    let block = Block::from_batch(&rows)?;
    let rule = Rule::Sgd { momentum: 0.9, nesterov: true };
    let mut parameters = network.start(inputs, 7);
    parameters.resize(parameters.len() * (1 + rule.memory()), 0.0);
    let grid = Grid::covering(1024.0)?;
    let fold = |count: u32| Fold {
        kernel: Kernel::Lesson {
            network: network.clone(),
            parameters: parameters.clone(),
            work: Work::Steps(Steps {
                rule,
                rate: 0.01,
                first: 0,
                count,
                per_epoch: 4,
                dropout: 0.0,
                l2: 0.0,
                mean_weight: 1.0,
                seed: 1,
                held: false,
            }),
            shards: 1,
        },
        layout: layout.clone(),
        train: RoleSet::TRAIN,
        eval: RoleSet::EVAL,
        sample: None,
        weight_grid: grid,
        loss_grid: grid,
        grids: Vec::new(),
        around: None,
    };
    let blocks = std::slice::from_ref(&block);
    // Parameters are uploaded and read back once for all steps of a pass, so two passes of different lengths tell what
    // a step takes; the first one uploads the rows.
    let (short, long) = (fold(1), fold(1 + STEPS));
    let mut step = f64::MAX;
    for _ in 0..4 {
        let mut taken = [0.0; 2];
        for (taken, fold) in taken.iter_mut().zip([&short, &long]) {
            let since = Instant::now();
            gpu.lesson(fold, blocks).await.map_err(|e| e.to_string())?;
            *taken = since.elapsed().as_secs_f64();
        }
        step = step.min((taken[1] - taken[0]).max(1e-9) / f64::from(STEPS));
    }
    let since = Instant::now();
    Cpu::new().fold_blocks(&short, blocks, &mut Partial::empty(&short))?;
    let cpu = since.elapsed().as_secs_f64();
    // Forward, and twice as much backward, except that nothing is asked before the first layer.
    let weights = (inputs * units + units * units + units * CLASSES) as f64;
    let operations = batch as f64 * (6.0 * weights - 2.0 * (inputs * units) as f64);
    let name = format!("network step {inputs}-{units}-{units}-{CLASSES}, batch {batch}");
    line.print(&name, step, 4.0 * (batch * inputs) as f64, operations, Some(cpu));
    Ok(())
}

/// Prints the time of scoring rows on the device, conversion, upload and results included, and on one thread of the
/// processor.
pub async fn scores(gpu: &Gpu, scale: u32, line: &Line) -> Result<(), Box<dyn Error>> {
    let Sample { network, layout, batch, rows } = sample(scale, 8)?;
    let (inputs, units) = (network.shift.len(), network.hidden[0]);
    let weights = (inputs * units + units * units + units * CLASSES) as f64;
    let parameters = network.start(inputs, 7);
    let scoring = Arc::new(Scoring { kernel: Kernel::Network { network, parameters }, layout });
    let blocks = [Block::from_batch(&rows)?];
    let mut best = f64::MAX;
    for _ in 0..4 {
        let since = Instant::now();
        gpu.score_counted(&scoring, &blocks).await.0.map_err(|e| e.to_string())?;
        best = best.min(since.elapsed().as_secs_f64());
    }
    let part = Block::from_batch(&rows.slice(0, batch))?;
    let since = Instant::now();
    kernels::scores(&scoring, &part)?;
    let cpu = since.elapsed().as_secs_f64() * rows.num_rows() as f64 / batch as f64;
    let name = format!("scores of {inputs}-{units}-{units}-{CLASSES}, {} rows", rows.num_rows());
    let count = rows.num_rows() as f64;
    line.print(&name, best, 4.0 * count * inputs as f64, 2.0 * count * weights, Some(cpu));
    Ok(())
}
