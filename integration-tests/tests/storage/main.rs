//! Data and warehouses in object stores, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod azure;
mod faults;
mod gcs;
mod refusals;
mod s3;

use std::process::{Command, Output};
use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use sinew::warehouse::conformance::model_catalog;
use sinew::warehouse::{Location, StoreCatalog};
use sinew::{Session, SessionOptions};
use sinew_integration_tests::file;

/// Options from names and values.
fn options(values: &[(&str, &str)]) -> SessionOptions {
    let mut options = SessionOptions::new().with_threads(2).unwrap();
    for (name, value) in values {
        options.set(name, name, value).unwrap();
    }
    options
}

/// Options for the S3 server at `url`.
fn s3_options(url: &str, more: &[(&str, &str)]) -> SessionOptions {
    let keys = [
        ("s3_endpoint", url),
        ("s3_access_key_id", "AKIATEST"),
        ("s3_secret_access_key", "verysecretkey"),
        ("storage_allow_http", "true"),
    ];
    options(&[&keys[..], more].concat())
}

/// The result of a script's last statement as a table, or the first error.
async fn try_run(options: SessionOptions, script: &str) -> Result<String, String> {
    let session = Session::embedded(options).map_err(|e| e.to_string())?;
    let batches = session.sql(script).collect().await.map_err(|e| e.to_string())?;
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

async fn run(options: SessionOptions, script: &str) -> String {
    try_run(options, script).await.unwrap_or_else(|e| panic!("{script}\n{e}"))
}

/// The error of a script that must fail; no error may show the key of these tests.
async fn error(options: SessionOptions, script: &str) -> String {
    let text = try_run(options, script).await.err().unwrap_or_else(|| panic!("succeeded: {script}"));
    assert!(!text.contains("verysecret"), "{text}");
    text
}

/// The contract of catalogs, 20 racing writers among it, on a warehouse at `address`.
async fn keeps_the_contract(options: SessionOptions, address: &str) {
    let stores = sinew::storage::registry(&options).unwrap();
    let location = Location::open(address, stores.as_ref()).unwrap();
    model_catalog(Arc::new(StoreCatalog::new(&location))).await.unwrap();
}

/// The command line, in a folder of its own, with nothing of this machine's settings.
struct Place {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Place {
    fn new(variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Self { folder: tempfile::tempdir().unwrap(), variables }
    }

    fn command(&self, warehouse: &str, script: &str) -> Command {
        let tests = std::env::current_exe().unwrap();
        let mut command = Command::new(tests.ancestors().nth(2).unwrap().join("sinew"));
        for (name, _) in std::env::vars() {
            if ["AWS_", "AZURE_", "GOOGLE_", "SINEW_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
            .args(["--threads", "2", "--format", "csv", "--quiet", "--warehouse", warehouse, "-c", script])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path());
        command
    }

    fn ok(&self, warehouse: &str, script: &str) -> String {
        let Output { status, stdout, stderr } = self.command(warehouse, script).output().unwrap();
        assert!(status.success(), "{script}\n{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }
}

/// Writes rows to `{base}/data/x.parquet`, trains on them, and predicts in a second process.
fn whole_statements_work(place: &Place, base: &str) {
    let warehouse = format!("{base}/wh");
    let iris = file("examples/data/iris.csv");
    place.ok(&warehouse, &format!("COPY (SELECT * FROM '{iris}') TO '{base}/data/x.parquet'"));
    let trained = place.ok(
        &warehouse,
        &format!(
            "TRAIN MODEL flower USING logistic_regression PREDICT species OPTIONS (reg_param = 0.01)
               FROM '{base}/data/x.parquet';
             CREATE EXTERNAL TABLE iris STORED AS PARQUET LOCATION '{base}/data/x.parquet'"
        ),
    );
    assert!(trained.lines().count() > 2, "{trained}");
    let scores = "SELECT count(*) AS n, count(*) FILTER (WHERE species = predicted_species) > 140 AS good
                    FROM ML.PREDICT(MODEL flower, ";
    for input in ["TABLE iris)".to_string(), format!("(SELECT * FROM '{base}/data/*.parquet'))")] {
        assert_eq!(place.ok(&warehouse, &format!("{scores}{input}")), "n,good\n150,true\n", "{input}");
    }
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 0, "nothing lies on the local disk");
}
