//! The shell: statements from a person, until Ctrl-D.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{Config, Editor};
use tokio::runtime::Runtime;

use super::args::Settings;
use super::complete::Helper;
use super::output::Format;
use super::run::{Failure, Outcome, statement};
use super::signals::{Signals, TERMINATED};
use crate::error::{Result, SinewError};
use crate::session::{ExecutionKind, Piece, Session, split};

const HELP: &str = "\
Statements end with ; and may take several lines. Ctrl-C stops a running statement, Ctrl-D leaves.

  \\?               this help
  \\q               leave
  \\d               tables and models         \\d NAME   columns of a table
  \\f FORMAT        results as table, csv, json or ndjson
  \\timing          show or hide the time of each statement
  \\i FILE          run the statements of a file

  SELECT * FROM 'data/*.parquet' LIMIT 5;            a file, a folder or a pattern is a table (parquet, csv, json)
  CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'data/t.csv';
  TRAIN MODEL m USING logistic_regression PREDICT label AS SELECT * FROM t;
  SUMMARIZE t;                                       ranges, means and missing values of all columns
  SELECT * FROM ML.EVALUATE(MODEL m, TABLE t);
  SELECT * FROM ML.PREDICT(MODEL m, TABLE t) LIMIT 5;
  SHOW MODELS;   DESCRIBE MODEL m;   SHOW MODEL FAMILIES;   SHOW TABLES;
";

/// What `\d` shows.
const LIST: &str = "SELECT table_schema AS schema, table_name AS name, table_type AS type \
    FROM information_schema.tables WHERE table_schema <> 'information_schema' ORDER BY 1, 2; SHOW MODELS";

struct Shell<'a> {
    runtime: &'a Runtime,
    session: &'a Session,
    format: Format,
    quiet: bool,
    timing: bool,
}

/// What to do after a line.
#[derive(PartialEq)]
enum Next {
    Read,
    Leave(Outcome),
}

/// Reads and runs statements until the person leaves.
pub fn run(runtime: &Runtime, session: &Session, settings: Settings) -> Result<Outcome> {
    let failed = |what: &'static str| {
        move |e: ReadlineError| SinewError::Io { what: what.into(), source: std::io::Error::other(e) }
    };
    let config = Config::builder().auto_add_history(false).max_history_size(10_000);
    let config = config.map_err(failed("opening the terminal"))?.build();
    let mut editor: Editor<Helper, DefaultHistory> =
        Editor::with_config(config).map_err(failed("opening the terminal"))?;
    editor.set_helper(Some(Helper::new(runtime.handle().clone(), session.clone())));
    let history = history_file();
    if let Some(file) = &history {
        let _ = editor.load_history(file);
    }
    let timing = std::io::stdout().is_terminal() && !settings.quiet;
    let mut shell = Shell { runtime, session, format: settings.format, quiet: settings.quiet, timing };
    if !settings.quiet {
        println!("sinew {}. \\? shows help, Ctrl-D leaves.", env!("CARGO_PKG_VERSION"));
    }
    let outcome = loop {
        match editor.readline("sinew> ") {
            Ok(text) => {
                if !text.trim().is_empty() {
                    let _ = editor.add_history_entry(text.trim_end());
                    if let Some(file) = &history {
                        // Kept at once, so that a killed shell forgets nothing; a folder that is read-only is no error.
                        let _ = editor.append_history(file);
                    }
                }
                if let Next::Leave(outcome) = shell.line(&text) {
                    break outcome;
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break Outcome::Done,
            Err(e) => return Err(failed("reading from the terminal")(e)),
        }
    };
    Ok(outcome)
}

/// `$SINEW_HISTORY`, or `.sinew_history` in the home folder, if there is one.
fn history_file() -> Option<PathBuf> {
    let file = std::env::var_os("SINEW_HISTORY").map(PathBuf::from);
    file.or_else(|| Some(PathBuf::from(std::env::var_os("HOME").filter(|h| !h.is_empty())?).join(".sinew_history")))
}

/// The command that a lone word stands for; people try these first.
pub(super) fn word(text: &str) -> Option<&'static str> {
    let text = text.trim().trim_end_matches(';').trim_end();
    ["help", "quit", "exit"].into_iter().find(|word| text.eq_ignore_ascii_case(word))
}

impl Shell<'_> {
    fn line(&mut self, text: &str) -> Next {
        match (text.trim().strip_prefix('\\'), word(text)) {
            (Some(command), _) | (None, Some(command)) => self.command(command),
            (None, None) => self.script(text),
        }
    }

    fn command(&mut self, text: &str) -> Next {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim().trim_end_matches(';').trim();
        match word.trim_end_matches(';') {
            "?" | "h" | "help" => print!("{HELP}"),
            "q" | "quit" | "exit" => return Next::Leave(Outcome::Done),
            "timing" => {
                self.timing = !self.timing;
                println!("timing is {}", if self.timing { "on" } else { "off" });
            }
            "d" if rest.is_empty() => return self.script(LIST),
            "d" => return self.script(&format!("DESCRIBE {rest}")),
            "f" | "format" => match Format::named(rest) {
                Some(format) => self.format = format,
                None => eprintln!("\\f takes one of {}", Format::NAMES.join(", ")),
            },
            "i" => match std::fs::read_to_string(rest) {
                Ok(text) => return self.script(&text),
                Err(e) => eprintln!("error: cannot read '{rest}': {e}"),
            },
            other => eprintln!("there is no command \\{other}; \\? shows all"),
        }
        let _ = std::io::stdout().flush();
        Next::Read
    }

    fn script(&mut self, text: &str) -> Next {
        for piece in split(text) {
            match self.statement(&piece) {
                Ok(()) => {}
                Err(next) => return next,
            }
        }
        Next::Read
    }

    /// Runs one statement; an error, or Ctrl-C, ends the line it stands in and not the shell.
    fn statement(&self, piece: &Piece) -> std::result::Result<(), Next> {
        let result = self.runtime.block_on(async {
            let mut signals = Signals::listen();
            tokio::select! {
                result = statement(self.session, piece, self.format, self.quiet) => Ok(result),
                code = signals.next() => Err(code),
            }
        });
        match result {
            Ok(Ok(written)) => {
                if self.timing {
                    let done = if written.kind == ExecutionKind::Done { "ok, " } else { "" };
                    eprintln!("{done}{:.3} s", written.time.as_secs_f64());
                }
                Ok(())
            }
            Ok(Err(Failure::Closed)) => Err(Next::Leave(Outcome::Closed)),
            Ok(Err(Failure::Statement(error))) => {
                eprintln!("error: {error}");
                Err(Next::Read)
            }
            Err(TERMINATED) => Err(Next::Leave(Outcome::Signalled(TERMINATED))),
            Err(_) => {
                eprintln!("{}", SinewError::Cancelled);
                Err(Next::Read)
            }
        }
    }
}
