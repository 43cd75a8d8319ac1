//! Operations of networks on a device against the processor in double precision, and steps against a run of PyTorch;
//! whole passes are in `tests/parity/networks.rs`.

use std::sync::{Arc, OnceLock};

use super::super::{Gpu, GpuOptions, Refusal};
use super::device::GpuDevice;
use super::teach;
use crate::block::Block;
use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::fold::{Fold, Kernel, RoleSet};
use crate::kernels::network::tests::{agree_with_pytorch, noise, reference};
use crate::kernels::network::{Device, Input, Inputs, Net, Processor, Rows};
use crate::network::{Activation, Head, Network, Rule, Work};

#[path = "../../../tests/common/networks.rs"]
mod common;

use common::{block, layout, network};

const ACTIVATIONS: [Activation; 4] = [Activation::Relu, Activation::Tanh, Activation::Sigmoid, Activation::Gelu];

fn opened() -> Option<Gpu> {
    let software = std::env::var("SINEW_GPU_ALLOW_SOFTWARE").is_ok();
    match Gpu::open(None, &GpuOptions { software, poison: true, ..GpuOptions::default() }) {
        Ok(gpu) => Some(gpu),
        Err(why) => {
            assert!(std::env::var("SINEW_REQUIRE_GPU").is_err(), "SINEW_REQUIRE_GPU is set, and {why}");
            eprintln!("NOT TESTED: networks on a GPU, because {why}");
            None
        }
    }
}

/// One device for all tests that leave it as it is.
fn gpu() -> Option<Arc<Gpu>> {
    static GPU: OnceLock<Option<Arc<Gpu>>> = OnceLock::new();
    GPU.get_or_init(|| opened().map(Arc::new)).clone()
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    pollster::block_on(work)
}

fn refused(refusal: Refusal) -> MlError {
    MlError::Internal(refusal.to_string())
}

/// Single precision, so that both devices have the same numbers.
fn values(n: usize, salt: u64) -> Vec<f64> {
    (0..n).map(|i| f64::from(noise(i, salt) as f32)).collect()
}

fn close(what: &str, found: &[f64], expected: &[f64], near: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-3f64, |top, v| top.max(v.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= near * size, "{what} at {i}: {found}, not {expected} (of {size})");
    }
}

/// What each operation makes of matrices of these sizes.
fn operations<D: Device>(device: &mut D, (rows, inputs, units): (usize, usize, usize)) -> Vec<(String, Vec<f64>)> {
    let mut found = Vec::new();
    let x = device.load(rows, inputs, &values(rows * inputs, 1));
    let w = device.load(inputs, units, &values(inputs * units, 2));
    let b = device.load(1, units, &values(units, 3));
    let delta = device.load(rows, units, &values(rows * units, 4));
    let [mut z, mut a, mut to, mut mask, mut kept] = [(); 5].map(|()| device.load(0, 0, &[]));
    for f in ACTIVATIONS {
        device.layer(Input::Units(&x), (&w, None, &b), Some(f), &mut z, &mut a);
        found.push((format!("layer {f:?}"), device.read(&[&a]).remove(0)));
        device.drop_out((0.3, 77), &a, &mut mask, &mut kept);
        found.push((format!("dropout {f:?}"), device.read(&[&kept]).remove(0)));
        // What comes before the layer has outputs like these, and its input stands for what went into them.
        let [mut before, mut after] = [(); 2].map(|()| device.load(0, 0, &[]));
        let one: Vec<f64> =
            (0..inputs * inputs).map(|i| if inputs > 0 && i % (inputs + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let (one, none) = (device.load(inputs, inputs, &one), device.load(1, inputs, &vec![0.0; inputs]));
        device.layer(Input::Units(&x), (&one, None, &none), Some(f), &mut before, &mut after);
        device.back(&delta, &w, None, (f, &x, &after), &mut to);
        found.push((format!("back {f:?}"), device.read(&[&to]).remove(0)));
        device.drop_out((0.4, 78), &after, &mut mask, &mut kept);
        device.back(&delta, &w, Some(((0.4, 78), &mask)), (f, &x, &after), &mut to);
        found.push((format!("back with dropout {f:?}"), device.read(&[&to]).remove(0)));
    }
    device.layer(Input::Units(&x), (&w, None, &b), None, &mut z, &mut a);
    found.push(("outputs".into(), device.read(&[&z]).remove(0)));
    let mut gw = device.load(inputs, units, &values(inputs * units, 5));
    let mut gb = device.load(1, units, &values(units, 6));
    device.slope(Input::Units(&x), &delta, (&mut gw, None, &mut gb));
    found.extend(device.read(&[&gw, &gb]).into_iter().map(|v| ("slope, added".to_string(), v)));
    device.clear(&mut gw);
    device.clear(&mut gb);
    device.slope(Input::Units(&x), &delta, (&mut gw, None, &mut gb));
    device.add_scaled(&w, 0.25, &mut gw);
    found.extend(device.read(&[&gw, &gb]).into_iter().map(|v| ("slope and penalty".to_string(), v)));
    device.largest(&gw);
    device.largest(&gb);
    found.push(("largest".into(), vec![device.tally().largest]));
    let rules = [
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: true },
        Rule::usual_adam(0.0),
        Rule::usual_adam(0.1),
    ];
    for rule in rules {
        let mut at = device.load(inputs, units, &values(inputs * units, 7));
        let g = device.load(inputs, units, &values(inputs * units, 8));
        let mut memory = [9, 10].map(|salt| {
            let values = values(inputs * units, salt).iter().map(|v| v * v).collect::<Vec<_>>();
            device.load(inputs, units, &values)
        });
        for t in 0..3 {
            device.step(rule, (0.05, t + 1), t < 2, &mut at, &g, &mut memory);
        }
        let [first, second] = &memory;
        found.extend(device.read(&[&at, first, second]).into_iter().map(|v| (format!("step {rule:?}"), v)));
    }
    found
}

#[test]
fn every_operation_is_that_of_the_processor() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let shapes = [(1, 1, 1), (7, 5, 3), (64, 16, 64), (65, 63, 130), (129, 131, 67), (1031, 9, 10)];
    for shape in shapes {
        let expected = operations(&mut Processor::<f64>::default(), shape);
        let (network, layout) = (network(&[3], Activation::Relu, 2), layout());
        let found = gpu.run(move |worker| {
            let mut device = GpuDevice::new(worker, &network, &layout);
            let found = operations(&mut device, shape);
            device.goes_on()?;
            Ok(found)
        });
        for ((what, found), (_, expected)) in wait(found).map_err(refused)?.iter().zip(&expected) {
            close(&format!("{what} {shape:?}"), found, expected, 1e-5);
        }
    }
    Ok(())
}

/// Outputs, loss and gradient of one batch of a network.
fn batch<D: Device>(device: D, network: &Network, block: &Block, rows: &Rows) -> Result<(Vec<Vec<f64>>, D)> {
    let at = values(network.parameters(), 4);
    let mut net = Net::new(device, network, &layout(), &at);
    let inputs = Inputs::new(network, &layout(), D::INDICATORS);
    let classes = if network.head == Head::Softmax { network.outputs } else { 0 };
    let mut batch = D::Batch::default();
    net.device.hold(&inputs, block, classes)?;
    net.device.pick(&inputs, block, rows, classes, &mut batch)?;
    net.clear();
    net.forward(&batch, None);
    let outputs = net.outputs();
    net.loss(&batch, 0.125);
    net.backward(&batch, None);
    let loss = net.device.tally().losses;
    Ok((vec![outputs, loss, net.gradient()], net.device))
}

#[test]
fn batches_of_all_kinds_of_rows_are_those_of_the_processor() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    for (i, (classes, rows)) in [(0, 1), (2, 61), (3, 300), (300, 130), (1100, 9)].into_iter().enumerate() {
        for (hidden, stays) in [(&[][..], true), (&[5], false), (&[70, 6], true)] {
            let (block, kept) = block(rows + 40, classes, i % 2 == 0, stays)?;
            let network = network(hidden, ACTIVATIONS[i % 4], classes);
            let rows = match i % 2 {
                0 => Rows::Picked((0..rows as u32).map(|i| (i * 7 + 3) % rows as u32).collect()),
                _ => Rows::Range(3..rows + 3),
            };
            let (expected, _) = batch(Processor::<f64>::default(), &network, &block, &rows)?;
            let name = format!("{classes} classes, {rows:?}, {hidden:?}, {stays}");
            let found = gpu.run(move |worker| {
                let device = GpuDevice::new(worker, &network, &layout());
                let (found, mut device) = batch(device, &network, &block, &rows).map_err(|e| super::left(&e))?;
                device.goes_on()?;
                Ok(found)
            });
            for (found, expected) in wait(found).map_err(refused)?.iter().zip(&expected) {
                close(&name, found, expected, 1e-5);
            }
            drop(kept);
        }
    }
    Ok(())
}

#[test]
fn losses_are_those_of_pytorch() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    agree_with_pytorch(|name| {
        let name = name.to_string();
        let losses = gpu.run(move |worker| {
            reference::losses(|network, layout| GpuDevice::new(worker, network, layout), &name)
                .map_err(|e| super::left(&e))
        });
        wait(losses).map_err(refused)
    })
}

#[test]
fn a_device_says_what_it_cannot_do() -> Result<()> {
    let Some(gpu) = gpu() else { return Ok(()) };
    let network = network(&[6], Activation::Relu, 2);
    let wide = network.clone();
    let refusal = wait(gpu.run(move |worker| {
        let mut device = GpuDevice::new(worker, &wide, &layout());
        let mut held = device.nothing();
        device.room(&mut held, 1 << 20, 1 << 12)
    }));
    assert!(matches!(refusal, Err(Refusal::Unsupported(_))), "{refusal:?}");
    // Nobody waits: it stops between two steps.
    let (block, _) = block(100, 2, false, false)?;
    let grid = Grid::covering(1024.0)?;
    let (parameters, shards) = (network.start(5, 3), 8);
    let fold = Fold {
        kernel: Kernel::Lesson { network, parameters, work: Work::Loss, shards },
        layout: layout(),
        train: RoleSet::TRAIN,
        eval: RoleSet::EVAL,
        sample: None,
        weight_grid: grid,
        loss_grid: grid,
        grids: Vec::new(),
        around: None,
    };
    let stopped = wait(gpu.run(move |worker| {
        worker.caller = std::sync::Weak::new();
        Ok(teach(worker, &fold, &[block]).map(|_| ()))
    }));
    assert_eq!(stopped, Ok(Err(Refusal::Cancelled)));
    Ok(())
}
