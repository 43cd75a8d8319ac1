//! How often rows repeat: the rows of each of the smallest hashes, which are a fair sample of the rows that differ.
//!
//! Equal rows are held out together, so few different rows make a held-out part that says little.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Hashes that are kept.
const KEPT: usize = 256;

/// Rows of each of the smallest row hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeats(BTreeMap<u32, u64>);

impl Repeats {
    /// Adds rows by their hashes.
    pub fn see(&mut self, hashes: &[u32]) {
        let mut last = self.last();
        for &hash in hashes {
            if hash <= last {
                *self.0.entry(hash).or_default() += 1;
                last = self.cut();
            }
        }
    }

    /// Adds what other rows showed.
    pub fn merge(&mut self, other: Repeats) {
        for (hash, rows) in other.0 {
            *self.0.entry(hash).or_default() += rows;
        }
        while self.0.len() > KEPT {
            self.0.pop_last();
        }
    }

    /// About how many of `rows` rows differ.
    pub fn different(&self, rows: u64) -> u64 {
        let seen: u64 = self.0.values().sum();
        if seen == 0 { 0 } else { (rows as f64 * self.0.len() as f64 / seen as f64).round() as u64 }
    }

    fn cut(&mut self) -> u32 {
        if self.0.len() > KEPT {
            self.0.pop_last();
        }
        self.last()
    }

    /// The largest hash that would be kept.
    fn last(&self) -> u32 {
        if self.0.len() < KEPT { u32::MAX } else { self.0.keys().next_back().copied().unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::mix;

    #[test]
    fn an_estimate_is_the_same_for_any_order_and_parts() {
        let hash = |i: u64| mix(i as u32, 3) as u32;
        for (different, times) in [(5u64, 100u64), (256, 3), (2_000, 7), (50_000, 1)] {
            let rows: Vec<u32> = (0..different * times).map(|i| hash(i % different)).collect();
            let mut whole = Repeats::default();
            whole.see(&rows);
            let mut parts = Repeats::default();
            for part in rows.chunks(997).rev() {
                let mut other = Repeats::default();
                other.see(part);
                parts.merge(other);
            }
            assert_eq!(whole, parts);
            let found = whole.different(different * times) as f64;
            assert!((found / different as f64 - 1.0).abs() < 0.01, "{found} of {different}");
        }
    }
}
