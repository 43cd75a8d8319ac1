//! Rows that could be centres: k-means|| of Bahmani et al., *Scalable K-Means++*, VLDB 2012.

use super::centroids::{Distances, weigh};
use super::drive::Pass;
use super::lanes::Lanes;
use super::tile::{Cells, Need, Plan, Tile, Wanted};
use crate::fold::{Fold, mix, uniform};
use crate::partial::Partial;

/// [`crate::fold::Kernel::Candidates`] at work. Rows of weight zero are never candidates.
pub(super) struct Candidates<'f> {
    distances: Distances<'f>,
    salt: u64,
    factor: f64,
    keep: u32,
    loss_magic: f64,
    /// Rows with keys above this cannot be among those kept.
    limit: u64,
}

impl<'f> Candidates<'f> {
    pub fn new(
        fold: &Fold,
        (shift, scale): (&'f [f64], &'f [f64]),
        centers: &[f64],
        salt: u64,
        factor: f64,
        keep: u32,
    ) -> Self {
        let distances = Distances::new(Plan::new(&fold.layout), shift, scale, centers);
        Self { distances, salt, factor, keep, loss_magic: fold.loss_grid.magic(), limit: u64::MAX }
    }

    /// All coordinates of a staged row.
    fn row(&self, tile: &Tile<'_>, i: usize) -> Vec<f64> {
        let Distances { plan, z, stride, scale, .. } = &self.distances;
        let mut row = vec![0.0; plan.width];
        for (c, &(_, j)) in plan.numeric.iter().enumerate() {
            row[j] = z[c * stride + i];
        }
        for &(column, span) in &plan.categories {
            if let Cells::Codes(codes) = tile.cells[column]
                && (codes[i] as usize) < span.width
            {
                let j = span.offset + codes[i] as usize;
                row[j] = scale[j];
            }
        }
        row
    }
}

impl Pass for Candidates<'_> {
    fn need(&self) -> Need {
        Need {
            label: Wanted::Nothing,
            train: true,
            held: false,
            hash: true,
            scratch: self.distances.plan.numeric.len() + 1,
        }
    }

    #[inline(always)]
    unsafe fn tile<V: Lanes>(&mut self, tile: &Tile<'_>, into: &mut Partial) {
        let any = self.distances.count > 0;
        // SAFETY: by contract; every slice is as long as the tile.
        unsafe {
            self.distances.stage::<V>(tile);
            if any {
                self.distances.assign::<V>(tile);
                into.totals.counts_mut()[1] += weigh::<V>(tile.w, &self.distances.distance, self.loss_magic);
            }
        }
        into.gathered.keep = into.gathered.keep.max(self.keep);
        for (i, (&hash, &w)) in tile.hash.iter().zip(tile.w).enumerate() {
            let key = mix(hash, self.salt);
            let taken =
                w != 0.0 && key <= self.limit && (!any || uniform(key) < self.factor * w * self.distances.distance[i]);
            if taken {
                let row = self.row(tile, i);
                into.gathered.rows.push((key, row));
                let keep = self.keep as usize;
                if keep > 0 && into.gathered.rows.len() >= 2 * keep + 64 {
                    into.gathered.settle();
                    if into.gathered.rows.len() == keep {
                        self.limit = into.gathered.rows.last().map_or(u64::MAX, |row| row.0);
                    }
                }
            }
        }
    }
}
