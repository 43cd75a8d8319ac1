//! Reading one statement token by token.

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::Token;
use sinew_ml::error::did_you_mean;

use crate::error::{Position, Result, SqlError};
use crate::name::{ModelRef, check_name, parse_version};
use crate::source::{Lexeme, Source, is_word};

/// A place in one statement.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'s, 'a> {
    pub source: &'s Source<'a>,
    /// The statement, as a range of `source.code`.
    pub range: Range<usize>,
    /// The next token, an index into `source.code`.
    pub pos: usize,
}

impl<'s, 'a> Cursor<'s, 'a> {
    pub fn new(source: &'s Source<'a>, range: Range<usize>) -> Self {
        Self { source, pos: range.start, range }
    }

    /// The `n`-th token from here, counted from 0.
    pub fn nth(&self, n: usize) -> Option<&'s Lexeme> {
        (self.pos + n < self.range.end).then(|| self.source.at(self.pos + n))
    }

    pub fn token(&self) -> Option<&'s Token> {
        self.nth(0).map(|l| &l.token.token)
    }

    pub fn done(&self) -> bool {
        self.pos >= self.range.end
    }

    /// Where the next token stands, or the end of the statement.
    pub fn here(&self) -> Position {
        match self.nth(0) {
            Some(lexeme) => lexeme.token.span.start.into(),
            None => self.source.at(self.range.end - 1).token.span.end.into(),
        }
    }

    /// Whether these words come next.
    pub fn sees(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(n, word)| self.nth(n).is_some_and(|l| is_word(&l.token.token, word)))
    }

    /// Steps over these words if they come next, all of them.
    pub fn take_words(&mut self, words: &[&str]) -> bool {
        let seen = self.sees(words);
        if seen {
            self.pos += words.len();
        }
        seen
    }

    pub fn take_word(&mut self, word: &str) -> bool {
        self.take_words(&[word])
    }

    pub fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.take_word(word) { Ok(()) } else { Err(self.unexpected(word, &[word])) }
    }

    pub fn take(&mut self, token: &Token) -> bool {
        let seen = self.token() == Some(token);
        if seen {
            self.pos += 1;
        }
        seen
    }

    pub fn expect(&mut self, token: &Token) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.unexpected(&format!("'{token}'"), &[])) }
    }

    /// The error that something else should stand here; the nearest of `words` is offered.
    pub fn unexpected(&self, expected: &str, words: &[&str]) -> SqlError {
        let hint = match self.token() {
            Some(Token::Word(word)) => did_you_mean(&word.value, words.iter().copied()),
            _ => String::new(),
        };
        self.unexpected_because(expected, hint)
    }

    /// The error that something else should stand here, with a next step that starts with `; `.
    pub fn unexpected_because(&self, expected: &str, hint: String) -> SqlError {
        let found = match self.nth(0) {
            Some(lexeme) => {
                let text = &self.source.text[lexeme.bytes.clone()];
                if text.chars().count() > 40 {
                    format!("'{}...'", text.chars().take(37).collect::<String>())
                } else if text.starts_with('\'') {
                    format!("the string {text}")
                } else {
                    format!("'{text}'")
                }
            }
            None => "the end of the statement".into(),
        };
        SqlError::Syntax {
            expected: expected.into(),
            found,
            position: self.here(),
            near: self.source.near(&self.range, self.pos),
            hint,
        }
    }

    /// The statement must end here.
    pub fn end(&self) -> Result<()> {
        if self.done() { Ok(()) } else { Err(self.unexpected("the end of the statement", &[])) }
    }

    /// A column: quoted names keep their case, others become lower case.
    pub fn identifier(&mut self, what: &str) -> Result<String> {
        match self.token() {
            Some(Token::Word(word)) => {
                self.pos += 1;
                Ok(if word.quote_style.is_some() { word.value.clone() } else { word.value.to_ascii_lowercase() })
            }
            _ => Err(self.unexpected(what, &[])),
        }
    }

    /// Columns with commas between.
    pub fn identifiers(&mut self, what: &str) -> Result<Vec<String>> {
        let mut names = vec![self.identifier(what)?];
        while self.take(&Token::Comma) {
            names.push(self.identifier(what)?);
        }
        Ok(names)
    }

    pub fn string(&mut self, what: &str) -> Result<String> {
        match self.token() {
            Some(Token::SingleQuotedString(text)) => {
                self.pos += 1;
                Ok(text.clone())
            }
            _ => Err(self.unexpected(what, &[])),
        }
    }

    /// A whole number that is not negative.
    pub fn integer(&mut self, what: &str) -> Result<u64> {
        match self.token() {
            Some(Token::Number(text, _)) if text.parse::<u64>().is_ok() => {
                self.pos += 1;
                text.parse().map_err(|_| self.unexpected(what, &[]))
            }
            _ => Err(self.unexpected(what, &[])),
        }
    }

    /// Steps over a group in parentheses, whatever is in it.
    pub fn group(&mut self) -> Result<()> {
        self.expect(&Token::LParen)?;
        let mut depth = 1;
        while depth > 0 {
            match self.token() {
                Some(Token::LParen) => depth += 1,
                Some(Token::RParen) => depth -= 1,
                Some(_) => {}
                None => return Err(self.unexpected("')'", &[])),
            }
            self.pos += 1;
        }
        Ok(())
    }

    /// A model's name: one word, or several with dots between.
    pub fn model_name(&mut self) -> Result<String> {
        let position = self.here();
        let reference = self.model_ref()?;
        match reference.version {
            None => Ok(reference.name),
            Some(version) => Err(SqlError::ModelName {
                name: format!("{}@{version}", reference.name),
                kind: "model name",
                reason: "a version cannot stand here".into(),
                position: Some(position),
            }),
        }
    }

    /// A model's name with `@` and a number or an alias, or without.
    pub fn model_ref(&mut self) -> Result<ModelRef> {
        let position = self.here();
        let mut name = self.identifier("the name of a model")?;
        while matches!((self.token(), self.nth(1).map(|l| &l.token.token)), (Some(Token::Period), Some(Token::Word(_))))
        {
            self.pos += 1;
            name.push('.');
            name.push_str(&self.identifier("the name of a model")?);
        }
        // `churn@3` is one word; after a closing quote, `@3` is a word of its own.
        if let (Some(Token::Word(word)), Some(next)) = (self.token(), self.nth(0))
            && word.quote_style.is_none()
            && word.value.starts_with('@')
            && next.bytes.start == self.source.at(self.pos - 1).bytes.end
        {
            name.push_str(&word.value.to_ascii_lowercase());
            self.pos += 1;
        }
        let (name, version) = match name.split_once('@') {
            None => (name.as_str(), None),
            Some((name, version)) => (name, Some(parse_version(version, Some(position))?)),
        };
        check_name(name, Some(position))?;
        Ok(ModelRef { name: name.into(), version })
    }
}
