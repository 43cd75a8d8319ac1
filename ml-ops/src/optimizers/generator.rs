//! A small seeded generator (SplitMix64: Steele, Lea, Flood, 2014).

use serde::{Deserialize, Serialize};

/// Numbers that look random and depend on the seed only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Generator(u64);

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        crate::fold::uniform(self.bits())
    }
}
