//! A script becomes statements: ours by their leading words, everything else by DataFusion's parser.

use std::ops::Range;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement as DFStatement};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::ast::{NotYet, QueryStatement, Statement};
use crate::chain;
use crate::cursor::Cursor;
use crate::error::{Result, SqlError};
use crate::name::Version;
use crate::rewrite::rewrite;
use crate::source::{Source, keyword};
use crate::train;

/// Words a statement may start with; the nearest is offered for any other.
const LEADING: &[&str] = &[
    "TRAIN",
    "CREATE",
    "EXPLAIN",
    "SHOW",
    "DESCRIBE",
    "DROP",
    "SELECT",
    "WITH",
    "VALUES",
    "INSERT",
    "COPY",
    "SET",
    "RESET",
    "RETRAIN",
    "ALTER",
    "EXPORT",
    "CANCEL",
    "DELETE",
    "UPDATE",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "TABLE",
    "DESC",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "START",
    "USE",
    "TRUNCATE",
    "ANALYZE",
    "FROM",
    "MERGE",
    "SUMMARIZE",
];

/// Words a query may start with.
const QUERY: [&str; 5] = ["SELECT", "WITH", "VALUES", "FROM", "TABLE"];

/// Parses a script of statements with `;` between them.
///
/// Nothing is looked up: families, options, columns and models are names until the statement is planned.
///
/// # Errors
/// When a statement does not parse; the text says what was expected, what was found, and where.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    let source = Source::new(sql)?;
    source.statements().into_iter().map(|range| statement(&source, range)).collect()
}

fn statement(source: &Source<'_>, range: Range<usize>) -> Result<Statement> {
    chain::check(source, range.clone())?;
    let mut at = Cursor::new(source, range.clone());
    if let Some(parsed) = ours(&mut at)? {
        at.end()?;
        return Ok(parsed);
    }
    if let Some(Token::Word(word)) = at.token()
        && !LEADING.iter().any(|known| at.sees(&[known]))
    {
        let near = at.unexpected("a statement", LEADING);
        let typo = matches!(&near, SqlError::Syntax { hint, .. } if !hint.is_empty());
        if typo || word.keyword == Keyword::NoKeyword {
            return Err(near);
        }
    }
    let summarized = at.take_word("SUMMARIZE");
    if summarized && at.done() {
        return Err(at.unexpected("a table or a query", &["SELECT"]));
    }
    let mut rewritten = rewrite(source, at.pos..range.end)?;
    if summarized && !QUERY.iter().any(|word| at.sees(&[word])) && at.token() != Some(&Token::LParen) {
        let span = source.at(at.pos).token.span;
        let select = [keyword(Keyword::SELECT), Token::Mul, keyword(Keyword::FROM)];
        rewritten.tokens.splice(0..0, select.into_iter().map(|token| TokenWithSpan { token, span }));
    }
    let statement = datafusion_statement(rewritten.tokens)?;
    if let Some(refused) = rewritten.refused {
        return Ok(Statement::NotYet(refused));
    }
    Ok(Statement::Query(Box::new(QueryStatement {
        statement,
        summarized,
        models: rewritten.models,
        text: source.slice(range.clone()).to_string(),
        position: source.at(range.start).token.span.start.into(),
    })))
}

/// A statement of ours, if the leading words are.
fn ours(at: &mut Cursor<'_, '_>) -> Result<Option<Statement>> {
    let start = at.pos;
    if let Some(parsed) = training(at, start)? {
        return Ok(Some(parsed.map_or_else(Statement::NotYet, |train| Statement::Train(Box::new(train)))));
    }
    if let Some(parsed) = explain(at)? {
        return Ok(Some(parsed));
    }
    if at.sees(&["SHOW"]) {
        return show(at);
    }
    let refuse = |what: &str, hint: &str| Ok(Some(Statement::NotYet(NotYet::new(what, hint))));
    if at.sees(&["DESCRIBE", "MODEL"]) || at.sees(&["DESC", "MODEL"]) {
        if at.nth(2).is_none() {
            return Ok(None);
        }
        at.pos += 2;
        return Ok(Some(Statement::DescribeModel(at.model_ref()?)));
    }
    if at.take_words(&["DROP", "MODEL"]) {
        return drop_model(at).map(Some);
    }
    if at.take_words(&["RETRAIN", "MODEL"]) {
        let name = at.model_name()?;
        if at.take_words(&["WARM", "START"]) {
            at.pos = at.range.end;
            return refuse("WARM START in RETRAIN MODEL", "leave it out to train from the start");
        }
        let resume = at.take_word("RESUME");
        if !at.done() {
            return Err(at.unexpected("RESUME or the end of the statement", &["RESUME"]));
        }
        return Ok(Some(Statement::Retrain { name, resume }));
    }
    if at.take_words(&["ALTER", "MODEL"]) {
        at.model_ref()?;
        let changes: [&[&str]; 3] = [&["SET", "ALIAS"], &["SET", "DEFAULT", "VERSION"], &["RENAME", "TO"]];
        if !changes.iter().any(|words| at.take_words(words)) {
            return Err(at.unexpected("SET ALIAS, SET DEFAULT VERSION or RENAME TO", &["SET", "RENAME"]));
        }
        at.pos = at.range.end;
        return refuse(
            "ALTER MODEL",
            "name a version by its number, as in m@3; the default is the version trained last",
        );
    }
    if at.sees(&["ALTER", "TABLE"]) || at.sees(&["ALTER", "EXTERNAL", "TABLE"]) {
        at.pos = at.range.end;
        return refuse(
            "ALTER TABLE",
            "make the table anew from itself: CREATE OR REPLACE TABLE t AS SELECT .. FROM t adds, drops, renames and casts \
             columns; CREATE TABLE new AS SELECT * FROM t and DROP TABLE t rename it",
        );
    }
    if at.take_words(&["EXPORT", "MODEL"]) {
        at.model_ref()?;
        at.pos = at.range.end;
        return refuse("EXPORT MODEL", "a model is stored as manifest.json and weights.safetensors in the warehouse");
    }
    if at.take_words(&["CANCEL", "TRAINING"]) {
        return Ok(Some(Statement::CancelTraining { run: at.string("the name of the run in single quotes")? }));
    }
    Ok(None)
}

/// `TRAIN MODEL` or `CREATE [OR REPLACE] MODEL`.
fn training(at: &mut Cursor<'_, '_>, start: usize) -> Result<Option<Result<crate::ast::TrainStatement, NotYet>>> {
    let create = if at.take_word("TRAIN") {
        None
    } else if at.sees(&["CREATE", "MODEL"]) {
        at.pos += 1;
        Some(false)
    } else if at.sees(&["CREATE", "OR", "REPLACE", "MODEL"]) {
        at.pos += 3;
        Some(true)
    } else {
        return Ok(None);
    };
    train::parse(at, start, create).map(Some)
}

fn explain(at: &mut Cursor<'_, '_>) -> Result<Option<Statement>> {
    let mut inner = at.clone();
    if !inner.take_word("EXPLAIN") {
        return Ok(None);
    }
    let analyze = inner.take_word("ANALYZE");
    let verbose = inner.sees(&["VERBOSE"]);
    let mut ahead = inner.clone();
    ahead.pos += usize::from(verbose);
    let start = ahead.pos;
    let trains =
        ahead.sees(&["TRAIN"]) || ahead.sees(&["CREATE", "MODEL"]) || ahead.sees(&["CREATE", "OR", "REPLACE", "MODEL"]);
    if !trains {
        return Ok(None);
    }
    if verbose {
        return Err(inner.unexpected("TRAIN MODEL after EXPLAIN [ANALYZE]", &[]));
    }
    let parsed = training(&mut ahead, start)?;
    *at = ahead;
    Ok(parsed.map(|parsed| match parsed {
        Ok(train) => Statement::ExplainTrain { analyze, train: Box::new(train) },
        Err(refused) => Statement::NotYet(refused),
    }))
}

/// `SHOW` of what is ours; other SHOW statements are DataFusion's.
fn show(at: &mut Cursor<'_, '_>) -> Result<Option<Statement>> {
    if at.take_words(&["SHOW", "MODELS"]) {
        let like = if at.take_word("LIKE") {
            Some(at.string("a pattern in single quotes")?)
        } else if at.done() {
            None
        } else {
            return Err(at.unexpected("LIKE or the end of the statement", &["LIKE"]));
        };
        return Ok(Some(Statement::ShowModels { like }));
    }
    if at.take_words(&["SHOW", "VERSIONS"]) {
        at.expect_word("OF")?;
        at.expect_word("MODEL")?;
        return Ok(Some(Statement::ShowVersions { name: at.model_name()? }));
    }
    if at.take_words(&["SHOW", "MODEL"]) {
        at.expect_word("FAMILIES")?;
        return Ok(Some(Statement::ShowModelFamilies));
    }
    if at.take_words(&["SHOW", "CREATE", "MODEL"]) {
        return Ok(Some(Statement::ShowCreateModel(at.model_ref()?)));
    }
    if at.take_words(&["SHOW", "TRAINING"]) {
        return Ok(Some(Statement::ShowTraining));
    }
    if at.take_words(&["SHOW", "DEVICES"]) {
        return Ok(Some(Statement::ShowDevices));
    }
    Ok(None)
}

/// What follows `DROP MODEL`.
fn drop_model(at: &mut Cursor<'_, '_>) -> Result<Statement> {
    let if_exists = at.take_words(&["IF", "EXISTS"]);
    let position = at.here();
    let model = at.model_ref()?;
    let version = match model.version {
        None if at.take_word("VERSION") => Some(at.integer("the number of a version")?),
        None if at.done() => None,
        None => return Err(at.unexpected("VERSION or the end of the statement", &["VERSION"])),
        Some(Version::Number(number)) => Some(number),
        Some(Version::Alias(alias)) => {
            let reason = "DROP MODEL takes a version by its number".to_string();
            return Err(SqlError::ModelName { name: alias, kind: "version number", reason, position: Some(position) });
        }
    };
    Ok(Statement::DropModel { if_exists, name: model.name, version })
}

/// Parses tokens as one statement of DataFusion's.
pub(crate) fn datafusion_statement(tokens: Vec<TokenWithSpan>) -> Result<DFStatement> {
    let mut parser = DFParserBuilder::new(tokens).build().map_err(SqlError::from)?;
    let statement = parser.parse_statement().map_err(|e| match e {
        DataFusionError::SQL(inner, _) => query_error(*inner),
        other => other.into(),
    })?;
    let next = parser.parser.peek_token();
    if next.token != Token::EOF {
        let message = format!("Expected: end of statement, found: {next}{}", next.span.start);
        return Err(query_error(ParserError::ParserError(message)));
    }
    Ok(statement)
}

/// A message of DataFusion's parser in the words of this crate.
pub(crate) fn query_error(error: ParserError) -> SqlError {
    let message = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        ParserError::RecursionLimitExceeded => {
            "the statement is nested too deeply; name its parts in WITH, or create views".into()
        }
    };
    let message = match message.rsplit_once(" at Line: ") {
        Some((what, place)) => format!("{what} at line {}", place.replace(", Column: ", ", column ")),
        None => message,
    };
    let message = match message.split_once("Expected: ") {
        Some(("", rest)) => format!(
            "expected {}",
            rest.replacen(", found: EOF", ", found the end of the statement", 1).replacen(", found: ", ", found ", 1)
        ),
        _ => message,
    };
    SqlError::Query { message }
}

#[cfg(test)]
mod tests;
