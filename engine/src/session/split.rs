//! A script cut into statements, each with its place, so that a statement runs before the next is parsed.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// One statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Counted from 1.
    pub number: usize,
    /// Line of its first word, counted from 1.
    pub line: u64,
    /// Column of its first word, counted from 1 in characters.
    pub column: u64,
    /// The text from the first to the last word.
    pub text: String,
    /// Whether a `;` follows.
    pub terminated: bool,
}

impl Piece {
    /// The text with white space before it, so that positions in errors count from the start of the script.
    pub fn in_place(&self) -> String {
        let lines = "\n".repeat(self.line.saturating_sub(1) as usize);
        let columns = " ".repeat(self.column.saturating_sub(1) as usize);
        format!("{lines}{columns}{}", self.text)
    }
}

/// The words of a text, and whether they are all of it.
pub(crate) fn tokens(text: &str) -> (Vec<TokenWithSpan>, bool) {
    let mut tokens = Vec::new();
    let whole = Tokenizer::new(&GenericDialect {}, text).tokenize_with_location_into_buf(&mut tokens).is_ok();
    (tokens, whole)
}

/// The statements of a script; empty ones are left out. Text that cannot be cut into words, such as an
/// open quote, becomes the last statement as it is.
pub fn split(script: &str) -> Vec<Piece> {
    let (tokens, whole) = tokens(script);
    let mut offsets = Offsets::new(script);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut open: Option<(Location, usize, usize)> = None;
    let mut end = 0;
    let add = |pieces: &mut Vec<Piece>, (start, from, to): (Location, usize, usize), terminated| {
        let text = script[from..to].to_string();
        pieces.push(Piece { number: pieces.len() + 1, line: start.line, column: start.column, text, terminated });
    };
    for token in &tokens {
        let from = offsets.of(token.span.start);
        end = offsets.of(token.span.end);
        match token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => {
                if let Some(piece) = open.take() {
                    add(&mut pieces, piece, true);
                }
            }
            _ => open = Some(open.map_or((token.span.start, from, end), |(start, first, _)| (start, first, end))),
        }
    }
    if !whole && !script[end..].trim().is_empty() {
        let (start, from, _) = open.take().unwrap_or_else(|| offsets.first_word(end));
        add(&mut pieces, (start, from, script.trim_end().len()), false);
    } else if let Some(piece) = open {
        add(&mut pieces, piece, false);
    }
    pieces
}

/// Turns lines and columns, which only grow, into byte offsets.
pub(crate) struct Offsets<'a> {
    text: &'a str,
    byte: usize,
    at: Location,
}

impl<'a> Offsets<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, byte: 0, at: Location { line: 1, column: 1 } }
    }

    fn step(&mut self) -> bool {
        match self.text[self.byte..].chars().next() {
            Some(c) => {
                self.byte += c.len_utf8();
                self.at = match c {
                    '\n' => Location { line: self.at.line + 1, column: 1 },
                    _ => Location { line: self.at.line, column: self.at.column + 1 },
                };
                true
            }
            None => false,
        }
    }

    pub(crate) fn of(&mut self, place: Location) -> usize {
        while (self.at.line, self.at.column) < (place.line, place.column) && self.step() {}
        self.byte
    }

    fn first_word(&mut self, from: usize) -> (Location, usize, usize) {
        while (self.byte < from || self.text[self.byte..].starts_with(char::is_whitespace)) && self.step() {}
        (self.at, self.byte, self.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<(String, u64, bool)> {
        split(script).into_iter().map(|p| (p.text, p.line, p.terminated)).collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        let script = "SELECT 'a;b' -- not; here\n, \"c;d\";\n;; /* nor ; here */\nSELECT é, $$;$$ ;  SELECT 3 -- end";
        let found = texts(script);
        assert_eq!(found[0], ("SELECT 'a;b' -- not; here\n, \"c;d\"".into(), 1, true));
        assert_eq!((found[1].1, found[1].2), (4, true));
        assert_eq!(found[2], ("SELECT 3".into(), 4, false));
        assert_eq!(found.len(), 3);
        assert_eq!(texts("  \n -- nothing\n;"), vec![]);
    }

    #[test]
    fn an_open_quote_is_the_last_statement() {
        assert_eq!(
            texts("SELECT 1;\nSELECT 'x;\n"),
            vec![("SELECT 1".into(), 1, true), ("SELECT 'x;".into(), 2, false)]
        );
        assert_eq!(texts("\n'x"), vec![("'x".into(), 2, false)]);
    }

    #[test]
    fn padding_keeps_the_place() {
        let piece = &split("SELECT 1;\n  SELECT 2")[1];
        assert_eq!(piece.in_place(), "\n  SELECT 2");
    }
}
