//! One pass over a statement's tokens before DataFusion's parser sees them.
//!
//! `MODEL m` as an argument of `ML.F(..)`, and the first argument of `PREDICT(m, ..)`, become a string
//! literal with [`MODEL_PREFIX`]; `TABLE t` becomes `(SELECT * FROM t)`, whose tables DataFusion resolves
//! beforehand. Neither parses as a function argument otherwise.

use std::ops::Range;

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::ast::NotYet;
use crate::cursor::Cursor;
use crate::error::Result;
use crate::functions;
use crate::name::ModelRef;
use crate::source::{Source, is_word, keyword};

/// What a model reference starts with once it has become a string literal.
pub const MODEL_PREFIX: &str = "sinew:model:";

/// The model a string literal refers to, if it is one of this module's.
pub(crate) fn model_of(literal: &str) -> Option<ModelRef> {
    literal.strip_prefix(MODEL_PREFIX)?.parse().ok()
}

/// A statement ready for DataFusion's parser.
#[derive(Debug, Default)]
pub(crate) struct Rewritten {
    pub tokens: Vec<TokenWithSpan>,
    /// Models referred to, each once, in order.
    pub models: Vec<ModelRef>,
    /// The first function this version refuses.
    pub refused: Option<NotYet>,
}

/// What an open parenthesis belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Group {
    /// The arguments of `ML.F`.
    Relation,
    /// Anything else.
    Other,
}

/// Words after which `predict (` is the name of a new thing, not a call.
const NAMING: &[&str] = &["INTO", "TABLE", "VIEW", "FUNCTION", "EXISTS", "INDEX"];

pub(crate) fn rewrite(source: &Source<'_>, range: Range<usize>) -> Result<Rewritten> {
    let mut at = Cursor::new(source, range.clone());
    let mut out = Rewritten::default();
    let mut groups = Vec::new();
    let mut copied = source.code[range.start];
    while !at.done() {
        let start = at.pos;
        let replacement = step(&mut at, &range, &mut groups, &mut out)?;
        if let Some((from, tokens)) = replacement {
            let span = source.at(from).token.span;
            out.tokens.extend(source.all[copied..source.code[from]].iter().map(|l| l.token.clone()));
            out.tokens.extend(tokens.into_iter().map(|token| TokenWithSpan { token, span }));
            copied = source.code[at.pos - 1] + 1;
        } else if at.pos == start {
            at.pos += 1;
        }
    }
    let end = source.code[range.end - 1] + 1;
    out.tokens.extend(source.all[copied..end].iter().map(|l| l.token.clone()));
    Ok(out)
}

type Replacement = Option<(usize, Vec<Token>)>;

/// Looks at one token; what it replaces ends before `at.pos`.
fn step(
    at: &mut Cursor<'_, '_>,
    range: &Range<usize>,
    groups: &mut Vec<Group>,
    out: &mut Rewritten,
) -> Result<Replacement> {
    let before = (at.pos > range.start).then(|| &at.source.at(at.pos - 1).token.token);
    match at.token() {
        Some(Token::LParen) => groups.push(Group::Other),
        Some(Token::RParen) => {
            groups.pop();
        }
        Some(Token::Word(word)) if word.quote_style.is_none() => {
            if before == Some(&Token::Period) {
                return Ok(None);
            }
            if let Some(function) = call_of_ml(at) {
                let position = at.here();
                at.pos += 4;
                groups.push(Group::Relation);
                match functions::resolve(&function, position)? {
                    Ok(known) => {
                        if !at.sees(&["MODEL"]) {
                            return Err(at.unexpected(&format!("MODEL and a model's name in ML.{known}"), &["MODEL"]));
                        }
                    }
                    Err(refused) => {
                        out.refused.get_or_insert(refused);
                    }
                }
                return Ok(None);
            }
            let scalar = ["PREDICT", "PREDICT_PROBA"].iter().find(|f| word.value.eq_ignore_ascii_case(f));
            let naming = before.is_some_and(|t| NAMING.iter().any(|word| is_word(t, word)));
            if let (Some(function), Some(Token::LParen), false) = (scalar, at.nth(1).map(|l| &l.token.token), naming) {
                at.pos += 2;
                groups.push(Group::Other);
                let from = at.pos;
                at.take_word("MODEL");
                if !matches!(at.token(), Some(Token::Word(_))) {
                    return Err(at.unexpected(&format!("the name of a model as the first argument of {function}"), &[]));
                }
                return Ok(Some((from, vec![model(at, out)?])));
            }
            let argument =
                matches!(groups.last(), Some(Group::Relation)) && matches!(before, Some(Token::LParen | Token::Comma));
            if argument && is_word(&Token::Word(word.clone()), "MODEL") {
                let from = at.pos;
                at.pos += 1;
                return Ok(Some((from, vec![model(at, out)?])));
            }
            if argument && is_word(&Token::Word(word.clone()), "TABLE") {
                let from = at.pos;
                at.pos += 1;
                return Ok(Some((from, table(at)?)));
            }
        }
        _ => {}
    }
    Ok(None)
}

/// The function's name if `ML . name (` comes next.
fn call_of_ml(at: &Cursor<'_, '_>) -> Option<String> {
    let token = |n: usize| at.nth(n).map(|l| &l.token.token);
    match (token(1), token(2), token(3)) {
        (Some(Token::Period), Some(Token::Word(name)), Some(Token::LParen)) if at.sees(&["ML"]) => {
            Some(name.value.clone())
        }
        _ => None,
    }
}

/// Reads a model reference and closes the argument.
fn model(at: &mut Cursor<'_, '_>, out: &mut Rewritten) -> Result<Token> {
    let reference = at.model_ref()?;
    if !matches!(at.token(), Some(Token::Comma | Token::RParen)) {
        return Err(at.unexpected("',' or ')' after the model", &[]));
    }
    let literal = format!("{MODEL_PREFIX}{reference}");
    if !out.models.contains(&reference) {
        out.models.push(reference);
    }
    Ok(Token::SingleQuotedString(literal))
}

/// Reads a table's name; the answer is a subquery over it.
fn table(at: &mut Cursor<'_, '_>) -> Result<Vec<Token>> {
    let mut name = table_name(at)?;
    let mut tokens = vec![Token::LParen, keyword(Keyword::SELECT), Token::Mul, keyword(Keyword::FROM)];
    tokens.append(&mut name);
    tokens.push(Token::RParen);
    Ok(tokens)
}

/// The tokens of `t`, `s.t`, `"T"` or `'file.parquet'`.
pub(crate) fn table_name(at: &mut Cursor<'_, '_>) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    loop {
        match at.token() {
            Some(token @ Token::Word(_)) => tokens.push(token.clone()),
            Some(token @ Token::SingleQuotedString(_)) if tokens.is_empty() => {
                at.pos += 1;
                return Ok(vec![token.clone()]);
            }
            _ => return Err(at.unexpected("the name of a table", &[])),
        }
        at.pos += 1;
        if !at.take(&Token::Period) {
            return Ok(tokens);
        }
        tokens.push(Token::Period);
    }
}
