#![allow(clippy::unwrap_used)]

use super::super::conformance::{model_catalog, sample};
use super::*;

fn on_disk() -> (tempfile::TempDir, Location) {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::parse(folder.path().join("not there yet").to_str().unwrap()).unwrap();
    (folder, location)
}

async fn publish(catalog: &StoreCatalog, name: &str, run: &str) -> u64 {
    catalog.publish(name, &sample(run).unwrap(), PublishMode::default()).await.unwrap().version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract_on_disk() -> Result<()> {
    let (_folder, location) = on_disk();
    model_catalog(Arc::new(StoreCatalog::new(&location))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keeps_the_contract_in_memory() -> Result<()> {
    model_catalog(Arc::new(StoreCatalog::new(&Location::memory()?))).await
}

#[tokio::test]
async fn looking_creates_nothing() {
    let (folder, location) = on_disk();
    let catalog = StoreCatalog::new(&location);
    assert_eq!(catalog.list().await.unwrap(), vec![]);
    assert_eq!(catalog.find("m").await.unwrap(), None);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_crash_before_the_version_record_leaves_the_old_version() {
    let (_folder, location) = on_disk();
    let catalog = StoreCatalog::new(&location);
    publish(&catalog, "m", "one").await;
    // What a writer leaves that dies after its data, at each step.
    let data = catalog.data(&catalog.folder("m").unwrap(), "two").unwrap();
    let artifact = sample("two").unwrap();
    for (name, bytes) in [(WEIGHTS_FILE, &artifact.weights), (MANIFEST_FILE, &artifact.manifest)] {
        catalog.write_file(&data, name, bytes).await.unwrap();
        assert_eq!(catalog.load(&ModelRef::named("m")).await.unwrap().0.run, "one");
        assert_eq!(catalog.versions("m").await.unwrap().len(), 1);
    }
    // Data of a model that never got a version does not make the model.
    let data = catalog.data(&catalog.folder("ghost").unwrap(), "x").unwrap();
    catalog.write_file(&data, WEIGHTS_FILE, b"x").await.unwrap();
    assert_eq!(catalog.list().await.unwrap().len(), 1);
    assert_eq!(publish(&catalog, "m", "two").await, 2);
}

#[tokio::test]
async fn damage_is_named_and_other_versions_still_load() {
    let (folder, location) = on_disk();
    let catalog = StoreCatalog::new(&location);
    publish(&catalog, "m", "one").await;
    publish(&catalog, "m", "two").await;
    let model = folder.path().join("not there yet/models/m");

    let record = model.join("versions/00000002.json");
    let good = std::fs::read(&record).unwrap();
    let mut flipped = good.clone();
    flipped[120] ^= 1;
    for bad in [&good[..good.len() / 2], &flipped, b""] {
        std::fs::write(&record, bad).unwrap();
        let text = catalog.load(&ModelRef::named("m")).await.unwrap_err().to_string();
        assert!(text.starts_with("SINEW-3108") && text.contains("00000002.json"), "{text}");
        assert_eq!(catalog.load(&ModelRef::version("m", 1)).await.unwrap().0.run, "one");
    }
    std::fs::write(&record, &good).unwrap();

    let weights = model.join("data/two").join(WEIGHTS_FILE);
    let good = std::fs::read(&weights).unwrap();
    for bad in [&b"weights of twO"[..], b"weights"] {
        std::fs::write(&weights, bad).unwrap();
        let text = catalog.load(&ModelRef::named("m")).await.unwrap_err().to_string();
        assert!(text.starts_with("SINEW-3108") && text.contains("two/weights.safetensors"), "{text}");
    }
    std::fs::remove_file(&weights).unwrap();
    let text = catalog.load(&ModelRef::named("m")).await.unwrap_err().to_string();
    assert!(text.contains("the file is missing") && text.contains("SHOW VERSIONS OF MODEL m"), "{text}");
    assert_eq!(catalog.load(&ModelRef::version("m", 1)).await.unwrap().0.run, "one");
    std::fs::write(&weights, good).unwrap();
    assert_eq!(catalog.load(&ModelRef::named("m")).await.unwrap().0.run, "two");
}

#[tokio::test]
async fn a_damaged_version_can_be_dropped() {
    let (folder, location) = on_disk();
    let catalog = StoreCatalog::new(&location);
    publish(&catalog, "m", "one").await;
    publish(&catalog, "m", "two").await;
    std::fs::write(folder.path().join("not there yet/models/m/versions/00000002.json"), b"").unwrap();
    assert!(catalog.list().await.unwrap().iter().all(|model| model.versions.is_empty()));
    catalog.remove("m", Some(2)).await.unwrap();
    assert_eq!(catalog.load(&ModelRef::named("m")).await.unwrap().0.run, "one");
    assert_eq!(publish(&catalog, "m", "three").await, 3);
}

#[tokio::test]
async fn a_warehouse_that_cannot_be_written_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // A file where the folder should be: refused for every user, root among them.
    let file = folder.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let catalog = StoreCatalog::new(&Location::parse(file.to_str().unwrap()).unwrap());
    let error = catalog.publish("m", &sample("one").unwrap(), PublishMode::default()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("SINEW-3107") || text.starts_with("SINEW-3106"), "{text}");
    assert!(text.contains("models/m") && text.contains("check that"), "{text}");
}
