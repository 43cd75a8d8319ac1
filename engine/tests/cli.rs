//! The `sinew` command as a person or a script uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
        command
            .args(args)
            .current_dir(self.path())
            .env_remove("SINEW_WAREHOUSE")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Standard output of statements that must succeed.
    fn ok(&self, sql: &str) -> String {
        let output = self.run(&["--format", "csv", "-c", sql]);
        assert!(output.status.success(), "{sql}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Standard error of statements that must fail with exit code 1.
    fn fails(&self, sql: &str) -> String {
        let output = self.run(&["--format", "csv", "-c", sql]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{sql}\n{text}");
        assert_eq!(text.lines().count(), 1, "one error is one line: {text}");
        assert!(text.contains("SINEW-"), "{text}");
        text
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn formats() {
    let place = Place::new();
    let sql = "SELECT 1 AS a, NULL AS b, 'x' AS c; SELECT 2 AS d";
    let with = |format| stdout(&place.run(&["--format", format, "-c", sql]));
    assert_eq!(with("csv"), "a,b,c\n1,,x\nd\n2\n");
    assert_eq!(with("ndjson"), "{\"a\":1,\"b\":null,\"c\":\"x\"}\n{\"d\":2}\n");
    assert_eq!(with("json"), "[{\"a\":1,\"b\":null,\"c\":\"x\"}]\n[{\"d\":2}]\n");
    assert!(with("table").starts_with("+---+------+---+\n| a | b    | c |\n+---+------+---+\n| 1 | NULL | x |\n"));
}

#[test]
fn nothing_is_created_by_looking() {
    let place = Place::new();
    place.ok("SELECT 1; SHOW TABLES; SHOW MODELS; SHOW MODEL FAMILIES");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn exit_codes_and_places_of_errors() {
    let place = Place::new();
    assert_eq!(place.run(&["-c", "SELECT 1"]).status.code(), Some(0));
    for usage in
        [&["--nonsense"][..], &["--format", "xml"], &["--threads", "0", "-c", "SELECT 1"], &["serve", "--nonsense"]]
    {
        assert_eq!(place.run(usage).status.code(), Some(2), "{usage:?}");
    }
    assert_eq!(place.run(&["--warehouse", "s3://b/w", "-c", "SELECT 1"]).status.code(), Some(2));
    let output = place.run(&["--format", "csv", "-c", "SELECT 1 AS a;\n\nSELECT nope FROM (SELECT 1 AS b);\nSELECT 3"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "a\n1\n");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("sinew: statement 2 (line 3): SINEW-3002") && error.contains("nope"), "{error}");
    let text = place.fails("SELECT 1;\nSELECT 'open");
    assert!(text.contains("statement 2 (line 2)") && text.contains("line 2, column 8"), "{text}");
    assert!(place.fails("SELECT * FROM nowhere").contains("SHOW TABLES"));
    assert!(place.fails("SELEC 1").contains("SELECT"));
    assert!(place.fails("SELECT CAST('x' AS INT)").contains("TRY_CAST"));
    assert!(place.fails("SET sinew.threads = 2").contains("--threads"));
}

#[test]
fn scripts_come_from_files_and_pipes() {
    let place = Place::new();
    place.write("s.sql", "\u{feff}-- a comment\nSELECT 1 AS a;\n");
    assert_eq!(stdout(&place.run(&["--format", "csv", "-f", "s.sql"])), "a\n1\n");
    for args in [&["--format", "csv"][..], &["--format", "csv", "-f", "-"]] {
        let mut child = place.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"SELECT 2 AS b;").unwrap();
        assert_eq!(stdout(&child.wait_with_output().unwrap()), "b\n2\n");
    }
    assert_eq!(place.run(&["-f", "missing.sql"]).status.code(), Some(1));
    place.write("bad.sql", b"SELECT '\xff'");
    let output = place.run(&["-f", "bad.sql"]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("byte 9 is not UTF-8"));
}

#[test]
fn files_folders_and_patterns_are_tables() {
    let place = Place::new();
    place.write("d/a.csv", "x,y\n1,a\n2,b\n");
    place.write("d/b.csv", "x,y\n3.5,c\n");
    place.write("d/notes.txt", "not data");
    place.write("j.json", "[{\"x\": 1}, {\"x\": 2}]");
    place.write("j.ndjson", "{\"x\": 1}\n{\"x\": 2, \"y\": {\"z\": [1]}}\n");
    place.write("t.tsv", "x\ty\n1\t2\n");
    for (from, rows) in [("d/", 3), ("d/*.csv", 3), ("./d/a.csv", 2), ("j.json", 2), ("j.ndjson", 2), ("t.tsv", 1)] {
        assert_eq!(place.ok(&format!("SELECT count(*) AS n FROM '{from}'")), format!("n\n{rows}\n"), "{from}");
    }
    assert_eq!(place.ok("SELECT sum(x) AS s FROM 'd/'"), "s\n6.5\n");
    place.ok("COPY (SELECT 1 AS k, 'p' AS t) TO 'p/1.parquet'; COPY (SELECT 2 AS k, 'q' AS t) TO 'p/2.parquet'");
    assert_eq!(
        place.ok("SELECT k, t, arrow_typeof(t) AS type FROM 'p/*.parquet' ORDER BY k"),
        "k,t,type\n1,p,Utf8\n2,q,Utf8\n"
    );
    let absolute = place.path().join("p");
    assert_eq!(place.ok(&format!("SELECT count(*) AS n FROM '{}/'", absolute.display())), "n\n2\n");
}

#[test]
fn bad_files_are_named() {
    let place = Place::new();
    place.write("empty.csv", "");
    place.write("broken.parquet", "PAR1 this is no parquet file PAR1");
    place.write("ragged.csv", "a,b\n1,2\n3\n");
    place.write("order/a.csv", "a,b\n1,2\n");
    place.write("order/b.csv", "b,a\n1,2\n");
    place.write("mixed/a.csv", "a\n1\n");
    place.write("mixed/a.json", "{\"a\": 1}\n");
    place.write("x.data", "1");
    for file in ["empty.csv", "broken.parquet", "ragged.csv", "x.data", "none.csv", "none/*.csv", "mixed/", "order/"] {
        let text = place.fails(&format!("SELECT * FROM '{file}'"));
        let name = file.trim_end_matches(['/', '*']).rsplit('/').next().unwrap();
        assert!(text.contains("SINEW-3008") && text.contains(name), "{file}: {text}");
    }
    place.ok("COPY (SELECT 1 AS k) TO 'drift/1.parquet'; COPY (SELECT 'x' AS k) TO 'drift/2.parquet'");
    let text = place.fails("SELECT * FROM 'drift/'");
    assert!(text.contains("2.parquet") && text.contains("column 'k'"), "{text}");
    place.ok("COPY (SELECT 1 AS k) TO 'wide/1.parquet'; COPY (SELECT 2 AS k, 'x' AS t) TO 'wide/2.parquet'");
    assert_eq!(place.ok("SELECT k, t FROM 'wide/' ORDER BY k"), "k,t\n1,\n2,x\n");
    place.write("header.csv", "a,b\n");
    assert_eq!(place.ok("SELECT count(*) AS n FROM 'header.csv'"), "n\n0\n");
}

#[test]
fn external_tables_survive_restarts() {
    let place = Place::new();
    place.write("d/t.csv", "x\n1\n2\n");
    place.ok("CREATE EXTERNAL TABLE \"My Table\" STORED AS CSV LOCATION 'd/t.csv'");
    let elsewhere = place.path().join("sinew-warehouse");
    let sql = "SELECT sum(x) AS s FROM \"My Table\"";
    let mut command = place.command(&["--format", "csv", "--warehouse", elsewhere.to_str().unwrap(), "-c", sql]);
    assert_eq!(stdout(&command.current_dir("/").output().unwrap()), "s\n3\n");
    assert!(place.ok("SHOW TABLES").contains("My Table"));
    let create = "EXTERNAL TABLE \"My Table\" STORED AS CSV LOCATION 'd/u.csv'";
    assert!(place.fails(&format!("CREATE {create}")).contains("OR REPLACE"));
    place.ok("CREATE EXTERNAL TABLE IF NOT EXISTS \"My Table\" STORED AS CSV LOCATION 'nowhere.csv'");
    place.write("d/u.csv", "x\n10\n");
    place.ok(&format!("CREATE OR REPLACE {create}"));
    assert_eq!(place.ok(sql), "s\n10\n");
    std::fs::remove_file(place.path().join("d/u.csv")).unwrap();
    assert!(place.fails(sql).contains("My Table"));
    assert!(place.ok("SHOW TABLES").contains("My Table"));
    place.ok("DROP TABLE \"My Table\"");
    assert!(place.fails(sql).contains("not found"));
    place.ok("DROP TABLE IF EXISTS \"My Table\"");
    assert!(place.fails("CREATE EXTERNAL TABLE n STORED AS CSV LOCATION 'nowhere.csv'").contains("nowhere.csv"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let mut child = place
        .command(&["--format", "csv", "-c", "SELECT * FROM range(1, 1000000000)"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 64];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn signals_end_a_statement() {
    let place = Place::new();
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let sql = "SELECT sum(a.value * b.value % 7) FROM range(1, 100000000) a, range(1, 100000) b";
        let child = place.command(&["-c", sql]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(2));
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains("SINEW-3006"), "{text}");
    }
}

#[test]
fn it_starts_without_a_home() {
    let place = Place::new();
    let output = place.command(&["-c", "SELECT 1"]).env_clear().env("LANG", "C").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn models_are_trained_shown_and_dropped() {
    let place = Place::new();
    let rows: String = (0..60).map(|i| format!("{i},{},{}\n", (i * 7) % 11, 3 * i + 2 * ((i * 7) % 11) + 5)).collect();
    place.write("t.csv", format!("a,b,y\n{rows}"));
    let train = "TRAIN MODEL line USING linear_regression PREDICT y FROM 't.csv'";
    let report = place.ok(train);
    assert!(report.starts_with("model,version,run,iteration,loss,") && !report.contains("artifact"), "{report}");
    assert!(report.trim_end().lines().last().unwrap().starts_with("line,1,"), "{report}");
    assert!(place.ok(train).trim_end().lines().last().unwrap().starts_with("line,2,"));
    assert!(place.ok("SHOW MODELS").contains("line,2,2,linear_regression,y,60,0,"));
    assert!(place.ok("SHOW MODELS LIKE 'x%'").lines().count() == 1);
    assert_eq!(place.ok("SHOW VERSIONS OF MODEL line").lines().count(), 3);
    assert!(place.ok("DESCRIBE MODEL line").contains("family,linear_regression"));
    assert!(place.ok("SHOW CREATE MODEL line").contains("TRAIN MODEL line USING"));
    let error =
        "SELECT max(abs(predicted_y - y)) < 0.001 AS close FROM ML.PREDICT(MODEL line, (SELECT * FROM 't.csv'))";
    assert_eq!(place.ok(error), "close\ntrue\n");
    let create = "MODEL line OPTIONS(model_type = 'LINEAR_REG', input_label_cols = ['y']) AS SELECT * FROM 't.csv'";
    assert!(place.fails(&format!("CREATE {create}")).contains("SINEW-3104"));
    place.ok(&format!("CREATE OR REPLACE {create}"));
    place.ok("DROP MODEL line VERSION 3");
    assert!(place.ok("SHOW MODELS").contains("line,2,2,"));
    assert!(place.fails("DESCRIBE MODEL line@3").contains("SINEW-3103"));
    assert!(
        place.fails("SELECT * FROM ML.PREDICT(MODEL lime, (SELECT * FROM 't.csv'))").contains("did you mean 'line'")
    );
    place.ok("DROP MODEL line; DROP MODEL IF EXISTS line");
    assert!(place.fails("DROP MODEL line").contains("SINEW-3102"));
    assert!(place.fails("TRAIN MODEL line USING linear_regression PREDICT nope FROM 't.csv'").contains("nope"));
    assert_eq!(place.ok("SHOW MODELS").lines().count(), 1);
}

#[test]
fn the_demonstration_runs() {
    let place = Place::new();
    let output = place.run(&["demo"]);
    let text = stdout(&output);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("TRAIN MODEL tumour") && text.contains("What to try next"), "{text}");
    assert!(text.contains("On patients it had not seen"), "{text}");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
