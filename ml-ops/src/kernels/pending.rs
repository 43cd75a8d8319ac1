//! Rows copied out of their blocks, so that a kernel sees full tiles where few rows count (a sample, a
//! fold, the rows left over at the end of a block).

use super::lanes::PAD;
use super::tile::{Cells, Tile};

#[derive(Debug)]
enum Store {
    Numbers(Vec<f64>),
    Codes(Vec<u32>),
}

/// A tile that owns its rows.
#[derive(Debug, Default)]
pub(super) struct Pending {
    columns: Vec<Store>,
    y: Vec<f64>,
    w: Vec<f64>,
    held: Vec<f64>,
    hash: Vec<u32>,
    any_held: bool,
}

impl Pending {
    /// Rows waiting.
    pub fn len(&self) -> usize {
        self.w.len()
    }

    /// Copies the rows of `tile` (of any length here) that `picked` lists.
    pub fn append(&mut self, tile: &Tile<'_>, picked: &[u32]) {
        if self.columns.is_empty() {
            self.columns = tile
                .cells
                .iter()
                .map(|c| if matches!(c, Cells::Codes(_)) { Store::Codes(vec![]) } else { Store::Numbers(vec![]) })
                .collect();
        }
        let rows = || picked.iter().map(|&i| i as usize);
        for (store, cells) in self.columns.iter_mut().zip(tile.cells) {
            match (store, cells) {
                (Store::Numbers(to), Cells::F32(from)) => to.extend(rows().map(|i| f64::from(from[i]))),
                (Store::Numbers(to), Cells::F64(from)) => to.extend(rows().map(|i| from[i])),
                (Store::Codes(to), Cells::Codes(from)) => to.extend(rows().map(|i| from[i])),
                // The blocks were checked against one layout.
                _ => {}
            }
        }
        self.y.extend(rows().map(|i| tile.y[i]));
        self.w.extend(rows().map(|i| tile.w[i]));
        self.held.extend(rows().map(|i| tile.held[i]));
        if !tile.hash.is_empty() {
            self.hash.extend(rows().map(|i| tile.hash[i]));
        }
        self.any_held |= tile.any_held;
    }

    /// Hands the rows over as a padded tile, and starts anew.
    pub fn flush(&mut self, run: impl FnOnce(&Tile<'_>)) {
        let rows = self.w.len().next_multiple_of(PAD);
        if rows == 0 {
            return;
        }
        for store in &mut self.columns {
            match store {
                Store::Numbers(v) => v.resize(rows, 0.0),
                Store::Codes(v) => v.resize(rows, u32::MAX),
            }
        }
        self.y.resize(rows, 0.0);
        self.w.resize(rows, 0.0);
        self.held.resize(rows, 0.0);
        if !self.hash.is_empty() {
            self.hash.resize(rows, 0);
        }
        let cells: Vec<_> = self
            .columns
            .iter()
            .map(|store| match store {
                Store::Numbers(v) => Cells::F64(v),
                Store::Codes(v) => Cells::Codes(v),
            })
            .collect();
        run(&Tile {
            rows,
            cells: &cells,
            y: &self.y,
            w: &self.w,
            held: &self.held,
            any_held: self.any_held,
            hash: &self.hash,
        });
        for store in &mut self.columns {
            match store {
                Store::Numbers(v) => v.clear(),
                Store::Codes(v) => v.clear(),
            }
        }
        self.y.clear();
        self.w.clear();
        self.held.clear();
        self.hash.clear();
        self.any_held = false;
    }
}
