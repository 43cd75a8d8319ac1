//! What the shell knows while a line is typed: whether it is complete, and how a word may go on.

use std::borrow::Cow;

use rustyline::Context;
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use tokio::runtime::Handle;

use super::shell::word;
use crate::session::{Session, split};

/// Words that statements begin with or hold.
const KEYWORDS: [&str; 65] = [
    "ALTER",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COPY",
    "CREATE",
    "CROSS",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FAMILIES",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "INNER",
    "INSERT",
    "INTO",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOCATION",
    "MODEL",
    "MODELS",
    "NOT",
    "NULL",
    "OFFSET",
    "OPTIONS",
    "ORDER",
    "OUTER",
    "OVER",
    "PARTITION",
    "PREDICT",
    "RIGHT",
    "SELECT",
    "SHOW",
    "SPLIT",
    "STORED",
    "SUMMARIZE",
    "TABLE",
    "TABLES",
    "THEN",
    "TRAIN",
    "TRANSFORM",
    "UNION",
    "USING",
    "VALUES",
    "VERSION",
    "VERSIONS",
    "VIEW",
    "WHERE",
    "WITH",
];
const FUNCTIONS: [&str; 5] = ["ML.PREDICT", "ML.EVALUATE", "ML.WEIGHTS", "ML.TRAINING_INFO", "PREDICT_PROBA"];

/// The editor's helper.
pub struct Helper {
    runtime: Handle,
    session: Session,
    files: FilenameCompleter,
}

impl Helper {
    /// A helper that knows the session's tables and models.
    pub fn new(runtime: Handle, session: Session) -> Self {
        Self { runtime, session, files: FilenameCompleter::new() }
    }

    /// Ways a word may go on.
    fn words(&self, word: &str) -> Vec<Pair> {
        let lower = word.to_lowercase();
        let same_case = |keyword: &str| match word.chars().any(char::is_uppercase) {
            true => keyword.to_string(),
            false => keyword.to_lowercase(),
        };
        let names = self.runtime.block_on(self.session.names());
        let families = sinew_ml::families::FAMILIES.iter().map(|f| f.name().to_string());
        let all = KEYWORDS.iter().map(|k| same_case(k)).chain(FUNCTIONS.iter().map(|f| f.to_string()));
        let mut found: Vec<String> =
            all.chain(names).chain(families).filter(|w| w.to_lowercase().starts_with(&lower)).collect();
        found.sort();
        found.dedup();
        found.into_iter().map(|w| Pair { display: w.clone(), replacement: w }).collect()
    }
}

impl Completer for Helper {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, context: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let before = &line[..pos];
        // Inside quotes a name of a file goes on.
        if before.matches('\'').count() % 2 == 1 {
            return self.files.complete(line, pos, context);
        }
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        match &before[start..] {
            "" => Ok((pos, Vec::new())),
            word => Ok((start, self.words(word))),
        }
    }
}

impl Validator for Helper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let command = text.trim_start().starts_with('\\') || word(text).is_some();
        let whole = command || split(text).last().is_none_or(|last| last.terminated);
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Helper {
    type Hint = String;
}

impl Highlighter for Helper {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Borrowed(prompt)
    }
}

impl rustyline::Helper for Helper {}
