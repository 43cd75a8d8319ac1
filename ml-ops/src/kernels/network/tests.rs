//! Gradients against finite differences, and steps against a run of PyTorch.

use datafusion::arrow::buffer::ScalarBuffer;

use super::{Device, HEAD, Lesson, Processor};
use crate::block::{Block, Column, Label};
use crate::error::{MlError, Result};
use crate::exact::Grid;
use crate::fold::{Fold, Kernel, Layout, RoleSet, mix, uniform};
use crate::network::{Activation, Head, Network, Rule, Steps, Work, shard_of};
use crate::partial::Partial;

pub(crate) fn noise(i: usize, salt: u64) -> f64 {
    2.0 * uniform(mix(i as u32, salt)) - 1.0
}

/// Rows with numbers in both precisions around two categories, all in one shard.
pub(crate) fn block(rows: usize, classes: usize, weighted: bool) -> Block {
    let hash = (0..u32::MAX).find(|hash| shard_of(*hash, 8) == 3).unwrap_or(0);
    let number = |salt: u64| (0..rows).map(|i| noise(i, salt) * 3.0 + 1.0).collect::<Vec<f64>>();
    let codes = |n: usize, salt: usize| (0..rows).map(|i| ((i * 7 + salt) % (n + 1)) as u32).collect::<Vec<u32>>();
    let label = match classes {
        0 => Label::Value(ScalarBuffer::from(number(9))),
        k => Label::Class(ScalarBuffer::from((0..rows).map(|i| (i * 5 % k) as u32).collect::<Vec<_>>())),
    };
    Block {
        origin: Default::default(),
        rows,
        columns: vec![
            Column::Codes(ScalarBuffer::from(codes(3, 1))),
            Column::F64(ScalarBuffer::from(number(1))),
            Column::F32(ScalarBuffer::from(number(2).iter().map(|v| *v as f32).collect::<Vec<_>>())),
            Column::Codes(ScalarBuffer::from(codes(2, 0))),
            Column::F64(ScalarBuffer::from(number(3))),
        ],
        label,
        weight: weighted.then(|| ScalarBuffer::from((0..rows).map(|i| (i % 3) as f64 + 0.5).collect::<Vec<_>>())),
        role: None,
        hash: Some(ScalarBuffer::from(vec![hash; rows])),
    }
}

pub(crate) fn layout() -> Layout {
    Layout::new([Some(3), None, None, Some(2), None])
}

pub(crate) fn network(hidden: &[usize], activation: Activation, classes: usize) -> Network {
    let (head, outputs) = match classes {
        0 => (Head::Squared { center: 0.4, scale: 1.5 }, 1),
        k => (Head::Softmax, k),
    };
    let categorical = [true, true, true, false, false, true, true, false];
    let shift = categorical.iter().map(|c| if *c { 0.0 } else { 1.0 }).collect();
    let scale = categorical.iter().map(|c| if *c { 1.0 } else { 0.7 }).collect();
    Network { shift, scale, hidden: hidden.to_vec(), outputs, activation, head }
}

/// The gathered row of a shard.
fn run(network: &Network, block: &Block, parameters: &[f64], work: Work) -> Result<Vec<f64>> {
    let grid = Grid::covering(4.0)?;
    let fold = Fold {
        kernel: Kernel::Lesson { network: network.clone(), parameters: parameters.to_vec(), work, shards: 8 },
        layout: layout(),
        train: RoleSet::TRAIN,
        eval: RoleSet::EVAL,
        sample: None,
        weight_grid: grid,
        loss_grid: grid,
        grids: Vec::new(),
        around: None,
    };
    let mut partial = Partial::empty(&fold);
    crate::kernels::Cpu::new().fold_blocks(&fold, std::slice::from_ref(block), &mut partial)?;
    match partial.gathered.rows.pop() {
        Some((3, row)) => Ok(row),
        other => Err(MlError::Internal(format!("{other:?}"))),
    }
}

#[test]
fn gradients_are_those_of_finite_differences() -> Result<()> {
    let activations = [Activation::Relu, Activation::Tanh, Activation::Sigmoid, Activation::Gelu];
    for (activation, classes, hidden) in activations
        .into_iter()
        .flat_map(|a| [0, 2, 4].map(|classes| (a, classes)))
        .flat_map(|(a, c)| [&[][..], &[5], &[4, 3]].map(|hidden| (a, c, hidden)))
    {
        // More than a tile of rows.
        let (block, network) = (block(300, classes, true), network(hidden, activation, classes));
        let mut at = network.start(5, 3);
        at.iter_mut().enumerate().for_each(|(j, x)| *x += 0.1 * noise(j, 4));
        let found = run(&network, &block, &at, Work::Gradient)?;
        assert_eq!(found.len(), HEAD + at.len());
        for j in (0..at.len()).step_by(3) {
            // A longer step would cross the kinks of relu.
            let (step, near) = if activation == Activation::Relu { (1e-7, 1e-4) } else { (1e-5, 1e-5) };
            let loss = |by: f64| {
                let mut there = at.clone();
                there[j] += by;
                run(&network, &block, &there, Work::Loss).map(|row| row[2])
            };
            let slope = (loss(step)? - loss(-step)?) / (2.0 * step);
            let gradient = found[HEAD + j];
            assert!(
                (slope - gradient).abs() <= near * (1.0 + gradient.abs()),
                "{activation:?} {classes} {hidden:?} {j}: {slope} {gradient}"
            );
        }
    }
    Ok(())
}

pub(crate) fn steps(rule: Rule, rate: f64) -> Steps {
    Steps {
        rule,
        rate,
        first: 0,
        count: 1,
        per_epoch: 1,
        dropout: 0.0,
        l2: 0.0,
        mean_weight: 1.0,
        seed: 0,
        held: false,
    }
}

#[test]
fn a_step_over_all_rows_is_one_along_the_gradient() -> Result<()> {
    let (block, network) = (block(200, 3, false), network(&[6], Activation::Tanh, 3));
    let at = network.start(5, 1);
    let gradient = run(&network, &block, &at, Work::Gradient)?;
    let rule = Rule::Sgd { momentum: 0.0, nesterov: false };
    let moved = run(&network, &block, &at, Work::Steps(Steps { l2: 0.5, ..steps(rule, 0.1) }))?;
    for ((x, (g, to)), weight) in at.iter().zip(gradient[HEAD..].iter().zip(&moved[HEAD..])).zip(network.is_weight()) {
        let expected = x - 0.1 * (g / 200.0 + if weight { 0.5 * x } else { 0.0 });
        assert!((to - expected).abs() < 1e-6, "{to} {expected}");
    }
    Ok(())
}

#[test]
fn rounds_of_steps_go_on_where_the_last_ended() -> Result<()> {
    let (block, network) = (block(200, 3, false), network(&[6], Activation::Relu, 3));
    let rule = Rule::usual_adam(0.01);
    let mut at = network.start(5, 1);
    at.resize(3 * at.len(), 0.0);
    let all = Steps { count: 7, per_epoch: 3, dropout: 0.3, ..steps(rule, 0.01) };
    let whole = run(&network, &block, &at, Work::Steps(all))?;
    let first = run(&network, &block, &at, Work::Steps(Steps { count: 4, ..all }))?;
    let second = run(&network, &block, &first[HEAD..], Work::Steps(Steps { first: 4, count: 3, ..all }))?;
    assert_eq!(whole[HEAD..], second[HEAD..]);
    Ok(())
}

#[test]
fn losses_are_those_of_pytorch() -> Result<()> {
    agree_with_pytorch(|name| reference::losses(|_, _| Processor::<f32>::default(), name))
}

/// `integration-tests/data/network/reference.py` took the same steps with PyTorch.
pub(crate) fn agree_with_pytorch(losses: impl Fn(&str) -> Result<Vec<f64>>) -> Result<()> {
    let text = include_str!("../../../../integration-tests/data/network/torch.json");
    let runs: serde_json::Value = serde_json::from_str(text).map_err(|e| MlError::Internal(e.to_string()))?;
    let runs = runs["runs"].as_array().ok_or_else(|| MlError::Internal("no runs".into()))?;
    assert!(runs.len() >= 4);
    for run in runs {
        let name = run["name"].as_str().unwrap_or_default();
        let expected: Vec<f64> =
            run["losses"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect();
        assert_eq!(expected.len(), 50, "{name}");
        let found = losses(name)?;
        for (t, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!((found - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{name} {t}: {found} {expected}");
        }
    }
    Ok(())
}

/// Steps as `reference.py` takes them: digits, 50 batches of 32 rows in file order.
pub(crate) mod reference {
    use super::super::batch::{Inputs, Rows};
    use super::super::net::Net;
    use super::*;
    use crate::families::testing::read_csv;

    pub(crate) fn losses<D: Device>(open: impl FnOnce(&Network, &Layout) -> D, name: &str) -> Result<Vec<f64>> {
        let columns = read_csv("examples/data/digits.csv")?;
        let value = |column: usize, row: usize| columns[column].1[row];
        let (features, rows) = (64, 1600);
        let regression = name.starts_with("regression");
        let block = Block {
            origin: Default::default(),
            rows,
            columns: (0..features)
                .map(|c| Column::F64(ScalarBuffer::from((0..rows).map(|i| value(c, i)).collect::<Vec<_>>())))
                .collect(),
            label: match regression {
                true => Label::Value(ScalarBuffer::from((0..rows).map(|i| value(64, i)).collect::<Vec<_>>())),
                false => Label::Class(ScalarBuffer::from((0..rows).map(|i| value(64, i) as u32).collect::<Vec<_>>())),
            },
            weight: None,
            role: None,
            hash: None,
        };
        let (activation, rule, rate, l2) = match name {
            "relu sgd nesterov" => (Activation::Relu, Rule::Sgd { momentum: 0.9, nesterov: true }, 0.05, 0.001),
            "tanh sgd momentum" => (Activation::Tanh, Rule::Sgd { momentum: 0.9, nesterov: false }, 0.05, 0.0),
            "sigmoid adam" => (Activation::Sigmoid, Rule::usual_adam(0.0), 0.01, 0.0),
            "gelu adamw" => (Activation::Gelu, Rule::usual_adam(0.1), 0.01, 0.0),
            "regression relu adam" => (Activation::Relu, Rule::usual_adam(0.0), 0.01, 0.0),
            other => return Err(MlError::Internal(format!("no run {other}"))),
        };
        let network = Network {
            shift: vec![8.0; features],
            scale: vec![0.125; features],
            hidden: vec![48, 24],
            outputs: if regression { 1 } else { 10 },
            activation,
            head: if regression { Head::Squared { center: 4.5, scale: 0.25 } } else { Head::Softmax },
        };
        let mut start = vec![0.0; network.parameters()];
        for (l, layer) in network.layers().into_iter().enumerate() {
            let reach = (6.0 / (layer.inputs + layer.units) as f64).sqrt();
            let wave = |i: usize| reach * libm::sin((i * i % 1009 + 31 * l + 1) as f64);
            start[layer.weights].iter_mut().enumerate().for_each(|(i, w)| *w = wave(i));
        }
        let layout = Layout::new(vec![None; features]);
        let mut net = Net::new(open(&network, &layout), &network, &layout, &start);
        let inputs = Inputs::new(&network, &layout, D::INDICATORS);
        let none = vec![0.0; start.len()];
        let mut memory: Vec<_> = net.load(&none).into_iter().zip(net.load(&none)).map(|(a, b)| [a, b]).collect();
        let mut batch = Default::default();
        let classes = if regression { 0 } else { 10 };
        net.device.hold(&inputs, &block, classes)?;
        for t in 0..50 {
            let rows = Rows::Range(t * 32..(t + 1) * 32);
            net.device.pick(&inputs, &block, &rows, classes, &mut batch)?;
            net.clear();
            net.forward(&batch, None);
            net.loss(&batch, 1.0 / 32.0);
            net.backward(&batch, None);
            net.penalise(l2);
            net.step(rule, (rate, t as u64 + 1), &mut memory);
            net.device.pause();
        }
        Ok(net.device.tally().losses)
    }
}

#[test]
fn a_lesson_needs_a_whole_shard() {
    let mut block = block(4, 2, false);
    block.hash = Some(ScalarBuffer::from((0..4).collect::<Vec<u32>>()));
    let (network, layout) = (network(&[2], Activation::Relu, 2), layout());
    let at = network.start(5, 0);
    let lesson = |block: &Block| {
        Lesson::new(Processor::<f64>::default(), &network, &layout, &at, (Work::Loss, 8), block).map(|_| ())
    };
    assert!(lesson(&block).is_err());
    block.hash = None;
    assert!(lesson(&block).is_err());
}
