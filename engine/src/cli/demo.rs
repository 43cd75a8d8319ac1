//! `sinew demo`: trains and scores on data that comes with the program.

use super::args::Settings;
use super::run::Outcome;
use crate::error::{Result, SinewError};

/// Runs the demonstration.
pub async fn run(_settings: &Settings) -> Result<Outcome> {
    Err(SinewError::NotAvailable { what: "sinew demo".into(), hint: "see \\? in the shell".into() })
}
