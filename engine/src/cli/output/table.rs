//! Aligned columns. Rows are held back to find the widths, and from then on written as they come.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::cells::{at_right, texts};
use crate::error::Result;

/// Rows held back to find the widths.
const HELD: usize = 1_000;
/// So few rows are broken into lines where they are too wide for the terminal; more are cut.
const BROKEN: usize = 60;
/// The most lines of a value on a terminal.
const LINES: usize = 40;
/// The narrowest a column is cut to.
const NARROWEST: usize = 8;
/// Width where the terminal does not tell.
const USUAL_WIDTH: usize = 80;

/// The width of the terminal in columns.
pub fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(USUAL_WIDTH, |(width, _)| usize::from(width.0).max(20))
}

/// Writes `| a | b |` tables.
#[derive(Debug)]
pub struct TableWriter {
    names: Vec<String>,
    right: Vec<bool>,
    /// Cut to so many columns of text.
    limit: Option<usize>,
    /// Whether wide values are broken into lines rather than cut.
    wrap: bool,
    /// Whether the number of rows follows.
    count: bool,
    held: Vec<Vec<String>>,
    /// Widths of the columns shown, once they are decided.
    widths: Option<Vec<usize>>,
    rows: u64,
}

impl TableWriter {
    /// A writer for results of this schema, cut to `limit` columns of text if there is one.
    pub fn new(schema: SchemaRef, limit: Option<usize>, count: bool) -> Self {
        Self {
            names: schema.fields().iter().map(|f| visible(f.name())).collect(),
            right: schema.fields().iter().map(|f| at_right(f.data_type())).collect(),
            limit,
            wrap: false,
            count,
            held: Vec::new(),
            widths: None,
            rows: 0,
        }
    }

    /// Adds rows, and returns the text that is ready.
    pub fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let columns = batch.columns().iter().map(texts).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            self.held.push(columns.iter().map(|c| c[row].as_deref().map_or("NULL".into(), visible_lines)).collect());
        }
        self.rows += batch.num_rows() as u64;
        if self.widths.is_none() && self.held.len() < HELD {
            return Ok(Vec::new());
        }
        Ok(self.flush().into_bytes())
    }

    /// The rest of the table.
    pub fn end(mut self) -> Vec<u8> {
        let mut out = self.flush();
        let widths = self.widths.unwrap_or_default();
        rule(&mut out, &widths);
        if self.count {
            let rows = if self.rows == 1 { "row" } else { "rows" };
            out += &format!("{} {rows}", self.rows);
            if widths.len() < self.names.len() {
                out += &format!(", {} of {} columns; csv, json and ndjson show all", widths.len(), self.names.len());
            }
            out.push('\n');
        }
        out.into_bytes()
    }

    fn flush(&mut self) -> String {
        let mut out = String::new();
        let widths = match &self.widths {
            Some(widths) => widths.clone(),
            None => {
                let widths = self.decide();
                self.wrap = self.limit.is_some() && self.held.len() <= BROKEN;
                rule(&mut out, &widths);
                let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
                line(&mut out, &names, &widths, &vec![false; names.len()], self.limit.is_some());
                rule(&mut out, &widths);
                self.widths = Some(widths.clone());
                widths
            }
        };
        for row in self.held.drain(..) {
            // A value with line ends, or too wide for the terminal, is written below itself.
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, width)| lines(cell, *width, self.wrap)).collect();
            for at in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
                let cells: Vec<&str> = cells.iter().map(|c| c.get(at).map_or("", String::as_str)).collect();
                line(&mut out, &cells, &widths, &self.right, self.limit.is_some());
            }
        }
        out
    }

    /// The widths of the columns that are shown: the widest are cut, and if that is not enough the last left out.
    fn decide(&self) -> Vec<usize> {
        let widest = |at: usize| {
            self.held.iter().flat_map(|row| row[at].split('\n')).map(UnicodeWidthStr::width).max().unwrap_or(0)
        };
        let widths: Vec<usize> = self.names.iter().enumerate().map(|(i, n)| n.width().max(widest(i)).max(1)).collect();
        let Some(limit) = self.limit else { return widths };
        let total = |widths: &[usize]| widths.iter().map(|w| w + 3).sum::<usize>() + 1;
        // The widest columns share what there is: all that are wider than some width are cut to it.
        let cut = |to: usize| widths.iter().map(|w| (*w).min(to.max(NARROWEST))).collect::<Vec<_>>();
        let (mut low, mut high) = (NARROWEST, widths.iter().copied().max().unwrap_or(NARROWEST).max(NARROWEST));
        while low < high {
            let middle = (low + high).div_ceil(2);
            if total(&cut(middle)) <= limit { low = middle } else { high = middle - 1 }
        }
        let mut widths = cut(low);
        while widths.len() > 1 && total(&widths) > limit {
            widths.pop();
        }
        widths
    }
}

fn rule(out: &mut String, widths: &[usize]) {
    for width in widths {
        out.push('+');
        out.extend(std::iter::repeat_n('-', width + 2));
    }
    out.push_str("+\n");
}

fn line(out: &mut String, cells: &[&str], widths: &[usize], right: &[bool], cut: bool) {
    for ((cell, width), right) in cells.iter().zip(widths).zip(right) {
        let shown = if cut { shorten(cell, *width) } else { (*cell).to_string() };
        let gap = " ".repeat(width.saturating_sub(shown.width()));
        let (before, after) = if *right { (gap.as_str(), "") } else { ("", gap.as_str()) };
        out.push_str("| ");
        out.push_str(before);
        out.push_str(&shown);
        out.push_str(after);
        out.push(' ');
    }
    out.push_str("|\n");
}

/// The text, cut to a width with `..` at its end where it is longer.
fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let room = width.saturating_sub(2);
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        out.push(c);
    }
    out + ".."
}

/// A value's lines; with `wrap` those wider than the column are broken, between words where that is possible.
fn lines(text: &str, width: usize, wrap: bool) -> Vec<String> {
    let mut all = Vec::new();
    for line in text.split('\n') {
        if !wrap || line.width() <= width {
            all.push(line.to_string());
            continue;
        }
        let (mut part, mut used) = (String::new(), 0);
        for c in line.chars() {
            let wide = c.width().unwrap_or(0);
            if used + wide > width {
                // The rest after the last space moves on, unless that is most of the line.
                let rest = match part.rfind(' ') {
                    Some(at) if at > part.len() / 2 => part.split_off(at + 1),
                    _ => String::new(),
                };
                all.push(std::mem::replace(&mut part, rest).trim_end().to_string());
                used = part.width();
            }
            part.push(c);
            used += wide;
        }
        all.push(part);
    }
    if wrap && all.len() > LINES {
        all.truncate(LINES - 1);
        all.push("..".into());
    }
    all
}

/// The text with its line ends, and other control characters written out.
fn visible_lines(text: &str) -> String {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// The text on one line, with control characters written out, so that data cannot steer the terminal.
fn visible(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.into();
    }
    text.chars()
        .flat_map(|c| match c {
            c if c.is_control() => c.escape_default().collect::<Vec<_>>(),
            c => vec![c],
        })
        .collect()
}
