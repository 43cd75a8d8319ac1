#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
use datafusion::arrow::datatypes::Int32Type;

use super::*;

fn sample() -> RecordBatch {
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None, Some(vec![])]);
    RecordBatch::try_from_iter(vec![
        ("id", Arc::new(Int64Array::from(vec![Some(1), None, Some(300)])) as ArrayRef),
        ("text", Arc::new(StringArray::from(vec![Some("a,\"b\"\nc"), None, Some("")]))),
        ("x", Arc::new(Float64Array::from(vec![0.5, f64::NAN, 1e300]))),
        ("list", Arc::new(lists)),
    ])
    .unwrap()
}

fn written(format: Format, batches: &[RecordBatch]) -> String {
    let mut writer = Writer::new(format, sample().schema(), false, true);
    let mut out = Vec::new();
    for batch in batches {
        out.extend(writer.batch(batch).unwrap());
    }
    out.extend(writer.end().unwrap());
    String::from_utf8(out).unwrap()
}

#[test]
fn tables_are_aligned() {
    let expected = "\
+------+-------+-------+----------+
| id   | text  | x     | list     |
+------+-------+-------+----------+
|    1 | a,\"b\" |   0.5 | [1,null] |
|      | c     |       |          |
| NULL | NULL  |   NaN | NULL     |
|  300 |       | 1e300 | []       |
+------+-------+-------+----------+
";
    assert_eq!(written(Format::Table, &[sample()]), expected);
}

#[test]
fn csv_tells_null_from_empty() {
    assert_eq!(
        written(Format::Csv, &[sample()]),
        "id,text,x,list\n1,\"a,\"\"b\"\"\nc\",0.5,\"[1,null]\"\n,,NaN,\n300,\"\",1e300,[]\n"
    );
    assert_eq!(written(Format::Csv, &[]), "id,text,x,list\n");
}

#[test]
fn json_has_every_column() {
    let rows = [
        r#"{"id":1,"text":"a,\"b\"\nc","x":0.5,"list":[1,null]}"#,
        r#"{"id":null,"text":null,"x":null,"list":null}"#,
        r#"{"id":300,"text":"","x":1.0e300,"list":[]}"#,
    ];
    assert_eq!(written(Format::Ndjson, &[sample()]), rows.join("\n") + "\n");
    let twice = written(Format::Json, &[sample(), sample()]);
    let parsed: Vec<serde_json::Value> = serde_json::from_str(&twice).unwrap();
    assert_eq!(parsed.len(), 6);
    assert_eq!(written(Format::Json, &[]), "[]\n");
}

#[test]
fn wide_tables_are_cut_to_the_terminal() {
    let names: Vec<String> = (0..20).map(|i| format!("column_{i}")).collect();
    let values = std::iter::repeat_n(["x".repeat(100), "é☃\u{1b}[31m".into()], 50).flatten().collect::<Vec<_>>();
    let column: ArrayRef = Arc::new(StringArray::from(values));
    let batch = RecordBatch::try_from_iter(names.iter().map(|n| (n.as_str(), Arc::clone(&column)))).unwrap();
    let mut writer = table::TableWriter::new(batch.schema(), Some(80), true);
    let mut out = writer.batch(&batch).unwrap();
    out.extend(writer.end());
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|l| unicode_width::UnicodeWidthStr::width(l) <= 80), "{text}");
    assert!(text.contains("7 of 20 columns") && text.contains("xxxxxx..") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_few_wide_rows_are_broken_into_lines() {
    let column: ArrayRef = Arc::new(StringArray::from(vec!["some words that are wider than the terminal"]));
    let batch = RecordBatch::try_from_iter(vec![("a", column)]).unwrap();
    let mut writer = table::TableWriter::new(batch.schema(), Some(24), false);
    let mut out = writer.batch(&batch).unwrap();
    out.extend(writer.end());
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("| some words that are  |\n| wider than the       |\n| terminal             |"), "{text}");
}

#[test]
fn rows_appear_before_the_last_is_there() {
    let batch = RecordBatch::try_from_iter(vec![("n", Arc::new(Int64Array::from_iter(0..1000)) as ArrayRef)]).unwrap();
    for format in [Format::Table, Format::Csv, Format::Json, Format::Ndjson] {
        let mut writer = Writer::new(format, batch.schema(), false, true);
        assert!(writer.batch(&batch).unwrap().len() > 1000, "{format:?}");
    }
}

#[test]
fn the_report_of_a_training_fits_a_terminal() {
    let row = |iteration: i64, version: Option<i64>| {
        let text = |value: &str| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let float = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
        let report = [
            ("model", text("m")),
            ("version", Arc::new(Int64Array::from(vec![version])) as ArrayRef),
            ("run", text("01a206cec2f0-00007371-eb7fcc530ea06e8d")),
            ("iteration", Arc::new(Int64Array::from(vec![iteration])) as ArrayRef),
            ("loss", float(0.6930071204503876)),
            ("eval_loss", float(0.6943848251981641)),
            ("learning_rate", float(1.0)),
            ("gradient_norm", float(3.0475021365295685e-7)),
            ("duration_ms", float(1234.567891)),
            ("rows", Arc::new(Int64Array::from(vec![1_000_000_000])) as ArrayRef),
            ("device", text("cpu (avx2)")),
            ("trial", Arc::new(Int64Array::from(vec![None])) as ArrayRef),
        ];
        RecordBatch::try_from_iter_with_nullable(report.map(|(name, column)| (name, column, true))).unwrap()
    };
    let mut writer = training::TrainingWriter::new(Some(100));
    let mut out = writer.batch(&row(0, None)).unwrap();
    out.extend(writer.batch(&row(1, Some(3))).unwrap());
    out.extend(writer.end());
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert!(text.contains("| 0.6930071 | 0.6943848 |") && text.contains("3.047502e-7"), "{text}");
    assert!(text.ends_with("model m, version 3, run 01a206cec2f0-00007371-eb7fcc530ea06e8d, cpu (avx2)\n"), "{text}");
    let mut narrow = training::TrainingWriter::new(Some(80));
    let out = [narrow.batch(&row(1, Some(3))).unwrap(), narrow.end()].concat();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|line| line.len() <= 80) && !text.contains(".."), "{text}");
    let all = written_by(Writer::of_training(Format::Csv, row(0, None).schema(), true, true), &row(0, None));
    assert!(all.contains("trial") && all.contains("0.6930071204503876"), "{all}");
}

fn written_by(mut writer: Writer, batch: &RecordBatch) -> String {
    let mut out = writer.batch(batch).unwrap();
    out.extend(writer.end().unwrap());
    String::from_utf8(out).unwrap()
}
