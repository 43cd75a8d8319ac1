//! A script cut into tokens once, each with its place in the text.

use std::ops::Range;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::error::{Position, Result, SqlError};

/// A token and the bytes of the script it covers.
#[derive(Debug)]
pub(crate) struct Lexeme {
    pub token: TokenWithSpan,
    pub bytes: Range<usize>,
}

/// The script: its text, all its tokens, and which of them are not white space.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub text: &'a str,
    pub all: Vec<Lexeme>,
    /// Indices into `all`.
    pub code: Vec<usize>,
}

impl From<Location> for Position {
    fn from(at: Location) -> Self {
        Position { line: at.line, column: at.column }
    }
}

impl<'a> Source<'a> {
    pub fn new(text: &'a str) -> Result<Self> {
        let tokens = Tokenizer::new(&GenericDialect {}, text)
            .tokenize_with_location()
            .map_err(|e| SqlError::Token { reason: e.message, position: e.location.into() })?;
        let mut walk = Walk { chars: text.char_indices(), end: text.len(), line: 1, column: 1, byte: 0 };
        let all: Vec<_> = tokens
            .into_iter()
            .map(|token| {
                let start = walk.to(token.span.start);
                let end = walk.to(token.span.end);
                Lexeme { token, bytes: start..end }
            })
            .collect();
        let code = (0..all.len()).filter(|i| !matches!(all[*i].token.token, Token::Whitespace(_))).collect();
        Ok(Self { text, all, code })
    }

    /// The `i`-th token that is not white space.
    pub fn at(&self, i: usize) -> &Lexeme {
        &self.all[self.code[i]]
    }

    /// Ranges of `code`, one for each statement; empty statements are left out.
    pub fn statements(&self) -> Vec<Range<usize>> {
        let mut ranges = Vec::new();
        let mut start = 0;
        for i in 0..=self.code.len() {
            if i == self.code.len() || self.at(i).token.token == Token::SemiColon {
                if start < i {
                    ranges.push(start..i);
                }
                start = i + 1;
            }
        }
        ranges
    }

    /// The text from the first to the last token of a range of `code`.
    pub fn slice(&self, range: Range<usize>) -> &'a str {
        if range.is_empty() {
            return "";
        }
        &self.text[self.at(range.start).bytes.start..self.at(range.end - 1).bytes.end]
    }

    /// The text around a token, on one line.
    pub fn near(&self, range: &Range<usize>, i: usize) -> String {
        let from = i.saturating_sub(3).max(range.start);
        let to = (i + 4).min(range.end);
        let words: Vec<_> = self.slice(from..to).split_whitespace().collect();
        let mut text = words.join(" ");
        if text.chars().count() > 60 {
            text = text.chars().take(57).chain("...".chars()).collect();
        }
        text
    }
}

/// Turns lines and columns, which only grow, into byte offsets.
struct Walk<'a> {
    chars: std::str::CharIndices<'a>,
    end: usize,
    line: u64,
    column: u64,
    byte: usize,
}

impl Walk<'_> {
    fn to(&mut self, at: Location) -> usize {
        while (self.line, self.column) < (at.line, at.column) {
            match self.chars.next() {
                Some((_, '\n')) => (self.line, self.column) = (self.line + 1, 1),
                Some(_) => self.column += 1,
                None => break,
            }
            self.byte = self.chars.clone().next().map_or(self.end, |(byte, _)| byte);
        }
        self.byte
    }
}

/// Whether a token is this word, unquoted, in any case.
pub(crate) fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// A token that reads as this keyword.
pub(crate) fn keyword(word: Keyword) -> Token {
    Token::make_keyword(&format!("{word:?}"))
}
