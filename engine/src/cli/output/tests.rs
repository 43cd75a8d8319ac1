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
