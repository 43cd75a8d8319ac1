//! A permutation that can be asked for any of its places: rounds of a Feistel network over a power of four,
//! walked until the result is in range (Black and Rogaway, *Ciphers with Arbitrary Finite Domains*, 2002).

use crate::fold::mix;

/// A pseudo-random order of `0..count`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shuffle {
    count: u64,
    /// Bits of half a place.
    half: u32,
    salt: u64,
}

/// Rounds of the network; four look random.
const ROUNDS: u64 = 4;

impl Shuffle {
    pub fn new(count: usize, salt: u64) -> Self {
        let count = count as u64;
        let bits = u64::BITS - count.saturating_sub(1).leading_zeros();
        Self { count, half: bits.div_ceil(2).max(1), salt }
    }

    /// What stands at `place`, below the count.
    pub fn at(&self, place: usize) -> usize {
        let mask = (1u64 << self.half) - 1;
        let mut at = place as u64;
        loop {
            let (mut left, mut right) = (at >> self.half, at & mask);
            for round in 0..ROUNDS {
                let mixed = mix(right as u32, self.salt.wrapping_mul(ROUNDS).wrapping_add(round));
                (left, right) = (right, left ^ (mixed & mask));
            }
            at = left << self.half | right;
            if at < self.count {
                return at as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_taken_once() {
        for count in [1, 2, 3, 4, 5, 16, 17, 100, 1000, 4097] {
            for salt in [0, 1, u64::MAX] {
                let shuffle = Shuffle::new(count, salt);
                let mut all: Vec<usize> = (0..count).map(|i| shuffle.at(i)).collect();
                if count > 99 {
                    assert!(all.iter().enumerate().filter(|(i, j)| i == *j).count() < count / 10);
                }
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
