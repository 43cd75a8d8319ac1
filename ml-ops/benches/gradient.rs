//! What a pass over the rows costs, beside what reading them costs.
//!
//! `cargo bench -p sinew-ml --bench gradient`. The floor is the time that as many threads need to read
//! the same buffers with vector loads and do next to nothing with them.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Instant;

use datafusion::arrow::buffer::ScalarBuffer;
use sinew_ml::block::{Block, Column, Label};
use sinew_ml::exact::Grid;
use sinew_ml::fold::{Curvature, Fold, Kernel, Layout, Loss, RoleSet, mix, uniform};
use sinew_ml::kernels::Cpu;
use sinew_ml::partial::Partial;

/// Rows of a block.
const BLOCK: usize = 65_536;

fn table(rows: usize, columns: usize, classes: u32) -> Vec<Block> {
    (0..rows.div_ceil(BLOCK))
        .map(|b| {
            let n = BLOCK.min(rows - b * BLOCK);
            let column = |c: usize| {
                let x = (0..n).map(|i| uniform(mix((b * BLOCK + i) as u32, c as u64)) as f32 - 0.5);
                Column::F32(x.collect::<Vec<_>>().into())
            };
            let class = |i: usize| (mix((b * BLOCK + i) as u32, 1000) % u64::from(classes)) as u32;
            Block {
                rows: n,
                columns: (0..columns).map(column).collect(),
                label: Label::Class(ScalarBuffer::from((0..n).map(class).collect::<Vec<_>>())),
                weight: None,
                role: None,
                hash: None,
                origin: Default::default(),
            }
        })
        .collect()
}

/// The shortest of some runs, in milliseconds, with the blocks dealt to threads.
fn best(blocks: &[Block], threads: usize, work: impl Fn(&[Block]) + Sync) -> f64 {
    let share = blocks.len().div_ceil(threads);
    (0..12)
        .map(|_| {
            let start = Instant::now();
            std::thread::scope(|scope| {
                for part in blocks.chunks(share) {
                    let work = &work;
                    scope.spawn(move || work(part));
                }
            });
            start.elapsed().as_secs_f64() * 1e3
        })
        .fold(f64::INFINITY, f64::min)
}

fn read(blocks: &[Block]) {
    for block in blocks {
        for column in &block.columns {
            let Column::F32(x) = column else { continue };
            // Integer sums: the compiler may vectorise them.
            let mut sums = [0u32; 64];
            for chunk in x.chunks_exact(64) {
                for (sum, x) in sums.iter_mut().zip(chunk) {
                    *sum = sum.wrapping_add(x.to_bits());
                }
            }
            black_box(sums);
        }
    }
}

fn report(name: &str, rows: usize, columns: usize, classes: u32, kernel: impl Fn(usize) -> (Kernel, usize)) {
    let blocks = table(rows, columns, classes);
    let (kernel, sums) = kernel(columns);
    let grid = |bound: f64| Grid::covering(bound).unwrap();
    let fold = Fold {
        kernel,
        layout: Layout::new(vec![None; columns]),
        train: RoleSet::TRAIN,
        eval: RoleSet::NONE,
        sample: None,
        weight_grid: grid(1.0),
        loss_grid: grid(1e4),
        grids: vec![grid(1.0); sums],
        around: None,
    };
    let cpu = Cpu::new();
    for threads in [1, 2] {
        let floor = best(&blocks, threads, read);
        let pass = best(&blocks, threads, |part| {
            let mut partial = Partial::empty(&fold);
            cpu.fold_blocks(&fold, part, &mut partial).unwrap();
            black_box(partial);
        });
        let ratio = pass / floor;
        println!(
            "{name:<10} {rows} x {columns}, {threads} threads: floor {floor:.1} ms, pass {pass:.1} ms, ratio {ratio:.2}"
        );
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let some = |n: usize| (0..n).map(|i| uniform(mix(i as u32, 7)) - 0.5).collect::<Vec<_>>();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str()));
    if wants("logistic") {
        report("logistic", 2_000_000, 32, 2, |p| {
            (Kernel::Linear { loss: Loss::Logistic, intercept: 0.1, weights: some(p) }, 1 + p)
        });
    }
    if wants("softmax") {
        report("softmax", 500_000, 64, 10, |p| {
            (Kernel::Softmax { intercepts: some(10), weights: some(10 * p) }, 10 * (1 + p))
        });
    }
    if wants("gram") {
        report("gram", 2_000_000, 32, 2, |p| {
            let kernel =
                Kernel::Gram { shift: vec![0.0; p], scale: vec![1.0; p], label: None, curvature: Curvature::Weight };
            (kernel, (1 + p) * (2 + p) / 2)
        });
    }
    if wants("centroids") {
        report("centroids", 1_000_000, 16, 2, |p| {
            let kernel = Kernel::Centroids { shift: vec![0.0; p], scale: vec![1.0; p], centers: some(20 * p) };
            (kernel, 20 * (1 + p))
        });
    }
}
