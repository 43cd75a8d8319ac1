//! Which vector instructions a kernel runs with, chosen at run time.

use std::fmt;

#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{Lanes, Portable};

/// A set of vector instructions. Results are the same bits with every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What every processor has.
    Portable,
    /// AVX2 with FMA: four doubles.
    Avx2,
    /// AVX-512: eight doubles.
    Avx512,
}

impl Isa {
    /// All of them, the best last.
    pub const ALL: [Isa; 3] = [Isa::Portable, Isa::Avx2, Isa::Avx512];

    /// The best this processor has.
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.available()).unwrap_or(Isa::Portable)
    }

    /// Whether this processor has it.
    pub fn available(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && Isa::Avx2.available(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Runs `job` with these instructions, or with the portable ones where the processor lacks them.
    pub(super) fn run<J: Job>(self, job: J) {
        #[cfg(target_arch = "x86_64")]
        if self != Isa::Portable && self.available() {
            // SAFETY: just found available.
            return unsafe {
                match self {
                    Isa::Avx512 => avx512(job),
                    _ => avx2(job),
                }
            };
        }
        // SAFETY: every processor runs portable code.
        unsafe { job.run::<Portable<4>>() }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        })
    }
}

/// Work written for any vector type. Implementations are `#[inline(always)]`, so that they are compiled
/// once inside each of the entry functions below, with its instructions.
pub(super) trait Job {
    /// Does it.
    ///
    /// # Safety
    /// The processor has the instructions of `V`.
    unsafe fn run<V: Lanes>(self);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<J: Job>(job: J) {
    // SAFETY: by contract.
    unsafe { job.run::<Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
unsafe fn avx512<J: Job>(job: J) {
    // SAFETY: by contract.
    unsafe { job.run::<Avx512>() }
}
