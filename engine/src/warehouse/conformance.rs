//! What every [`ModelCatalog`] must do, as one function that each implementation's test calls.

use std::collections::BTreeSet;
use std::sync::Arc;

use sinew_ml::model::{DataSummary, FORMAT, Manifest};
use sinew_ml::params::Params;
use sinew_ml::split::SplitSpec;
use sinew_ml::transform::FittedTransform;

use super::models::{Artifact, ModelCatalog, ModelRef, PublishMode};
use crate::error::{Result, SinewError};

/// Writers that race for one name.
pub const RACERS: usize = 20;

/// A small artifact whose weights hold its run, so that mixed files are noticed.
///
/// # Errors
/// Never in practice: a manifest can be written.
pub fn sample(run: &str) -> Result<Artifact> {
    let manifest = Manifest {
        format: FORMAT,
        run: run.into(),
        engine_version: env!("CARGO_PKG_VERSION").into(),
        statement: "TRAIN MODEL m USING linear_regression PREDICT y FROM t".into(),
        query: "SELECT * FROM t".into(),
        family: "linear_regression".into(),
        params: Params::default(),
        solver: "normal".into(),
        seed: 0,
        split: SplitSpec::None,
        transform: FittedTransform::default(),
        weight_column: None,
        data: DataSummary { rows: 10, ..Default::default() },
        iterations: vec![],
        converged: true,
        stop_reason: "one pass is exact".into(),
        metrics: vec![("r2_score".into(), Some(0.5))],
        processor: None,
        device: None,
        gpus: vec![],
        warnings: vec![],
        notes: vec![],
    };
    let manifest = serde_json::to_vec_pretty(&manifest).map_err(|e| SinewError::Internal(e.to_string()))?;
    Ok(Artifact { manifest, weights: format!("weights of {run}").into_bytes() })
}

fn check(kept: bool, what: impl FnOnce() -> String) -> Result<()> {
    if kept { Ok(()) } else { Err(SinewError::Conformance { what: what() }) }
}

fn code<T>(result: Result<T>) -> String {
    result.err().and_then(|e| e.code()).unwrap_or_else(|| "no error".into())
}

/// Runs the whole contract against an empty catalog.
///
/// # Errors
/// The first promise that is not kept, or an error of the catalog.
pub async fn model_catalog(catalog: Arc<dyn ModelCatalog>) -> Result<()> {
    check(catalog.list().await?.is_empty(), || "the catalog starts empty".into())?;
    versions(&*catalog).await?;
    names(&*catalog).await?;
    drops(&*catalog).await?;
    promotion(&*catalog).await?;
    racing_writers(&catalog).await?;
    racing_creators(&catalog).await
}

async fn versions(catalog: &dyn ModelCatalog) -> Result<()> {
    let missing = code(catalog.load(&ModelRef::named("m")).await);
    check(missing == "SINEW-3102", || format!("an unknown model is SINEW-3102, not {missing}"))?;
    for (expected, run) in [(1, "v-a"), (2, "v-b")] {
        let version = catalog.publish("m", &sample(run)?, PublishMode::default()).await?.version;
        check(version == expected, || format!("version {version} instead of {expected}"))?;
    }
    for (reference, run) in [(ModelRef::named("m"), "v-b"), (ModelRef::version("m", 1), "v-a")] {
        let (info, artifact) = catalog.load(&reference).await?;
        check(info.run == run && artifact == sample(run)?, || format!("{reference} is run {}, not {run}", info.run))?;
    }
    let missing = code(catalog.load(&ModelRef::version("m", 3)).await);
    check(missing == "SINEW-3103", || format!("an unknown version is SINEW-3103, not {missing}"))?;
    let exists = PublishMode { must_be_new: true, promote: true };
    let refused = code(catalog.publish("m", &sample("v-c")?, exists).await);
    check(refused == "SINEW-3104", || format!("a model that must be new is SINEW-3104, not {refused}"))?;
    let numbers: Vec<u64> = catalog.versions("m").await?.iter().map(|v| v.version).collect();
    check(numbers == [1, 2], || format!("versions are {numbers:?}"))
}

async fn names(catalog: &dyn ModelCatalog) -> Result<()> {
    for name in ["../../etc", "a/b", "Ünïcode ☃", "x\"; DROP TABLE t; --", "%2e%2e", "select", "a.b", "CASE", "case"]
    {
        catalog.publish(name, &sample(&format!("n-{name}"))?, PublishMode::default()).await?;
        let (_, artifact) = catalog.load(&ModelRef::named(name)).await?;
        check(artifact == sample(&format!("n-{name}"))?, || format!("'{name}' holds another model"))?;
        check(catalog.list().await?.iter().any(|m| m.name == name), || format!("'{name}' is not listed"))?;
        catalog.remove(name, None).await?;
    }
    for name in ["", "a\0b", &"x".repeat(65_536)] {
        let refused = code(catalog.publish(name, &sample("n")?, PublishMode::default()).await);
        check(refused == "SINEW-3101", || format!("an impossible name is SINEW-3101, not {refused}"))?;
    }
    Ok(())
}

async fn drops(catalog: &dyn ModelCatalog) -> Result<()> {
    for run in ["d-1", "d-2", "d-3"] {
        catalog.publish("d", &sample(run)?, PublishMode::default()).await?;
    }
    catalog.remove("d", Some(3)).await?;
    let default = catalog.load(&ModelRef::named("d")).await?.0.version;
    check(default == 2, || format!("after dropping the default, version {default} is it, not 2"))?;
    let gone = code(catalog.load(&ModelRef::version("d", 3)).await);
    check(gone == "SINEW-3103", || format!("a dropped version is SINEW-3103, not {gone}"))?;
    let gone = code(catalog.remove("d", Some(3)).await);
    check(gone == "SINEW-3103", || format!("dropping it again is SINEW-3103, not {gone}"))?;
    catalog.remove("d", None).await?;
    let gone = code(catalog.load(&ModelRef::named("d")).await);
    check(gone == "SINEW-3102", || format!("a dropped model is SINEW-3102, not {gone}"))?;
    let gone = code(catalog.remove("d", None).await);
    check(gone == "SINEW-3102", || format!("dropping it again is SINEW-3102, not {gone}"))?;
    check(catalog.list().await?.iter().all(|m| m.name != "d"), || "a dropped model is listed".into())?;
    let new = PublishMode { must_be_new: true, promote: true };
    let version = catalog.publish("d", &sample("d-4")?, new).await?.version;
    check(version == 4, || format!("a number is used again: {version}"))
}

async fn promotion(catalog: &dyn ModelCatalog) -> Result<()> {
    catalog.publish("p", &sample("p-1")?, PublishMode::default()).await?;
    let quiet = PublishMode { must_be_new: false, promote: false };
    catalog.publish("p", &sample("p-2")?, quiet).await?;
    let default = catalog.load(&ModelRef::named("p")).await?.0.version;
    check(default == 1, || format!("version {default} is the default, and 1 was promoted last"))
}

async fn racing_writers(catalog: &Arc<dyn ModelCatalog>) -> Result<()> {
    let writers = (0..RACERS).map(|n| {
        let catalog = Arc::clone(catalog);
        tokio::spawn(async move {
            let run = format!("r-{n}");
            Ok::<_, SinewError>((catalog.publish("race", &sample(&run)?, PublishMode::default()).await?.version, run))
        })
    });
    let mut numbers = BTreeSet::new();
    for writer in futures::future::join_all(writers).await {
        let (version, run) = writer.map_err(|e| SinewError::Internal(e.to_string()))??;
        let (_, artifact) = catalog.load(&ModelRef::version("race", version)).await?;
        check(artifact == sample(&run)?, || format!("version {version} was told to run {run} and holds another"))?;
        numbers.insert(version);
    }
    let expected: BTreeSet<u64> = (1..=RACERS as u64).collect();
    check(numbers == expected, || format!("{RACERS} writers got the versions {numbers:?}"))
}

async fn racing_creators(catalog: &Arc<dyn ModelCatalog>) -> Result<()> {
    let new = PublishMode { must_be_new: true, promote: true };
    let writers = (0..RACERS).map(|n| {
        let catalog = Arc::clone(catalog);
        tokio::spawn(async move { catalog.publish("new", &sample(&format!("c-{n}"))?, new).await })
    });
    let mut won = 0;
    for writer in futures::future::join_all(writers).await {
        match writer.map_err(|e| SinewError::Internal(e.to_string()))? {
            Ok(_) => won += 1,
            Err(SinewError::ModelExists { .. }) => {}
            Err(other) => return Err(other),
        }
    }
    check(won == 1, || format!("{won} of {RACERS} creators of one new model succeeded"))
}
