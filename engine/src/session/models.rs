//! Models for plans: loaded before planning, which cannot wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use sinew_ml::model::Model;
use sinew_sql::{ModelRef as SqlRef, Models, Version};

use super::Session;
use crate::error::Result;
use crate::warehouse::{ModelRef, Selector, VersionInfo};

/// The reference as the warehouse knows it.
pub fn reference(written: &SqlRef) -> ModelRef {
    let selector = match &written.version {
        None => Selector::Default,
        Some(Version::Number(number)) => Selector::Version(*number),
        Some(Version::Alias(alias)) => Selector::Alias(alias.clone()),
    };
    ModelRef { name: written.name.clone(), selector }
}

/// Loads one model.
///
/// # Errors
/// When it is not there, damaged, or cannot be read.
pub async fn load_model(session: &Session, written: &SqlRef) -> Result<(VersionInfo, Model)> {
    let (info, artifact) = session.models().load(&reference(written)).await?;
    Ok((info, Model::from_files(&artifact.manifest, &artifact.weights)?))
}

/// Loads all models a statement refers to.
///
/// # Errors
/// When one is not there, damaged, or cannot be read.
pub async fn load_models(session: &Session, written: &[SqlRef]) -> Result<Arc<dyn Models>> {
    let mut loaded: BTreeMap<SqlRef, Arc<Model>> = BTreeMap::new();
    for reference in written {
        let (_, model) = load_model(session, reference).await?;
        loaded.insert(reference.clone(), Arc::new(model));
    }
    Ok(Arc::new(loaded))
}
