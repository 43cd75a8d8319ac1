//! Files that are damaged or not what their name says.

use std::path::Path;

use sinew_integration_tests::Engine;

async fn training(engine: &Engine, file: &Path) -> Result<(), String> {
    let sql =
        format!("TRAIN MODEL m USING linear_regression PREDICT y SPLIT NONE AS SELECT * FROM '{}'", file.display());
    engine.try_run(&sql).await.map(|_| ())
}

#[tokio::test]
async fn csv() {
    let (engine, folder) = (Engine::new(2), tempfile::tempdir().unwrap());
    let late = [b"x,y\n".to_vec(), b"1,2\n".repeat(3000), b"abc,3\n".to_vec()].concat();
    let cases: [(&str, &[u8], &[&str]); 7] = [
        ("ragged.csv", b"x,y\n1,2\n3\n4,5,6\n", &["SINEW-3008: ", "line 3"]),
        ("quote.csv", b"x,y\n\"1,2\n2,3\n", &["SINEW-3008: "]),
        ("bytes.csv", b"x,s,y\n1,\xff\xfe,3\n", &["SINEW-3008: ", "line 2"]),
        ("late.csv", &late, &["SINEW-3008: ", "'abc'", "line 3001"]),
        ("empty.csv", b"", &["SINEW-3008: ", "empty"]),
        ("header.csv", b"x,y\n", &["SINEW-2007: ", "no rows"]),
        ("data.xyz", b"x,y\n1,2\n", &["SINEW-3008: ", ".parquet, .csv"]),
    ];
    for (name, bytes, parts) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = training(&engine, &path).await.unwrap_err();
        assert!(error.starts_with(parts[0]) && parts.iter().all(|p| error.contains(p)), "{name}: {error}");
        assert!(parts[0] != "SINEW-3008: " || error.contains(name), "{name}: {error}");
    }
    let path = folder.path().join("bom.csv");
    std::fs::write(&path, b"\xef\xbb\xbfx,y\n1,2\n2,3\n").unwrap();
    training(&engine, &path).await.unwrap();
    assert_eq!(engine.numbers("SELECT PREDICT(m, *) FROM (SELECT 5.0 AS x)").await.len(), 1);
}

#[tokio::test]
async fn parquet() {
    let (engine, folder) = (Engine::new(2), tempfile::tempdir().unwrap());
    let good = folder.path().join("good.parquet");
    let copy = "COPY (SELECT value::double AS x, value * 2.0 AS y FROM generate_series(1, 2000) t(value)) TO";
    engine.run(&format!("{copy} '{}'", good.display())).await;
    let bytes = std::fs::read(&good).unwrap();
    let end = bytes.len();
    let put = |from: usize, with: &[u8]| [&bytes[..from], with, &bytes[from + with.len()..]].concat();
    let cases = [
        ("zero.parquet", Vec::new()),
        ("short.parquet", b"PAR1".to_vec()),
        ("half.parquet", bytes[..end / 2].to_vec()),
        ("last.parquet", bytes[..end - 1].to_vec()),
        ("magic.parquet", put(end - 4, b"XXXX")),
        ("long.parquet", put(end - 8, &[0xff, 0xff, 0xff, 0x7f])),
        ("longer.parquet", put(end - 8, &(end as u32 - 7).to_le_bytes())),
        ("garbage.parquet", put(end - 200, &[0xa5; 190])),
        ("text.parquet", b"x,y\n1,2\n2,3\n3,4\n".to_vec()),
    ];
    for (name, bytes) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = training(&engine, &path).await.unwrap_err();
        assert!(error.starts_with("SINEW-3008: ") && error.contains(name), "{name}: {error}");
    }
    // Any byte of the metadata may change: an error or an answer, never the end of the process.
    for at in (end - 400..end).step_by(7) {
        let path = folder.path().join(format!("flip{at}.parquet"));
        std::fs::write(&path, put(at, &[bytes[at] ^ 0x55])).unwrap();
        if let Err(error) = training(&engine, &path).await {
            assert!(error.starts_with("SINEW-"), "byte {at}: {error}");
        }
    }
}
