//! Google Cloud Storage: its XML interface and signed tokens, translated for moto.

use sinew_integration_tests::servers::{self, Gcs};

use crate::{Place, error, keeps_the_contract, options, whole_statements_work};

fn gcs_options(server: &Gcs) -> sinew::SessionOptions {
    options(&[
        ("gcs_service_account", &server.key_file.display().to_string()),
        ("gcs_endpoint", &server.url),
        ("storage_allow_http", "true"),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_warehouse_keeps_the_contract() {
    let server = servers::gcs(&["bucket"]);
    keeps_the_contract(gcs_options(&server), "gs://bucket/some/wh").await;
}

#[test]
fn statements_work_as_a_user_runs_them() {
    let server = servers::gcs(&["bucket"]);
    let place = Place::new(&[
        ("GOOGLE_APPLICATION_CREDENTIALS", &server.key_file.display().to_string()),
        ("GOOGLE_BASE_URL", &server.url),
        ("SINEW_STORAGE_ALLOW_HTTP", "true"),
    ]);
    whole_statements_work(&place, "gs://bucket");
}

#[tokio::test]
async fn errors_name_bucket_and_next_step() {
    let server = servers::gcs(&["bucket"]);
    let text = error(gcs_options(&server), "COPY (SELECT 1) TO 'gs://nowhere/x.parquet'").await;
    assert!(text.starts_with("SINEW-3501: cannot write gs://nowhere/x.parquet: 404"), "{text}");
    let text = error(options(&[("gcs_service_account", "/nowhere/key.json")]), "SELECT * FROM 'gs://b/x.csv'").await;
    assert!(text.contains("SINEW-3502: 'gs://b' cannot be used") && text.contains("/nowhere/key.json"), "{text}");
}
