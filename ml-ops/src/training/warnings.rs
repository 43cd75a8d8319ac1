//! What a training's user should know about its model.

use super::Run;
use super::history::History;
use crate::device::Device;
use crate::family::Setup;
use crate::optimizer::Outcome;
use crate::prepare::Frozen;
use crate::split::SplitRule;

impl Run {
    /// The first and the last loss, where steps of a learning rate led up. The loss of a part of the rows, or of a part of a
    /// network, is no better measure than chance.
    fn risen(&self, outcome: &Outcome, history: &History) -> Option<(f64, f64)> {
        let params = &self.spec.params;
        let partial = params.float("mini_batch_fraction").is_some_and(|fraction| fraction < 1.0)
            || params.float("dropout").is_some_and(|dropout| dropout > 0.0);
        let [first, .., last] = history.iterations.as_slice() else { return None };
        let (first, last) = (first.loss, last.loss);
        let steps = !outcome.converged || self.spec.shards().is_some();
        (steps && !partial && last - first > 1e-2 * first.abs()).then_some((first, last))
    }

    /// What follows from rows that repeat, where rows are told apart by their content.
    fn repeats(&self, setup: &Setup, frozen: &Frozen) -> Option<String> {
        let profile = self.entry.fitted()?.profile;
        let different = profile.repeats.different(profile.rows);
        let (held, sharded) = (matches!(frozen.split, SplitRule::Hash(_)), self.spec.shards().is_some_and(|n| n > 1));
        if different * 4 > profile.rows || !(held || sharded) {
            return None;
        }
        let mut text =
            format!("rows repeat: about {different} of {} differ, and equal rows stay together", profile.rows);
        if held {
            let share = setup.moments.eval_rows;
            text += &format!(
                "; the {share} rows held out by hash say little about new rows: use SPLIT BY a column of yours, or SPLIT NONE"
            );
        }
        if sharded {
            text += "; the shards of the network see different data: shards = 1 puts all rows into one";
        }
        Some(text)
    }

    /// What explains the last digits.
    pub(super) fn notes(&self) -> Vec<String> {
        let (learnt, mut notes) = (&self.devices.learnt, Vec::new());
        if !learnt.gpus.is_empty() {
            let names = learnt.gpus.iter().cloned().collect::<Vec<_>>().join(", ");
            notes.push(format!("computed in single precision on {names}: another device gives other last digits"));
        }
        if learnt.exact_curvature {
            notes.push(
                "columns depend on each other so nearly that single precision does not tell them apart: their cross \
                 products were taken on the CPU"
                    .into(),
            );
        }
        notes
    }

    pub(super) fn warnings(&self, setup: &Setup, frozen: &Frozen, outcome: &Outcome, history: &History) -> Vec<String> {
        let mut warnings = Vec::new();
        let constant: Vec<&str> = setup
            .layout
            .spans()
            .zip(&frozen.transform.features)
            .filter(|(span, _)| !span.categorical && setup.moments.variance[span.offset] == 0.0)
            .map(|(_, feature)| feature.name.as_str())
            .collect();
        if !constant.is_empty() {
            warnings.push(format!("constant in the training rows, hence of no use: {}", constant.join(", ")));
        }
        warnings.extend(self.repeats(setup, frozen));
        if !outcome.converged {
            warnings.push(format!("not converged after {} iterations: {}", outcome.iterations, outcome.reason));
        }
        if let Some((first, last)) = self.risen(outcome, history) {
            warnings.push(format!("the loss rose from {first:.4} to {last:.4}: try a smaller learning rate"));
        }
        let learnt = &self.devices.learnt;
        let asked = matches!(self.spec.device, Device::Gpu | Device::Named(_));
        if asked && learnt.gpus.is_empty() && learnt.warnings.is_empty() && !learnt.exact_curvature {
            let why = match learnt.reasons.iter().next() {
                Some(why) => format!(": {why}"),
                None => String::new(),
            };
            warnings.push(format!(
                "device = '{}' had nothing to do, the CPU computed all{why} (docs/gpu.md says what runs on a GPU)",
                self.spec.device
            ));
        }
        warnings.extend(self.devices.learnt.warnings.iter().cloned());
        if self.spec.volatile {
            warnings.push("the training query has a volatile function, or a LIMIT without ORDER BY: training again may give another model".into());
        }
        warnings
    }
}
