//! A network over columns of all kinds, and shards of rows for it.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float32Array, Float64Array, RecordBatch, UInt8Array, UInt32Array};
use sinew_ml::Result;
use sinew_ml::block::{Block, HASH, LABEL, ROLE, WEIGHT};
use sinew_ml::fold::{Layout, mix, uniform};
use sinew_ml::network::{Activation, Head, Network, shard_of};

fn noise(i: usize, salt: u64) -> f64 {
    2.0 * uniform(mix(i as u32, salt)) - 1.0
}

/// Features of all kinds: categories that become columns and that do not, numbers of both precisions.
pub fn layout() -> Layout {
    Layout::new([Some(40), None, Some(3), None, Some(21)])
}

/// A network over that layout; a regression where there are no classes.
pub fn network(hidden: &[usize], activation: Activation, classes: usize) -> Network {
    let (head, outputs) = match classes {
        0 => (Head::Squared { center: 0.4, scale: 1.5 }, 1),
        k => (Head::Softmax, k),
    };
    let number = |j: usize| j == 40 || j == 44;
    let pick = |other: f64, own: f64| (0..66).map(|j| if number(j) { own } else { other }).collect();
    Network { shift: pick(0.0, 1.0), scale: pick(1.0, 0.7), hidden: hidden.to_vec(), outputs, activation, head }
}

/// A shard with training, held-out and dropped rows; with arrays of its own if it may stay on a device.
pub fn block(rows: usize, classes: usize, weighted: bool, stays: bool) -> Result<(Block, Option<RecordBatch>)> {
    let hash = (0..u32::MAX).find(|hash| shard_of(*hash, 8) == 3).unwrap_or(0);
    let number = |salt: u64| (0..rows).map(|i| noise(i, salt) * 3.0 + 1.0).collect::<Vec<f64>>();
    let codes = |n: usize, salt: usize| (0..rows).map(|i| ((i * i + salt) % (n + 1)) as u32).collect::<Vec<u32>>();
    let role = |i: usize| {
        if i < rows * 3 / 4 {
            0u8
        } else if i < rows - 2 {
            1
        } else {
            255
        }
    };
    let label: ArrayRef = match classes {
        0 => Arc::new(Float64Array::from(number(9))),
        _ => Arc::new(UInt32Array::from_iter_values((0..rows).map(|i| (i * 5 % classes) as u32))),
    };
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("a", Arc::new(UInt32Array::from(codes(40, 1)))),
        ("b", Arc::new(Float64Array::from(number(1)))),
        ("c", Arc::new(UInt32Array::from(codes(3, 0)))),
        ("d", Arc::new(Float32Array::from_iter_values(number(2).iter().map(|v| *v as f32)))),
        ("e", Arc::new(UInt32Array::from(codes(21, 5)))),
        (LABEL, label),
        (ROLE, Arc::new(UInt8Array::from_iter_values((0..rows).map(role)))),
        (HASH, Arc::new(UInt32Array::from(vec![hash; rows]))),
    ];
    if weighted {
        let weight = (0..rows).map(|i| (i % 3) as f64 + 0.5);
        columns.push((WEIGHT, Arc::new(Float64Array::from_iter_values(weight))));
    }
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut block = Block::from_batch(&batch)?;
    if stays {
        return Ok((block, Some(batch)));
    }
    block.origin = Default::default();
    Ok((block, None))
}
