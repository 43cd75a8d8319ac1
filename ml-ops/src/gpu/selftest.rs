//! What a device must do right before it is used: long loops, lanes that exchange numbers, a gradient and a tiled
//! product whose sums are known; and what it does in a second.

use std::time::Instant;

use wgpu::BufferUsages;

use super::shaders::{Cell, Shader};
use super::worker::{Part, Worker};
use super::{Rates, Refusal, fold};
use crate::block::{Block, Column, Label};
use crate::exact::Grid;
use crate::fold::{Curvature, Fold, Kernel, Layout, Loss, RoleSet, mix, uniform};
use crate::kernels::Cpu;
use crate::partial::Partial;

/// Iterations that an invocation of ours has at most, with room to spare; some drivers stop at 65,535.
const LONGEST_LOOP: u32 = 50_000;
/// Largest error of a sum, as a part of its terms' magnitudes.
fn tolerance(storage: Cell) -> f64 {
    match storage {
        Cell::F32 => 1e-5,
        Cell::F16 => 5e-3,
        Cell::Bf16 => 4e-2,
    }
}

/// Tests a device.
pub fn test(worker: &mut Worker) -> Result<Rates, Refusal> {
    long_loop(worker)?;
    let (rows, columns) = (4_099, 9);
    let data = block(rows, columns);
    let gradient = linear(columns)?;
    agrees(worker, "a gradient", &gradient, &data)?;
    agrees(worker, "cross products", &gram(columns)?, &data)?;
    rates(worker)
}

fn wrong(what: &str) -> Refusal {
    Refusal::Failed(format!("it computes {what} wrongly"))
}

fn long_loop(worker: &mut Worker) -> Result<(), Refusal> {
    let seed = Instant::now().elapsed().subsec_nanos() & 0xffff;
    let constants = [LONGEST_LOOP, seed, 0, 0];
    let constants = worker.constants(bytemuck::cast_slice(&constants), BufferUsages::UNIFORM);
    let out = worker.scratch(256);
    worker.dispatch(Shader::Loop, &[(3, Part::whole(&constants)), (4, Part::first(&out, 256))], [1, 1, 1])?;
    let counts = worker.read(&[(out.clone(), 256)])?;
    worker.give(out);
    let right = |word: &[u8; 4]| u32::from_le_bytes(*word) == LONGEST_LOOP / 2;
    if counts.iter().all(|bytes| bytes.as_chunks().0.iter().all(right)) { Ok(()) } else { Err(wrong("long loops")) }
}

fn block(rows: usize, columns: usize) -> Block {
    let number = |i: usize, salt: u64| uniform(mix(i as u32, salt)) as f32 - 0.25;
    let column = |j: usize| Column::F32((0..rows).map(|i| number(i, j as u64)).collect::<Vec<_>>().into());
    Block {
        rows,
        columns: (0..columns).map(column).collect(),
        label: Label::Value((0..rows).map(|i| f64::from(number(i, 99) > 0.2)).collect::<Vec<_>>().into()),
        weight: None,
        role: None,
        hash: None,
        origin: Default::default(),
    }
}

fn of(kernel: Kernel, columns: usize, sums: usize, bound: f64) -> Result<Fold, Refusal> {
    let grid = Grid::covering(bound).map_err(|e| Refusal::Failed(e.to_string()))?;
    Ok(Fold {
        kernel,
        layout: Layout::new((0..columns).map(|_| None)),
        train: RoleSet::TRAIN,
        eval: RoleSet::NONE,
        sample: None,
        weight_grid: grid,
        loss_grid: grid,
        grids: vec![grid; sums],
        around: None,
    })
}

fn linear(columns: usize) -> Result<Fold, Refusal> {
    let weights = (0..columns).map(|j| 0.3 - 0.1 * j as f64).collect();
    of(Kernel::Linear { loss: Loss::Logistic, intercept: 0.1, weights }, columns, columns + 1, 16.0)
}

fn gram(columns: usize) -> Result<Fold, Refusal> {
    let n = columns + 1;
    let (shift, scale) = (vec![0.0; columns], vec![1.0; columns]);
    of(Kernel::Gram { shift, scale, label: None, curvature: Curvature::Weight }, columns, n * (n + 1) / 2, 16.0)
}

fn agrees(worker: &mut Worker, what: &str, fold: &Fold, block: &Block) -> Result<(), Refusal> {
    let blocks = std::slice::from_ref(block);
    let mut expected = Partial::empty(fold);
    Cpu::new().fold_blocks(fold, blocks, &mut expected).map_err(|e| Refusal::Failed(e.to_string()))?;
    let found = fold::fold(worker, fold, blocks)?;
    // Every term is at most one.
    let tolerance = tolerance(worker.residency.cell) * block.rows as f64;
    let close = |a: f64, b: f64| (a - b).abs() <= tolerance;
    let sums = found.sums.iter().zip(expected.sums.values()).all(|(a, b)| close(*a, b));
    let totals = found.totals.iter().zip(expected.totals.values()).all(|(a, b)| close(*a, b));
    if found.rows == [expected.rows, expected.eval_rows] && sums && totals { Ok(()) } else { Err(wrong(what)) }
}

/// What the device does in a second, from a few milliseconds of it.
fn rates(worker: &mut Worker) -> Result<Rates, Refusal> {
    let columns = 32;
    let rows = if worker.shared.software { 1 << 14 } else { 1 << 19 };
    let data = block(rows, columns);
    let bytes = (rows * columns * 4) as f64;
    let gradient = linear(columns)?;
    let timed = |worker: &mut Worker, fold: &Fold, block: &Block| -> Result<f64, Refusal> {
        let mut least = f64::MAX;
        for _ in 0..3 {
            let since = Instant::now();
            fold::fold(worker, fold, std::slice::from_ref(block))?;
            least = least.min(since.elapsed().as_secs_f64());
        }
        Ok(least.max(1e-6))
    };
    let small = block(64, columns);
    let latency = timed(worker, &gradient, &small)?;
    // Streamed rows: conversion, upload and kernel; resident ones are what is left.
    let streamed = timed(worker, &gradient, &data)?;
    let products = timed(worker, &gram(columns)?, &data)?;
    let upload = (streamed - latency).max(1e-6);
    let kernel = resident(worker, &gradient, &data)?;
    let operations = 2.0 * rows as f64 * (64.0 * 64.0);
    Ok(Rates {
        upload: bytes / upload,
        gradient: bytes / (kernel - latency).max(1e-6),
        product: operations / (products - streamed).max(1e-4),
        latency,
    })
}

/// Seconds of a pass over rows that are resident.
fn resident(worker: &mut Worker, fold: &Fold, block: &Block) -> Result<f64, Refusal> {
    use super::frame::{Places, Ranges};
    use super::kernels::Work;
    use super::residency::{Lies, Shape};
    let places = Places::of(&fold.layout);
    let ranges = Ranges::of(block, &places, 0..block.rows);
    let view = worker.stream(block, 0..block.rows, &places, (Shape::of(block, &places, 0), Lies::Near(&ranges)))?;
    let mut least = f64::MAX;
    for _ in 0..3 {
        let since = Instant::now();
        let mut work = Work::new(worker, fold, &places, std::slice::from_ref(block))?;
        work.launch(worker, &view)?;
        work.collect(worker)?;
        least = least.min(since.elapsed().as_secs_f64());
    }
    worker.residency.clear();
    Ok(least)
}
