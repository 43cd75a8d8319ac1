//! Azure Blob Storage: azurite.

use sinew_integration_tests::servers::{self, ACCOUNT, ACCOUNT_KEY};

use crate::{Place, error, keeps_the_contract, options, whole_statements_work};

fn azure_options(endpoint: &str, key: &str) -> sinew::SessionOptions {
    options(&[
        ("azure_account", ACCOUNT),
        ("azure_key", key),
        ("azure_endpoint", endpoint),
        ("storage_allow_http", "true"),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_warehouse_keeps_the_contract() {
    let server = servers::azure(&["box"]);
    let endpoint = format!("{}/{ACCOUNT}", server.url);
    keeps_the_contract(azure_options(&endpoint, ACCOUNT_KEY), "az://box/some/wh").await;
}

#[test]
fn statements_work_as_a_user_runs_them() {
    let server = servers::azure(&["box", "other"]);
    let endpoint = format!("{}/{ACCOUNT}", server.url);
    whole_statements_work(
        &Place::new(&[
            ("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT),
            ("AZURE_STORAGE_ACCOUNT_KEY", ACCOUNT_KEY),
            ("AZURE_STORAGE_ENDPOINT", &endpoint),
            ("AZURE_ALLOW_HTTP", "true"),
        ]),
        "az://box",
    );
    let text = format!("AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};BlobEndpoint={endpoint}");
    let variables = [("AZURE_STORAGE_CONNECTION_STRING", text.as_str()), ("SINEW_STORAGE_ALLOW_HTTP", "true")];
    whole_statements_work(&Place::new(&variables), "abfs://other/a b");
}

#[tokio::test]
async fn errors_name_container_and_next_step() {
    let server = servers::azure(&["box"]);
    let endpoint = format!("{}/{ACCOUNT}", server.url);
    let read = "SELECT * FROM 'az://box/x.parquet'";
    let text = error(azure_options(&endpoint, ACCOUNT_KEY), read).await;
    assert!(text.starts_with("SINEW-3008") && text.contains("no such file"), "{text}");
    let wrong = "dmVyeXNlY3JldHZlcnlzZWNyZXQ=";
    let text = error(azure_options(&endpoint, wrong), read).await;
    assert!(text.starts_with("SINEW-3501: cannot look at az://box/x.parquet: 403"), "{text}");
    assert!(text.contains("AZURE_STORAGE_ACCOUNT_KEY") && !text.contains(wrong), "{text}");
    let text = error(azure_options(&endpoint, ACCOUNT_KEY), "COPY (SELECT 1) TO 'az://nowhere/x.parquet'").await;
    assert!(text.starts_with("SINEW-3501: cannot write az://nowhere/x.parquet"), "{text}");
    assert!(text.contains("create the container"), "{text}");
    let text = error(options(&[]), "SELECT * FROM 'az://box/x.parquet'").await;
    assert!(text.contains("SINEW-3502") && text.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{text}");
}
