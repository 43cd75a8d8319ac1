//! Blocks arranged by virtual shard: one block for each, its rows in an order that their content decides.
//!
//! ```text
//!  prepared blocks, in the order they came          shard s = rows whose hash says s
//!  [ . . . ] [ . . . ] [ . . ]          ──>         [ training rows | held-out rows | dropped rows ]
//!                                                    each part by hash, and by the rows themselves where
//!                                                    two have the same hash
//! ```
//! Equal rows stand side by side, so any order of blocks gives the same shards. When all shards are there they
//! take the place of the blocks.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt8Array, UInt32Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{DataType, FieldRef, Float32Type, Float64Type, UInt8Type, UInt32Type};

use crate::block::{HASH, ROLE};
use crate::error::{MlError, Result};
use crate::fold::ROLE_TRAIN;
use crate::network::shard_of;

/// The rows of a prepared block that belong to a shard.
pub(super) fn pick(batch: &RecordBatch, shard: u32, shards: u32) -> Result<RecordBatch> {
    let rows = hashes(batch)?.iter().enumerate().filter(|(_, hash)| shard_of(**hash, shards) == shard);
    Ok(take_record_batch(batch, &UInt32Array::from_iter_values(rows.map(|(row, _)| row as u32)))?)
}

/// The parts of a shard as one block in canonical order; nothing without parts.
pub(super) fn join(parts: &[RecordBatch]) -> Result<Option<RecordBatch>> {
    // Blocks without a held-out or dropped row have no roles.
    let with_roles = parts.iter().find(|part| part.column_by_name(ROLE).is_some());
    let Some(schema) = with_roles.or(parts.first()).map(RecordBatch::schema) else { return Ok(None) };
    let complete = |part: &RecordBatch| -> Result<RecordBatch> {
        let column = |field: &FieldRef| match part.column_by_name(field.name()) {
            Some(column) => Ok(Arc::clone(column)),
            None if field.name() == ROLE => {
                Ok(Arc::new(UInt8Array::from(vec![ROLE_TRAIN; part.num_rows()])) as ArrayRef)
            }
            None => Err(MlError::Internal(format!("a prepared block has no column '{}'", field.name()))),
        };
        Ok(RecordBatch::try_new(Arc::clone(&schema), schema.fields().iter().map(column).collect::<Result<_>>()?)?)
    };
    let parts = parts.iter().map(complete).collect::<Result<Vec<_>>>()?;
    let all = concat_batches(&schema, &parts)?;
    let keys = Keys::of(&all)?;
    let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
    order.sort_unstable_by(|a, b| keys.compare(*a as usize, *b as usize));
    Ok(Some(take_record_batch(&all, &UInt32Array::from(order))?))
}

fn hashes(batch: &RecordBatch) -> Result<&[u32]> {
    let column = batch.column_by_name(HASH).and_then(|array| array.as_primitive_opt::<UInt32Type>());
    column
        .map(|hashes| &hashes.values()[..])
        .ok_or_else(|| MlError::Internal("a prepared block has no row hashes".into()))
}

/// What rows are ordered by: role, hash, then every column.
struct Keys<'a> {
    role: Option<&'a [u8]>,
    hash: &'a [u32],
    columns: Vec<Cells<'a>>,
}

enum Cells<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    U32(&'a [u32]),
}

impl<'a> Keys<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self> {
        let (role, hash) = (batch.column_by_name(ROLE), hashes(batch)?);
        let cells = |array: &'a ArrayRef| match array.data_type() {
            DataType::Float32 => Some(Cells::F32(array.as_primitive::<Float32Type>().values())),
            DataType::Float64 => Some(Cells::F64(array.as_primitive::<Float64Type>().values())),
            DataType::UInt32 => Some(Cells::U32(array.as_primitive::<UInt32Type>().values())),
            _ => None,
        };
        let role = role.and_then(|array| array.as_primitive_opt::<UInt8Type>()).map(|role| &role.values()[..]);
        Ok(Self { role, hash, columns: batch.columns().iter().filter_map(cells).collect() })
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let role = self.role.map_or(Ordering::Equal, |role| role[a].cmp(&role[b]));
        let order = role.then_with(|| self.hash[a].cmp(&self.hash[b]));
        if order.is_ne() {
            return order;
        }
        let columns = self.columns.iter().map(|column| match column {
            Cells::F32(v) => v[a].total_cmp(&v[b]),
            Cells::F64(v) => v[a].total_cmp(&v[b]),
            Cells::U32(v) => v[a].cmp(&v[b]),
        });
        columns.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::Float64Array;

    use super::*;

    /// Rows whose hashes collide, as (hash, role, x).
    fn batch(rows: &[(u32, u8, f64)]) -> RecordBatch {
        let column = |array: ArrayRef| array;
        RecordBatch::try_from_iter([
            ("x", column(Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2))))),
            (ROLE, column(Arc::new(UInt8Array::from_iter_values(rows.iter().map(|r| r.1))))),
            (HASH, column(Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.0))))),
        ])
        .unwrap_or_else(|_| RecordBatch::new_empty(Arc::new(datafusion::arrow::datatypes::Schema::empty())))
    }

    #[test]
    fn a_shard_is_the_same_whatever_the_order_and_the_blocks() -> Result<()> {
        let rows: Vec<(u32, u8, f64)> =
            (0..200u32).map(|i| (i % 60, [0, 0, 1, 255][i as usize % 4], f64::from(i % 7) - 3.0)).collect();
        let backwards: Vec<_> = rows.iter().rev().copied().collect();
        let mut seen = 0;
        for shard in 0..3 {
            let one = join(&[pick(&batch(&rows), shard, 3)?])?;
            let parts = backwards.chunks(17).map(|part| pick(&batch(part), shard, 3)).collect::<Result<Vec<_>>>()?;
            let other = join(&parts)?;
            assert_eq!(one, other);
            let one = one.ok_or_else(|| MlError::Internal("no rows".into()))?;
            seen += one.num_rows();
            let roles = one.column(1).as_primitive::<UInt8Type>().values().to_vec();
            assert!(roles.is_sorted());
        }
        assert_eq!(seen, 200);
        Ok(())
    }
}
