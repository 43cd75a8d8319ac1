//! Kernels of a GPU against those of the CPU: fresh random rows, every kernel, shapes around the edges of tiles,
//! poisoned outputs; then memory that is too small, and a device that is lost.

use std::sync::Arc;

use super::common::{Data, Naive, Shape, adapted, all_kernels, fold_for, naive, run};
use datafusion::arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch, UInt8Array, UInt32Array};
use sinew_ml::backend::Backend;
use sinew_ml::block::{Block, Column, HASH, LABEL, Label, ROLE, WEIGHT};
use sinew_ml::exact::Grid;
use sinew_ml::fold::{Fold, Kernel, Sample};
use sinew_ml::gpu::{Cell, Gpu, GpuBackend, GpuOptions, Refusal};
use sinew_ml::kernels::Cpu;
use sinew_ml::partial::Partial;

use super::device::{open, options, seed, seeds, shapes};
use super::sizes::Sizes;

/// The reference keeps sums on grids that the random data fit.
fn close(what: &str, found: f64, (value, size): (f64, f64), tolerance: f64) {
    let allowed = tolerance * size + 1e-30;
    assert!(
        (found - value).abs() <= allowed,
        "{what}: {found} is not {value}, off by {:e} of {size}",
        (found - value).abs() / size
    );
}

fn compare(name: &str, fold: &Fold, data: &Data, found: &Partial, tolerance: f64) {
    let expected: Naive = naive(fold, data);
    let sizes = Sizes::of(fold, data, &expected);
    assert_eq!((found.rows, found.eval_rows), (expected.rows, expected.eval_rows), "{name}: rows");
    for (i, ((value, _), size)) in expected.totals.iter().zip(sizes.totals).enumerate() {
        close(&format!("{name}: total {i}"), found.totals.value(i), (*value, size), tolerance);
    }
    let largest = expected.sums.iter().fold(0f64, |a, (_, size)| a.max(*size));
    for (i, (value, _)) in expected.sums.iter().enumerate() {
        // A grid's own rounding, of terms that are small beside it, is no error of the device.
        let size = sizes.sums[i] + fold.grids[i].unit() / tolerance + 1e-9 * largest;
        let size = size + sizes.ties[i] / tolerance;
        close(&format!("{name}: sum {i} of {}", expected.sums.len()), found.sums.value(i), (*value, size), tolerance);
    }
}

async fn on(gpu: &Gpu, fold: &Fold, blocks: &[Block]) -> Result<Partial, Refusal> {
    let blocks: Vec<Block> = blocks.iter().map(|block| adapted(fold, block)).collect();
    let mut partial = Partial::empty(fold);
    gpu.fold(fold, &blocks).await?.add_to(&mut partial);
    Ok(partial)
}

async fn every_kernel(gpu: &Gpu, tolerance: f64) {
    let mut ran = std::collections::BTreeMap::<&str, usize>::new();
    for (shape, seed) in seeds().flat_map(|seed| shapes().into_iter().map(move |shape| (shape, seed))) {
        let data = Data::random(&shape, seed);
        for (name, kernel) in all_kernels(&data) {
            for sample in [None, Some(Sample::fraction(0.3, 9))] {
                let mut fold = fold_for(&data, kernel.clone());
                fold.sample = sample;
                let title = format!("{name} {shape:?} sample {}", sample.is_some());
                for (cuts, sliced) in [(&[][..], false), (&[3, 70, 1500][..], true)] {
                    // A frame around rows as they come, and one around all that a driver knows.
                    fold.around = sliced.then(|| data.around().into());
                    match on(gpu, &fold, &data.blocks(cuts, sliced)).await {
                        Ok(found) => {
                            compare(&title, &fold, &data, &found, tolerance);
                            *ran.entry(name).or_default() += 1;
                        }
                        Err(refusal) => assert!(refusal.is_planned(), "{title}: {refusal}"),
                    }
                }
            }
        }
    }
    for name in
        ["squared", "logistic", "softmax 3", "softmax 11", "gram", "gram logistic", "centroids 1", "centroids 6"]
    {
        let count = ran.get(name).copied().unwrap_or(0);
        assert!(count >= 24, "{name} ran {count} times only: {ran:?}");
    }
}

#[tokio::test]
async fn kernels_agree_with_double_precision() {
    let Some(gpu) = open(&options()) else { return };
    eprintln!("{:?}", gpu.adapter());
    every_kernel(&gpu, 1e-5).await;
}

#[tokio::test]
async fn kernels_agree_with_bounds_checks() {
    let Some(gpu) = open(&GpuOptions { checked: true, ..options() }) else { return };
    every_kernel(&gpu, 1e-5).await;
}

#[tokio::test]
async fn fewer_digits_are_only_fewer_digits() {
    for (storage, tolerance) in [(Cell::F16, 5e-3), (Cell::Bf16, 4e-2)] {
        let Some(gpu) = open(&GpuOptions { storage, ..options() }) else { return };
        let data = Data::random(&Shape { rows: 3001, columns: "ffdfffff3", weight: true, role: true }, seed());
        for (name, kernel) in all_kernels(&data) {
            if matches!(kernel, Kernel::Linear { .. } | Kernel::Softmax { .. } | Kernel::Gram { .. }) {
                let fold = fold_for(&data, kernel);
                let found = on(&gpu, &fold, &data.blocks(&[], false)).await.unwrap();
                compare(name, &fold, &data, &found, tolerance);
            }
        }
    }
}

/// Blocks that are found again, as those of a store are.
fn batches(data: &Data, cuts: &[usize]) -> Vec<RecordBatch> {
    let one = |block: Block| {
        let mut columns: Vec<(String, ArrayRef)> = Vec::new();
        for (i, column) in block.columns.iter().enumerate() {
            let array: ArrayRef = match column {
                Column::F32(v) => Arc::new(Float32Array::new(v.clone(), None)),
                Column::F64(v) => Arc::new(Float64Array::new(v.clone(), None)),
                Column::Codes(v) => Arc::new(UInt32Array::new(v.clone(), None)),
            };
            columns.push((format!("c{i}"), array));
        }
        if let Label::Value(v) = &block.label {
            columns.push((LABEL.into(), Arc::new(Float64Array::new(v.clone(), None))));
        }
        columns.extend(block.weight.clone().map(|v| (WEIGHT.into(), Arc::new(Float64Array::new(v, None)) as ArrayRef)));
        columns.extend(block.role.clone().map(|v| (ROLE.into(), Arc::new(UInt8Array::new(v, None)) as ArrayRef)));
        columns.extend(block.hash.clone().map(|v| (HASH.into(), Arc::new(UInt32Array::new(v, None)) as ArrayRef)));
        RecordBatch::try_from_iter(columns).unwrap()
    };
    data.blocks(cuts, false).into_iter().map(one).collect()
}

fn squared(data: &Data) -> Fold {
    let (_, kernel) = all_kernels(data).into_iter().find(|(name, _)| *name == "squared").unwrap();
    fold_for(data, kernel)
}

fn blocks_of(batches: &[RecordBatch]) -> Vec<Block> {
    batches.iter().map(|batch| Block::from_batch(batch).unwrap()).collect()
}

#[tokio::test]
async fn rows_are_uploaded_once_and_leave_with_their_arrays() {
    let Some(gpu) = open(&options()) else { return };
    let data = Data::random(&Shape { rows: 9000, columns: "ffffdfff", weight: true, role: true }, seed());
    let kept = batches(&data, &[1000, 5000]);
    let fold = squared(&data);
    let first = on(&gpu, &fold, &blocks_of(&kept)).await.unwrap();
    let uploaded = gpu.stats().uploads.load(std::sync::atomic::Ordering::Relaxed);
    let again = on(&gpu, &fold, &blocks_of(&kept)).await.unwrap();
    assert!(first == again, "the same rows on the same device give the same bits");
    assert_eq!(gpu.stats().uploads.load(std::sync::atomic::Ordering::Relaxed), uploaded);
    assert!(gpu.stats().resident_bytes.load(std::sync::atomic::Ordering::Relaxed) > 9000 * 32);
    drop(kept);
    let other = Data::random(&Shape { rows: 10, columns: "f", weight: false, role: false }, 1);
    on(&gpu, &squared(&other), &other.blocks(&[], false)).await.unwrap();
    assert_eq!(gpu.stats().resident_bytes.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn tables_that_are_resident_together_keep_their_own_frames() {
    let Some(gpu) = open(&options()) else { return };
    let table =
        |columns: &'static str| Data::random(&Shape { rows: 3000, columns, weight: false, role: false }, seed());
    // As many cells each: numbers first, then an indicator in their place, more columns, and numbers that lie elsewhere.
    let mut far = table("ddd");
    for (values, at) in far.numbers.iter_mut().flatten().zip([5.0, -40.0, 0.3]) {
        values.0.iter_mut().for_each(|v| *v = *v * 1e-3 + at);
    }
    let tables = [table("ddd"), table("3"), table("dddd"), far, table("2dd")];
    let kept: Vec<Vec<RecordBatch>> = tables.iter().map(|data| batches(data, &[1000])).collect();
    for (data, kept, known) in tables.iter().zip(&kept).flat_map(|(d, k)| [(d, k, false), (d, k, true)]) {
        for (name, kernel) in all_kernels(data) {
            let mut fold = fold_for(data, kernel);
            fold.around = known.then(|| data.around().into());
            match &mut fold.kernel {
                // In standardised columns, as trainings have it.
                Kernel::Gram { shift, scale, label, .. } => {
                    for (j, (values, _)) in data.numbers.iter().enumerate().filter_map(|(j, v)| Some((j, v.as_ref()?)))
                    {
                        let at = data.layout.spans().nth(j).unwrap().offset;
                        shift[at] = values.iter().sum::<f64>() / values.len() as f64;
                        let reach = values.iter().fold(0f64, |most, v| most.max((v - shift[at]).abs()));
                        scale[at] = (-reach.log2().ceil()).exp2();
                    }
                    *label = None;
                    fold.grids.truncate((1 + data.layout.width()) * (2 + data.layout.width()) / 2);
                }
                Kernel::Linear { .. } | Kernel::Softmax { .. } | Kernel::Centroids { .. } => {}
                _ => continue,
            }
            let blocks: Vec<Block> = blocks_of(kept).iter().map(|block| adapted(&fold, block)).collect();
            let mut found = Partial::empty(&fold);
            gpu.fold(&fold, &blocks).await.unwrap().add_to(&mut found);
            compare(&format!("{name} of {} columns", data.layout.features()), &fold, data, &found, 1e-5);
        }
    }
}

#[tokio::test]
async fn rows_in_order_lie_in_one_frame() {
    let Some(gpu) = open(&options()) else { return };
    let mut data = Data::random(&Shape { rows: 20_000, columns: "df", weight: false, role: false }, seed());
    let (times, _) = data.numbers[0].as_mut().unwrap();
    times.iter_mut().enumerate().for_each(|(i, time)| *time += 1.7e9 + 60.0 * i as f64);
    let kept = batches(&data, &(1..40).map(|i| 500 * i).collect::<Vec<_>>());
    let mut fold = squared(&data);
    if let Kernel::Linear { intercept, weights, .. } = &mut fold.kernel {
        *intercept = -1.7e9 * weights[0];
    }
    fold.grids.iter_mut().for_each(|grid| *grid = Grid::covering(1e17).unwrap());
    fold.loss_grid = Grid::covering(1e12).unwrap();
    fold.around = Some(data.around().into());
    let found = on(&gpu, &fold, &blocks_of(&kept)).await.unwrap();
    compare("times", &fold, &data, &found, 1e-5);
    let stats = gpu.stats();
    assert_eq!(stats.uploads.load(std::sync::atomic::Ordering::Relaxed), 40);
    // One slab, of the least size.
    assert_eq!(stats.resident_bytes.load(std::sync::atomic::Ordering::Relaxed) >> 20, 1);
}

#[tokio::test]
async fn rows_that_do_not_fit_stream_through() {
    let Some(gpu) = open(&GpuOptions { memory_limit: Some(1 << 19), ..options() }) else { return };
    let data = Data::random(&Shape { rows: 40_000, columns: "ffffdfff", weight: true, role: true }, seed());
    let kept = batches(&data, &[7, 1000, 9000, 30_000]);
    for _ in 0..2 {
        for (name, kernel) in all_kernels(&data) {
            if matches!(kernel, Kernel::Linear { .. } | Kernel::Softmax { .. }) {
                let fold = fold_for(&data, kernel);
                let mut blocks = blocks_of(&kept);
                blocks.iter_mut().for_each(|block| *block = adapted(&fold, block));
                let mut found = Partial::empty(&fold);
                gpu.fold(&fold, &blocks).await.unwrap().add_to(&mut found);
                compare(name, &fold, &data, &found, 1e-5);
            }
        }
    }
    assert!(gpu.stats().streams.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert!(gpu.stats().resident_bytes.load(std::sync::atomic::Ordering::Relaxed) <= 1 << 19);
}

#[tokio::test]
async fn a_column_far_from_zero_keeps_its_digits() {
    let Some(gpu) = open(&options()) else { return };
    let mut data = Data::random(&Shape { rows: 4000, columns: "dd", weight: false, role: false }, seed());
    let (values, _) = data.numbers[0].as_mut().unwrap();
    values.iter_mut().for_each(|v| *v = *v * 1e-3 + 1.7e9);
    let mut fold = squared(&data);
    if let Kernel::Linear { intercept, weights, .. } = &mut fold.kernel {
        // The margin is small where the column's own part of it is taken off again.
        *intercept = -1.7e9 * weights[0];
    }
    let found = on(&gpu, &fold, &data.blocks(&[], false)).await.unwrap();
    let expected = naive(&fold, &data);
    // In single precision without a centre the column would be one number.
    let moved = |sum: f64| sum - 1.7e9 * found.sums.value(0);
    let right = expected.sums[1].0 - 1.7e9 * expected.sums[0].0;
    assert!((found.sums.value(0) - expected.sums[0].0).abs() <= 1e-5 * expected.sums[0].1);
    assert!((moved(found.sums.value(1)) - right).abs() <= 1e-5 * expected.sums[0].1 + 1e-2, "{right}");
}

#[tokio::test]
async fn a_lost_device_leaves_its_work_to_the_cpu() {
    let Some(gpu) = open(&options()) else { return };
    let backend = GpuBackend::new(Arc::clone(&gpu), Arc::new(Cpu::new()));
    let data = Data::random(&Shape { rows: 3000, columns: "fdf", weight: true, role: true }, seed());
    let fold = squared(&data);
    let blocks = data.blocks(&[], false);
    let mut on_gpu = Partial::empty(&fold);
    let ran = backend.fold(&fold, &blocks, &mut on_gpu).await.unwrap();
    assert!(ran.device.starts_with("gpu (") && ran.warning.is_none(), "{ran:?}");
    gpu.destroy().await;
    let mut after = Partial::empty(&fold);
    let ran = backend.fold(&fold, &blocks, &mut after).await.unwrap();
    assert!(ran.device.starts_with("cpu"), "{ran:?}");
    assert!(ran.warning.unwrap().contains("lost"));
    assert!(after == run(&Cpu::new(), &fold, &blocks));
    assert!(gpu.is_lost());
}

#[tokio::test]
async fn what_has_no_kernel_is_left_to_the_cpu_without_a_warning() {
    let Some(gpu) = open(&options()) else { return };
    let backend = GpuBackend::new(gpu, Arc::new(Cpu::new()));
    let data = Data::random(&Shape { rows: 300, columns: "fdf", weight: true, role: true }, seed());
    let (_, kernel) = all_kernels(&data).swap_remove(0);
    let fold = fold_for(&data, kernel);
    let mut found = Partial::empty(&fold);
    let ran = backend.fold(&fold, &data.blocks(&[], false), &mut found).await.unwrap();
    assert!(ran.device.starts_with("cpu") && ran.warning.is_none());
    assert!(found == run(&Cpu::new(), &fold, &data.blocks(&[], false)));
}

#[test]
fn software_counts_only_where_it_is_allowed() {
    if sinew_ml::gpu::adapters().iter().any(|adapter| !adapter.software) {
        return;
    }
    let refused = Gpu::open(None, &GpuOptions { software: false, ..GpuOptions::default() });
    assert!(refused.is_err_and(|why| why.contains("software") || why.contains("no Vulkan adapter")));
}
