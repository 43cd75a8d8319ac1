//! A training between two steps, as bytes: what another process needs to go on to the same model.
//!
//! ```text
//! "SNWC"  format (1 byte)  SHA-256 of the rest (32 bytes)  what was asked, what the rows were, where it stood
//! ```
//! Everything before the loop (profile, means, transform, moments) follows from the rows, so it is done again
//! rather than kept. A digest of it says whether the rows are still the same.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::TrainSpec;
use super::devices::Learnt;
use crate::error::{MlError, Result};
use crate::family::{Learner, Setup};
use crate::model::IterationRecord;
use crate::optimizer::Iteration;

const MAGIC: &[u8] = b"SNWC";
/// The layout of the bytes, the states of optimizers included.
const FORMAT: u8 = 3;
const HEAD: usize = MAGIC.len() + 1 + 32;

/// A training between two steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Version of the engine that wrote it: another one may compute differently.
    pub engine_version: String,
    /// What is trained.
    pub origin: Origin,
    /// All iterations so far.
    pub iterations: Vec<IterationRecord>,
    /// The last of them in full, since its row may not have been sent.
    pub last: Option<Iteration>,
    /// What the run learnt of its devices.
    pub devices: Learnt,
    /// The optimizer's state.
    pub state: Vec<u8>,
}

/// What a training follows from, as digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The solver's name; it follows from options and shape.
    solver: String,
    /// Of family, options, query and the roles of its columns.
    statement: [u8; 32],
    /// Of the files' names, sizes and times, and of what the rows add up to.
    rows: [u8; 32],
}

impl Origin {
    /// The origin of a training whose rows were read.
    ///
    /// # Errors
    /// Never: the statement is plain data.
    pub fn of(spec: &TrainSpec, setup: &Setup, learner: &Learner, files: &str) -> Result<Self> {
        let asked = (&spec.family, &spec.params, &spec.query, &spec.columns, &spec.split, &spec.weight_column);
        let asked = serde_json::to_vec(&asked).map_err(|e| MlError::Internal(e.to_string()))?;
        // Debug text of a double reads as the same double.
        let sums = format!("{:?} {:?} {:?} {}", setup.layout, setup.moments, setup.bounds, setup.classes);
        let mut rows = Sha256::new();
        rows.update(files);
        rows.update(sums);
        Ok(Self {
            solver: learner.solver.into(),
            statement: Sha256::digest(asked).into(),
            rows: rows.finalize().into(),
        })
    }
}

impl Checkpoint {
    /// As bytes.
    ///
    /// # Errors
    /// Never: it is plain data.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let body = postcard::to_allocvec(self).map_err(|e| MlError::Internal(e.to_string()))?;
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&Sha256::digest(&body));
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// What [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When the bytes were cut or changed, or another version wrote them.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: &str| MlError::Resume { reason: format!("the checkpoint is damaged: {reason}") };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin as one"))?;
        let (format, rest) = rest.split_first().ok_or_else(|| damaged("it is cut short"))?;
        if *format != FORMAT {
            let reason = format!("the checkpoint has format {format}, and this version reads {FORMAT}");
            return Err(MlError::Resume { reason });
        }
        let (digest, body) = rest.split_at_checked(32).ok_or_else(|| damaged("it is cut short"))?;
        if digest != Sha256::digest(body).as_slice() {
            return Err(damaged("its checksum does not match"));
        }
        postcard::from_bytes(body).map_err(|e| damaged(&e.to_string()))
    }

    /// Puts the optimizer where the checkpoint was taken.
    ///
    /// # Errors
    /// When it belongs to other rows, another statement or another version of the engine.
    pub fn restore(&self, spec: &TrainSpec, origin: &Origin, learner: &mut Learner) -> Result<()> {
        let refuse = |reason: String| Err(MlError::Resume { reason });
        if self.engine_version != spec.engine_version {
            return refuse(format!(
                "its checkpoint is of version {}, this is version {}, and their arithmetic may differ",
                self.engine_version, spec.engine_version
            ));
        }
        if self.origin.statement != origin.statement || self.origin.solver != origin.solver {
            return refuse("the statement means something else now, such as other columns or options".into());
        }
        if self.origin.rows != origin.rows {
            return refuse("the rows of its query have changed since it began".into());
        }
        learner.optimizer.restore(&self.state)
    }
}

/// Says when a checkpoint is due.
#[derive(Debug)]
pub struct Clock {
    every: Option<Duration>,
    last: Instant,
    /// Whether there was one since the process is about to end.
    hurried: bool,
}

/// Between two checkpoints when the process is about to end.
const HURRY: Duration = Duration::from_secs(1);

impl Clock {
    /// A checkpoint each `seconds`, at the end of the step that runs then; 0 means after each step, `None` never.
    pub fn new(seconds: Option<u64>) -> Self {
        Self { every: seconds.map(Duration::from_secs), last: Instant::now(), hurried: false }
    }

    /// Whether one is due; the next is then counted from now. When the process is about to end, the first is due at once.
    pub fn is_due(&mut self, ending: bool) -> bool {
        let since = self.last.elapsed();
        let due = self.every.is_some_and(|every| since >= every || ending && (!self.hurried || since >= HURRY));
        if due {
            self.last = Instant::now();
            self.hurried |= ending;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ends_hurries() {
        let mut clock = Clock::new(Some(3600));
        assert!(!clock.is_due(false) && clock.is_due(true));
        assert!(!clock.is_due(true), "the next one has a second");
        assert!(!Clock::new(None).is_due(true));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() -> Result<()> {
        let origin = Origin { solver: "s".into(), statement: [1; 32], rows: [2; 32] };
        let whole = Checkpoint {
            engine_version: "1".into(),
            origin,
            iterations: Vec::new(),
            last: None,
            devices: Learnt::default(),
            state: vec![7; 9],
        };
        let bytes = whole.encode()?;
        assert_eq!(Checkpoint::decode(&bytes)?, whole);
        for at in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut other = bytes.clone();
                other[at] ^= 1 << bit;
                assert!(Checkpoint::decode(&other).is_err(), "bit {bit} of byte {at}");
            }
        }
        Ok(())
    }
}
