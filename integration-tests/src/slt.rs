//! Reads and runs `.slt` files: statements with the answers they must give.
//!
//! Three kinds of record, with an empty line between two of them and `#` before remarks:
//!
//! ```text
//! statement ok            statement error            query [names] [rowsort]
//! <SQL>                   <SQL>                      <SQL>
//!                         ----                       ----
//!                         <the whole text>           <a line for each row>
//! ```
//!
//! Values of a row stand with ` | ` between them, floats with six significant digits; an empty text is
//! `(empty)`, and what differs from run to run (durations, times, runs) is `*`. With `names` the first
//! line holds the columns' names. `$DATA` is the folder `examples/data`, `$TMP` an empty one.

use std::fmt::Write;
use std::path::Path;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Float64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::{Engine, Topology, file};

/// Columns whose values differ from run to run.
const CHANGING: &[&str] = &["duration_ms", "created_at", "run", "device"];

#[derive(Debug)]
struct Record {
    /// Remarks and the kind, as written.
    head: String,
    kind: Vec<String>,
    sql: String,
    answer: Option<String>,
}

fn read(text: &str) -> Vec<Record> {
    let mut records = Vec::new();
    let mut lines = text.lines().peekable();
    let mut head = String::new();
    while let Some(line) = lines.next() {
        head += line;
        head.push('\n');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let kind = line.split_whitespace().map(str::to_string).collect();
        let mut until = |stop: &dyn Fn(&str) -> bool| {
            let mut part = Vec::new();
            while let Some(line) = lines.next_if(|l| !l.trim().is_empty() && !stop(l)) {
                part.push(line);
            }
            part.join("\n")
        };
        let sql = until(&|l| l == "----");
        let answer = until(&|_| false);
        let answer = answer.strip_prefix("----").map(|a| a.trim_start_matches('\n').to_string());
        records.push(Record { head: std::mem::take(&mut head), kind, sql, answer });
    }
    records
}

/// Runs a file with an engine of its own; with `SINEW_SLT_COMPLETE=1` writes the answers into it instead
/// of comparing.
///
/// # Panics
/// When an answer is another one; all of the file's differences are in the text.
pub async fn run(path: &Path, topology: Topology) {
    let text = std::fs::read_to_string(path).unwrap();
    let complete = topology == Topology::Embedded && std::env::var_os("SINEW_SLT_COMPLETE").is_some();
    let engine = Engine::on(topology, 4).await;
    let folder = tempfile::tempdir().unwrap();
    let folders = [("$DATA", file("examples/data")), ("$TMP", folder.path().display().to_string())];
    let portable = |text: &str| portable(text, &folders);
    let (mut written, mut wrong) = (String::new(), String::new());
    for record in read(&text) {
        let sql = folders.iter().fold(record.sql.clone(), |sql, (name, path)| sql.replace(name, path));
        let result = engine.try_run(&sql).await;
        let is = |word: &str| record.kind.iter().any(|k| k == word);
        let (failed, given) = match &result {
            Err(error) => (true, Some(portable(error))),
            Ok(_) if is("statement") => (false, None),
            Ok(batches) => (false, Some(portable(&rows(batches, is("names"), is("rowsort"))))),
        };
        if failed != is("error") {
            write!(wrong, "\n{}\n--> {}\n", record.sql, given.clone().unwrap_or("succeeded".into())).unwrap();
        } else if !complete && given != record.answer {
            let (expected, given) = (record.answer.unwrap_or_default(), given.clone().unwrap_or_default());
            write!(wrong, "\n{}\n---- expected\n{expected}\n---- given\n{given}\n", record.sql).unwrap();
        }
        writeln!(written, "{}{}", record.head, record.sql).unwrap();
        if let Some(answer) = given {
            let end = if answer.is_empty() { "" } else { "\n" };
            write!(written, "----\n{answer}{end}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{}, {topology:?}: SINEW_SLT_COMPLETE=1 writes the answers\n{wrong}", path.display());
    if complete {
        std::fs::write(path, written).unwrap();
    }
}

/// The text without the names of this machine's folders.
fn portable(text: &str, folders: &[(&str, String)]) -> String {
    let named = folders.iter().fold(text.to_string(), |text, (name, path)| {
        text.replace(path, name).replace(path.trim_start_matches('/'), name)
    });
    let mut text = without_runs(&named);
    text = without_reasons(&text);
    for device in ["portable", "avx2", "avx512"] {
        text = text.replace(&format!("cpu ({device})"), "cpu");
    }
    text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The text without why `auto` took which device: it differs by machine and topology.
fn without_reasons(text: &str) -> String {
    let mut parts = text.split("device=");
    let mut out = parts.next().unwrap_or_default().to_string();
    for part in parts {
        out.push_str("device=");
        match part.split_once(']') {
            Some((reason, rest)) if reason.contains("[auto") || reason.starts_with("auto [") => {
                out.push_str("cpu");
                out.push_str(rest);
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// The text with `*` for the names of runs, `<12 hex>-<8 hex>-<16 hex>`.
fn without_runs(text: &str) -> String {
    let is_run = |piece: &str| {
        let parts: Vec<&str> = piece.split('-').collect();
        parts.iter().map(|p| p.len()).eq([12, 8, 16]) && piece.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
    };
    let apart = |c: char| !(c == '-' || c.is_ascii_alphanumeric());
    text.split_inclusive(apart)
        .map(|piece| match piece.trim_end_matches(apart) {
            word if is_run(word) => piece.replace(word, "*"),
            _ => piece.to_string(),
        })
        .collect()
}

fn rows(batches: &[RecordBatch], names: bool, sort: bool) -> String {
    let mut lines = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let cells = schema.fields().iter().zip(batch.columns());
            let cells = cells.map(|(field, column)| match CHANGING.contains(&field.name().as_str()) {
                true if column.is_valid(row) => "*".into(),
                _ => cell(column, row),
            });
            lines.push(cells.collect::<Vec<_>>().join(" | "));
        }
    }
    if sort {
        lines.sort();
    }
    if let (true, Some(batch)) = (names, batches.first()) {
        let schema = batch.schema();
        lines.insert(0, schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(" | "));
    }
    lines.join("\n")
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".into();
    }
    match column.data_type() {
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::List(_) => {
            let values = column.as_list::<i32>().value(row);
            format!("[{}]", (0..values.len()).map(|i| cell(&values, i)).collect::<Vec<_>>().join(", "))
        }
        DataType::Struct(fields) => {
            let values = column.as_struct().columns();
            let parts = fields.iter().zip(values).map(|(f, v)| format!("{}: {}", f.name(), cell(v, row)));
            format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
        }
        _ => match ArrayFormatter::try_new(column, &FormatOptions::default()).unwrap().value(row).to_string() {
            text if text.is_empty() => "(empty)".into(),
            text => text,
        },
    }
}

/// Six significant digits.
fn float(value: f64) -> String {
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    if rounded == 0.0 || (1e-5..1e15).contains(&rounded.abs()) || !rounded.is_finite() {
        format!("{rounded}")
    } else {
        format!("{rounded:e}")
    }
}
