//! `TRAIN MODEL` and `CREATE MODEL`.

use std::ops::Range;

use datafusion::sql::parser::Statement as DFStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use sinew_ml::split::SplitSpec;

use crate::ast::{NotYet, QuerySource, Spelling, TrainStatement, Weight};
use crate::cursor::Cursor;
use crate::error::{Position, Result, SqlError};
use crate::options;
use crate::parser::{datafusion_statement, query_error};
use crate::rewrite::{rewrite, table_name};
use crate::source::{is_word, keyword};

/// The words that start a clause.
pub(crate) const CLAUSES: &[&str] = &[
    "USING",
    "PREDICT",
    "WEIGHT",
    "TRANSFORM",
    "GROUP",
    "SPLIT",
    "OPTIONS",
    "WARM",
    "RESUME",
    "ASYNC",
    "NOT",
    "AS",
    "FROM",
];

/// What the clauses have said so far.
#[derive(Default)]
struct Clauses {
    family: Option<String>,
    labels: Option<Vec<String>>,
    weight: Option<Weight>,
    split: Option<SplitSpec>,
    options: Option<options::Options>,
    query: Option<QuerySource>,
    resume: Option<()>,
    background: Option<()>,
    refused: Option<NotYet>,
    /// Clauses seen that keep no value.
    seen: Vec<&'static str>,
}

/// A training, or the first part of it that this version refuses.
pub(crate) type Parsed = Result<Result<TrainStatement, NotYet>>;

/// Reads the statement after `TRAIN`, `CREATE` or `CREATE OR REPLACE`; `start` is its first token.
pub(crate) fn parse(at: &mut Cursor<'_, '_>, start: usize, create: Option<bool>) -> Parsed {
    at.expect_word("MODEL")?;
    let spelling = match create {
        None => Spelling::Train,
        Some(or_replace) => Spelling::Create { or_replace, if_not_exists: at.take_words(&["IF", "NOT", "EXISTS"]) },
    };
    if let Spelling::Create { or_replace: true, if_not_exists: true } = spelling {
        let reason = "OR REPLACE and IF NOT EXISTS contradict each other; keep one".into();
        return Err(SqlError::Conflict { reason });
    }
    let name = at.model_name()?;
    let mut clauses = Clauses::default();
    while !at.done() {
        clauses.next(at)?;
    }
    clauses.finish(at, start, name, spelling)
}

/// Puts a clause's value in its place.
fn set<T>(slot: &mut Option<T>, value: T, what: &str, position: Position) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(SqlError::Repeated { what: what.into(), position }),
    }
}

impl Clauses {
    fn next(&mut self, at: &mut Cursor<'_, '_>) -> Result<()> {
        let position = at.here();
        if at.take_word("USING") {
            let family = match at.token() {
                Some(Token::SingleQuotedString(_)) => at.string("the name of a model family")?,
                _ => at.identifier("the name of a model family")?,
            };
            set(&mut self.family, family.to_lowercase(), "USING", position)
        } else if at.take_word("PREDICT") {
            set(&mut self.labels, at.identifiers("the label column")?, "PREDICT", position)
        } else if at.take_word("WEIGHT") {
            at.expect_word("BY")?;
            let weight = weight(at)?;
            set(&mut self.weight, weight, "WEIGHT BY", position)
        } else if at.take_word("SPLIT") {
            let split = self.split(at)?;
            if self.seen.contains(&"SPLIT") {
                return Err(SqlError::Repeated { what: "SPLIT".into(), position });
            }
            self.seen.push("SPLIT");
            self.split = split;
            Ok(())
        } else if at.take_word("RESUME") {
            set(&mut self.resume, (), "RESUME", position)
        } else if at.take_word("ASYNC") {
            set(&mut self.background, (), "ASYNC", position)
        } else if at.take_word("OPTIONS") {
            let options = options::parse(at)?;
            set(&mut self.options, options, "OPTIONS", position)
        } else if at.take_word("AS") {
            let query = self.query(at)?;
            set(&mut self.query, query, "the training query", position)
        } else if at.take_word("FROM") {
            let query = self.table(at)?;
            set(&mut self.query, query, "the training query", position)
        } else {
            self.refused_clause(at, position)
        }
    }

    /// Clauses that parse and are refused.
    fn refused_clause(&mut self, at: &mut Cursor<'_, '_>, position: Position) -> Result<()> {
        let (clause, hint) = if at.take_word("TRANSFORM") {
            at.group()?;
            ("TRANSFORM", "compute the columns in the training query; strings are one-hot encoded by themselves")
        } else if at.take_word("GROUP") {
            at.expect_word("BY")?;
            at.identifiers("a column")?;
            ("GROUP BY", "train one model for each group, with WHERE in the training query")
        } else if at.take_word("WARM") {
            at.expect_word("START")?;
            if at.take_word("USING") {
                at.model_ref()?;
            }
            ("WARM START", "leave it out to train from the start")
        } else if at.take_words(&["NOT", "DEFAULT"]) {
            ("NOT DEFAULT", "train under another name to keep the default version as it is")
        } else {
            return Err(self.unexpected(at));
        };
        if self.seen.contains(&clause) {
            return Err(SqlError::Repeated { what: clause.into(), position });
        }
        self.seen.push(clause);
        self.refused.get_or_insert(NotYet::new(format!("{clause} in TRAIN MODEL"), hint));
        Ok(())
    }

    fn unexpected(&self, at: &Cursor<'_, '_>) -> SqlError {
        let expected = "USING, PREDICT, WEIGHT BY, SPLIT, OPTIONS, AS <query> or FROM <table>";
        if at.sees(&["SELECT"]) || at.sees(&["WITH"]) || at.token() == Some(&Token::LParen) {
            return at.unexpected_because(expected, "; write AS before the query".into());
        }
        let over_table = self.query.as_ref().is_some_and(|q| q.table.is_some());
        let more = ["WHERE", "JOIN", "LEFT", "INNER", "CROSS", "ORDER", "LIMIT", "HAVING"];
        if over_table && (more.iter().any(|word| at.sees(&[word])) || at.token() == Some(&Token::Comma)) {
            return at
                .unexpected_because(expected, "; FROM takes one table: write AS SELECT .. for anything more".into());
        }
        at.unexpected(expected, CLAUSES)
    }

    fn split(&mut self, at: &mut Cursor<'_, '_>) -> Result<Option<SplitSpec>> {
        const KINDS: &[&str] = &["AUTO", "NONE", "RANDOM", "BY", "SEQUENTIAL", "KFOLD"];
        if at.take_word("AUTO") {
            Ok(Some(SplitSpec::Auto))
        } else if at.take_word("NONE") {
            Ok(Some(SplitSpec::None))
        } else if at.take_word("RANDOM") {
            let fraction = fraction(at, "SPLIT RANDOM")?;
            let seed = if at.take_word("SEED") {
                Some(at.integer("a seed, a whole number that is not negative")?)
            } else {
                None
            };
            Ok(Some(SplitSpec::Random { fraction, seed }))
        } else if at.take_word("BY") {
            Ok(Some(SplitSpec::By { column: at.identifier("a boolean column")? }))
        } else if at.take_word("SEQUENTIAL") {
            at.expect_word("ON")?;
            at.identifier("a column")?;
            fraction(at, "SPLIT SEQUENTIAL")?;
            self.refused.get_or_insert(options::sequential());
            Ok(None)
        } else if at.take_word("KFOLD") {
            at.integer("the number of folds")?;
            if at.take_word("BY") {
                at.identifier("a column")?;
            }
            let hint = "train once for each fold, with SPLIT BY a boolean column of the query";
            self.refused.get_or_insert(NotYet::new("SPLIT KFOLD", hint));
            Ok(None)
        } else {
            Err(at.unexpected("AUTO, NONE, RANDOM <fraction> or BY <column> after SPLIT", KINDS))
        }
    }

    /// What follows `AS`: a query to the end of the statement, or one in parentheses.
    fn query(&mut self, at: &mut Cursor<'_, '_>) -> Result<QuerySource> {
        let (range, next) = query_range(at);
        if range.is_empty() {
            return Err(at.unexpected("a query after AS", &[]));
        }
        let inner = Cursor::new(at.source, range.clone());
        let opens = ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|word| inner.sees(&[word]));
        if !opens && inner.token() != Some(&Token::LParen) {
            return Err(at.unexpected("a query after AS", &["SELECT", "WITH", "VALUES"]));
        }
        let rewritten = rewrite(at.source, range.clone())?;
        if let Some(refused) = rewritten.refused {
            self.refused.get_or_insert(refused);
        }
        let statement = datafusion_statement(rewritten.tokens)?;
        if !matches!(&statement, DFStatement::Statement(s) if matches!(**s, SqlStatement::Query(_))) {
            return Err(at.unexpected("a query after AS", &[]));
        }
        at.pos = next;
        let sql = at.source.slice(range).to_string();
        Ok(QuerySource { sql, table: None, statement, models: rewritten.models })
    }

    /// What follows `FROM`: one table.
    fn table(&mut self, at: &mut Cursor<'_, '_>) -> Result<QuerySource> {
        let from = at.pos;
        let name = table_name(at)?;
        let span = at.source.at(from).token.span;
        let mut tokens = vec![keyword(Keyword::SELECT), Token::Mul, keyword(Keyword::FROM)];
        tokens.extend(name);
        let tokens = tokens.into_iter().map(|token| TokenWithSpan { token, span }).collect();
        let table = at.source.slice(from..at.pos).to_string();
        Ok(QuerySource {
            sql: format!("SELECT * FROM {table}"),
            table: Some(table),
            statement: datafusion_statement(tokens)?,
            models: Vec::new(),
        })
    }

    fn finish(self, at: &Cursor<'_, '_>, start: usize, name: String, spelling: Spelling) -> Parsed {
        let Clauses { mut family, mut labels, weight, mut split, options, query, resume, background, refused, seen } =
            self;
        let options = options.unwrap_or_default();
        if let Some((value, position)) = options.family {
            set(&mut family, value, "the family (USING and option model_type)", position)?;
        }
        if let Some((value, position)) = options.labels {
            set(&mut labels, value, "the label (PREDICT and option input_label_cols)", position)?;
        }
        if let Some((value, position)) = options.split {
            if seen.contains(&"SPLIT") {
                return Err(SqlError::Repeated {
                    what: "the split (SPLIT and option data_split_method)".into(),
                    position,
                });
            }
            split = Some(value);
        }
        let imports = family.as_deref() == Some("onnx") || options.rest.iter().any(|(name, _)| name == "model_path");
        if let Some(refused) = refused.or(options.refused) {
            return Ok(Err(refused));
        }
        if imports {
            return Ok(Err(NotYet::new("importing a model (model_type = 'ONNX')", "train the model with TRAIN MODEL")));
        }
        let Some(query) = query else {
            let expected = "AS <query> or FROM <table>: what the model is trained on";
            return Err(at.unexpected(expected, &[]));
        };
        Ok(Ok(TrainStatement {
            name,
            spelling,
            family,
            labels: labels.unwrap_or_default(),
            weight,
            split,
            options: options.rest,
            resume: resume.is_some(),
            background: background.is_some(),
            query,
            text: at.source.slice(start..at.range.end).to_string(),
            position: at.source.at(start).token.span.start.into(),
        }))
    }
}

/// The query's tokens, and where the statement goes on. A query in parentheses may be followed by clauses.
fn query_range(at: &Cursor<'_, '_>) -> (Range<usize>, usize) {
    let whole = (at.pos..at.range.end, at.range.end);
    let mut after = at.clone();
    if at.token() != Some(&Token::LParen) || after.group().is_err() {
        return whole;
    }
    let clause = CLAUSES.iter().any(|word| after.token().is_some_and(|t| is_word(t, word)));
    if after.done() || clause { (at.pos + 1..after.pos - 1, after.pos) } else { whole }
}

fn fraction(at: &mut Cursor<'_, '_>, what: &str) -> Result<f64> {
    let position = at.here();
    let value = options::scalar(at, "a fraction above 0 and below 1")?;
    options::fraction(what, &value, position)
}

/// An expression; it ends where DataFusion's expression parser stops.
fn weight(at: &mut Cursor<'_, '_>) -> Result<Weight> {
    let from = at.pos;
    if at.done() {
        return Err(at.unexpected("a column or an expression after WEIGHT BY", &[]));
    }
    let tokens = (from..at.range.end).map(|i| at.source.at(i).token.clone()).collect();
    let mut parser = Parser::new(&GenericDialect {}).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(query_error)?;
    at.pos = (from + parser.index()).min(at.range.end);
    Ok(Weight { sql: at.source.slice(from..at.pos).to_string(), expr })
}
