//! What a device of this machine does: copies, a matrix product, and the passes of trainings over resident rows,
//! each beside what one thread of the processor needs for it. `of copy` is the part of the bandwidth of a copy that the
//! rows are read with, `of product` the part of the product's operations a second.
//!
//! ```text
//! cargo run --release -p sinew-ml --example gpu_bench -- [--scale N] [--adapter NAME]
//! ```
//! `--scale 0` is the full size (2^24 rows, products of 8192); each step up halves the rows twice and the edge of
//! the products once. Software adapters need SINEW_GPU_ALLOW_SOFTWARE=1 and a scale of 5 or more.

#[path = "gpu_bench/network.rs"]
mod network;

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch, UInt32Array};
use sinew_ml::block::{Block, LABEL};
use sinew_ml::exact::Grid;
use sinew_ml::fold::{Curvature, Fold, Kernel, Layout, Loss, RoleSet, mix, uniform};
use sinew_ml::gpu::matrix::Step;
use sinew_ml::gpu::{Gpu, GpuOptions};
use sinew_ml::kernels::Cpu;
use sinew_ml::partial::Partial;

/// Rows of a block, as the feature cache makes them.
const BLOCK_ROWS: usize = 65_536;
/// Rows that the processor is measured over; its time for more is in proportion.
const CPU_ROWS: usize = 1 << 17;

struct Case {
    name: &'static str,
    rows: usize,
    columns: usize,
    classes: u32,
    kernel: Box<dyn Fn(usize) -> Kernel>,
    sums: Box<dyn Fn(usize) -> usize>,
    /// Floating-point operations for each number of the rows.
    operations: f64,
}

fn number(i: usize, salt: u64) -> f64 {
    uniform(mix(i as u32, salt)) - 0.5
}

fn cases(rows: usize) -> Vec<Case> {
    let weights = |n: usize| (0..n).map(|j| number(j, 7) * 0.1).collect::<Vec<_>>();
    let linear = move |d| Kernel::Linear { loss: Loss::Logistic, intercept: 0.1, weights: weights(d) };
    let softmax = move |k: usize| {
        move |d| Kernel::Softmax { intercepts: weights(k), weights: (0..k * d).map(|j| number(j, 9) * 0.1).collect() }
    };
    let gram = |d| Kernel::Gram { shift: vec![0.0; d], scale: vec![1.0; d], label: None, curvature: Curvature::Weight };
    let centers = |d| Kernel::Centroids {
        shift: vec![0.0; d],
        scale: vec![1.0; d],
        centers: (0..256 * d).map(|j| number(j, 11)).collect(),
    };
    let of = |name, rows: usize, columns, classes, kernel: Box<dyn Fn(usize) -> Kernel>, sums, operations| Case {
        name,
        rows: rows.max(1024),
        columns,
        classes,
        kernel,
        sums,
        operations,
    };
    vec![
        of("logistic gradient, 64 columns", rows, 64, 2, Box::new(linear), Box::new(|d| d + 1), 4.0),
        of(
            "softmax of 10 classes, 784 columns",
            rows / 16,
            784,
            10,
            Box::new(softmax(10)),
            Box::new(|d| 10 * (d + 1)),
            40.0,
        ),
        of(
            "softmax of 1000 classes, 256 columns",
            rows / 64,
            256,
            1000,
            Box::new(softmax(1000)),
            Box::new(|d| 1000 * (d + 1)),
            4000.0,
        ),
        of(
            "cross products, 256 columns",
            rows / 16,
            256,
            0,
            Box::new(gram),
            Box::new(|d| (d + 1) * (d + 2) / 2),
            257.0,
        ),
        of(
            "k-means of 256 centres, 32 columns",
            rows / 4,
            32,
            0,
            Box::new(centers),
            Box::new(|d| 256 * (d + 1)),
            256.0 * 5.0,
        ),
    ]
}

fn batches(case: &Case) -> Result<Vec<RecordBatch>, Box<dyn Error>> {
    let block = |first: usize| -> Result<RecordBatch, Box<dyn Error>> {
        let rows = BLOCK_ROWS.min(case.rows - first);
        let mut columns: Vec<(String, ArrayRef)> = (0..case.columns)
            .map(|j| {
                let values = (first..first + rows).map(|i| number(i, j as u64) as f32);
                (format!("c{j}"), Arc::new(Float32Array::from_iter_values(values)) as ArrayRef)
            })
            .collect();
        let label: ArrayRef = match case.classes {
            0 => Arc::new(Float64Array::from_iter_values((first..first + rows).map(|i| number(i, 99)))),
            k => Arc::new(UInt32Array::from_iter_values((first..first + rows).map(|i| mix(i as u32, 98) as u32 % k))),
        };
        columns.push((LABEL.into(), label));
        Ok(RecordBatch::try_from_iter(columns)?)
    };
    (0..case.rows).step_by(BLOCK_ROWS).map(block).collect()
}

fn fold_of(case: &Case) -> Result<Fold, Box<dyn Error>> {
    let grid = Grid::covering(1024.0)?;
    Ok(Fold {
        kernel: (case.kernel)(case.columns),
        layout: Layout::new((0..case.columns).map(|_| None)),
        train: RoleSet::TRAIN,
        eval: RoleSet::NONE,
        sample: None,
        weight_grid: grid,
        loss_grid: grid,
        grids: vec![grid; (case.sums)(case.columns)],
        around: None,
    })
}

/// How the rows of the table are printed.
struct Line {
    /// Bytes a second of a copy, read and written.
    copied: f64,
    /// Operations a second of the product.
    product: f64,
}

impl Line {
    const HEAD: &str = "                                              device ms         GB/s  of copy      GFLOP/s  of product    1 thread ms";

    fn print(&self, name: &str, seconds: f64, bytes: f64, operations: f64, cpu: Option<f64>) {
        let (rate, work) = (bytes / seconds, operations / seconds);
        let part = |of: f64, known: bool| if known { format!("{:.0} %", 100.0 * of) } else { String::new() };
        let cpu = cpu.map_or(String::new(), |cpu| format!("{:.2}", cpu * 1e3));
        println!(
            "{name:42} {:12.3} {:12.1} {:>8} {:12.1} {:>11} {cpu:>14}",
            seconds * 1e3,
            rate / 1e9,
            part(rate / self.copied, true),
            work / 1e9,
            part(work / self.product, operations > 0.0),
        );
    }
}

fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scale: u32 = option("--scale").map_or(Ok(0), |text| text.parse())?;
    let software = std::env::var("SINEW_GPU_ALLOW_SOFTWARE").is_ok();
    let gpu = Gpu::open(option("--adapter").as_deref(), &GpuOptions { software, ..GpuOptions::default() })?;
    let adapter = gpu.adapter();
    println!("device: {} ({}, {})", adapter.name, adapter.kind, adapter.driver);
    if adapter.software {
        println!("This adapter is software: the numbers say that kernels run, not how fast a GPU is.");
    }
    println!("{}", Line::HEAD);
    let bytes = (1u64 << 30 >> (2 * scale).min(10)).max(1 << 20);
    let copied = gpu.copy_rate(bytes, 10).await.map_err(|e| e.to_string())?;
    let mut line = Line { copied, product: f64::INFINITY };
    line.print("copy, bytes read and written", 2.0 * bytes as f64 / copied, 2.0 * bytes as f64, 0.0, None);
    let edge = (8192usize >> scale).max(128);
    let values: Vec<f32> = (0..edge * edge).map(|i| number(i, 5) as f32).collect();
    let words = |e: sinew_ml::gpu::Refusal| e.to_string();
    let a = gpu.matrix(edge, edge, &values).await.map_err(words)?;
    let c = gpu.matrix(edge, edge, &[]).await.map_err(words)?;
    let mut best = f64::MAX;
    for _ in 0..4 {
        let since = Instant::now();
        gpu.steps(vec![Step::product(&a, &a, &c)]).await.map_err(words)?;
        gpu.finish().await.map_err(words)?;
        best = best.min(since.elapsed().as_secs_f64());
    }
    let cube = (edge as f64).powi(3);
    line.product = 2.0 * cube / best;
    line.print(&format!("matrix product of {edge}, f32"), best, 12.0 * (edge * edge) as f64, 2.0 * cube, None);
    for case in cases((1usize << 24) >> (2 * scale).min(14)) {
        let fold = fold_of(&case)?;
        let batches = batches(&case)?;
        let blocks = batches.iter().map(Block::from_batch).collect::<Result<Vec<_>, _>>()?;
        let since = Instant::now();
        gpu.fold(&fold, &blocks).await.map_err(words)?;
        let first = since.elapsed().as_secs_f64();
        let mut best = f64::MAX;
        for _ in 0..4 {
            let since = Instant::now();
            gpu.fold(&fold, &blocks).await.map_err(words)?;
            best = best.min(since.elapsed().as_secs_f64());
        }
        let part: Vec<Block> = blocks.iter().take(CPU_ROWS.div_ceil(BLOCK_ROWS)).cloned().collect();
        let rows: usize = part.iter().map(|block| block.rows).sum();
        let since = Instant::now();
        Cpu::new().fold_blocks(&fold, &part, &mut Partial::empty(&fold))?;
        let cpu = since.elapsed().as_secs_f64() * case.rows as f64 / rows as f64;
        let numbers = (case.rows * case.columns) as f64;
        line.print(case.name, best, 4.0 * numbers, case.operations * numbers, Some(cpu));
        line.print("  the first pass, upload included", first, 4.0 * numbers, 0.0, None);
    }
    network::steps(&gpu, scale, &line).await?;
    network::scores(&gpu, scale, &line).await?;
    Ok(())
}
