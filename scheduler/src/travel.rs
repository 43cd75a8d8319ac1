//! Which settings of a session travel with a task: those that an executor does not have by itself.
//!
//! Ballista sends all of them, some two hundred, with every task, and an executor parses each; with the small
//! tasks of a training that is a good part of the work.

use std::collections::HashMap;

use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};
use ballista_core::serde::protobuf::KeyValuePair;
use datafusion::prelude::SessionConfig;

/// Settings whose default follows from the machine, or that executors set otherwise.
const ALWAYS: [&str; 4] = [
    "datafusion.execution.target_partitions",
    "datafusion.execution.planning_concurrency",
    "datafusion.execution.enable_file_stream_work_stealing",
    "sinew.roots",
];

/// What an executor's session is before a task's settings are put into it.
#[derive(Debug)]
pub struct Defaults(HashMap<String, Option<String>>);

impl Defaults {
    /// The settings that executors of this version begin with.
    pub fn new() -> Self {
        let pairs = SessionConfig::new_with_ballista().to_key_value_pairs();
        Self(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect())
    }

    /// Leaves out what an executor has already, or does not know.
    pub fn leave_out(&self, settings: &mut Vec<KeyValuePair>) {
        settings.retain(|pair| {
            ALWAYS.contains(&pair.key.as_str()) || self.0.get(&pair.key).is_some_and(|value| *value != pair.value)
        });
    }
}

#[cfg(test)]
mod tests {
    use sinew::SessionOptions;

    use super::*;

    #[test]
    fn an_executor_has_the_settings_of_the_session() -> std::result::Result<(), Box<dyn std::error::Error>> {
        let mut options = SessionOptions::in_memory();
        options.set("roots", "roots", "/data")?;
        let session = SessionConfig::new_with_ballista()
            .with_option_extension(options)
            .set_bool("datafusion.execution.parquet.pushdown_filters", true)
            .set_str("datafusion.execution.time_zone", "+02:00")
            .set_str("ballista.shuffle.compression.codec", "none")
            .set_usize("datafusion.execution.target_partitions", 3);
        let mut sent = session.to_key_value_pairs();
        let all = sent.len();
        Defaults::new().leave_out(&mut sent);
        assert!(sent.len() < 12 && all > 100, "{} of {all}", sent.len());
        assert!(sent.iter().any(|pair| pair.key == "sinew.roots"));

        let settings = |config: &SessionConfig| {
            let pairs = config.to_key_value_pairs().into_iter().filter(|pair| !pair.key.starts_with("sinew."));
            pairs.map(|pair| (pair.key, pair.value)).collect::<HashMap<_, _>>()
        };
        let received = SessionConfig::new_with_ballista().update_from_key_value_pair(&sent);
        assert_eq!(settings(&received), settings(&session));
        Ok(())
    }
}
