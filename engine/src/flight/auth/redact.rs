//! The text of a statement without passwords and keys.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::session::{Offsets, tokens};
use crate::storage::address::without_keys;

/// Words in names of what is secret.
const SECRET: [&str; 9] =
    ["secret", "password", "passwd", "token", "sas", "credential", "access_key", "account_key", "private"];
/// What stands for a value that is not shown.
const HIDDEN: &str = "'***'";

/// Words that a value without quotes ends before, unless it is one of a list in parentheses.
const CLAUSES: &str = "and or as from where group order having limit union except intersect then else end when on join \
    options predict using split stored location";

/// Words before those of [`REST`].
const OPENING: [&str; 6] = ["create", "alter", "or", "replace", "persistent", "temporary"];
/// Statements in which all that follows the name of a secret is hidden. Those of users are other systems', are refused
/// here, and are in the audit all the same.
const REST: [&str; 5] = ["set", "user", "role", "login", "secret"];

/// What the words before say about the next one.
#[derive(Clone, Copy, Default, PartialEq)]
enum Next {
    /// Nothing.
    #[default]
    Plain,
    /// A secret was named: text or a number that follows is its value.
    Named,
    /// A secret was named, and `=` or the like came after it: all that follows is its value.
    Assigned {
        /// Whether the value goes on over the words of [`CLAUSES`].
        clauses: bool,
    },
    /// A value was hidden, and this may be more of it.
    Hidden {
        /// Parentheses around the value.
        depth: usize,
        /// As in [`Next::Assigned`].
        clauses: bool,
    },
}

/// The first `most` bytes of a statement, on one line; values that belong to secret names are left out, to their end. A
/// text that cannot be cut into words is shown up to where it can.
pub fn redacted(text: &str, most: usize) -> String {
    // No more is looked at than could be shown.
    let mut cut = text.len().min(most.saturating_mul(4));
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let all = cut == text.len();
    let text = &text[..cut];
    let (tokens, whole) = tokens(text);
    let mut offsets = Offsets::new(text);
    let mut shown = Shown::default();
    for token in &tokens {
        let (from, to) = (offsets.of(token.span.start), offsets.of(token.span.end));
        if shown.out.len() > most || token.token == Token::EOF {
            break;
        }
        shown.add(&token.token, &text[from..to]);
    }
    let mut out = shown.out;
    let mut end = out.len().min(most);
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    let cut = end < out.len() || !whole || !all;
    out.truncate(end);
    if cut { out + " ..." } else { out }
}

/// What has been written of a statement, and what is known at this place of it.
#[derive(Default)]
struct Shown {
    out: String,
    /// Whether white space came last.
    space: bool,
    next: Next,
    /// For each open parenthesis, whether it is of a list of options, whose values need no quotes.
    open: Vec<bool>,
    /// Whether there were other words than those of [`OPENING`].
    opened: bool,
    /// Whether a value goes to the end of the statement, as in SET.
    rest: bool,
    /// The last word, in lower case; empty after anything else.
    word: String,
    /// Whether a `.` came last, after the name of a secret.
    dot: bool,
}

impl Shown {
    fn add(&mut self, token: &Token, text: &str) {
        if let Token::Whitespace(_) = token {
            self.space = !self.out.is_empty();
            return;
        }
        if let Next::Hidden { depth, clauses } = self.next {
            match self.ends(token, depth, clauses) {
                true => self.next = Next::Plain,
                false => return self.nest(token),
            }
            // White space may have been the value's.
            self.space &= matches!(token, Token::Word(_));
        }
        if std::mem::take(&mut self.space) {
            self.out.push(' ');
        }
        let options = self.rest || self.open.last().is_some_and(|options| *options);
        let value = match self.next {
            Next::Assigned { clauses } => !self.ends(token, self.open.len(), clauses),
            // In a list of options, and in SET, what follows the name is the value.
            Next::Named if options => !joins(token) && !self.ends(token, self.open.len(), true),
            Next::Named => is_text(token) || matches!(token, Token::Number(..)),
            Next::Plain | Next::Hidden { .. } => false,
        };
        if value {
            // Text that stands beside a name ends there; anything else goes on.
            let beside = self.next == Next::Named && !options;
            let clauses = options || matches!(self.next, Next::Assigned { clauses: true });
            self.out += HIDDEN;
            self.next = if beside { Next::Plain } else { Next::Hidden { depth: self.open.len(), clauses } };
            return self.nest(token);
        }
        self.next = self.after(token, text, options);
        match is_text(token) {
            true if text.contains("sig=") || text.contains("ignature=") => self.out += HIDDEN,
            true => self.out += &without_keys(text),
            false => self.out += text,
        }
        self.nest(token);
    }

    /// What a word that is shown says about the next one.
    fn after(&mut self, token: &Token, text: &str, options: bool) -> Next {
        let named = self.next == Next::Named;
        let sticks = std::mem::take(&mut self.dot) && options;
        match token {
            Token::Word(word) => {
                self.word = word.value.to_lowercase();
                let is_one_of = |words: &[&str]| words.contains(&self.word.as_str());
                self.rest |= !self.opened && is_one_of(&REST);
                self.opened |= !is_one_of(&OPENING);
                match sticks || names_a_secret(&self.word) || self.rest && self.word == "identified" {
                    _ if named && options && self.word == "to" => Next::Assigned { clauses: true },
                    true => Next::Named,
                    false => Next::Plain,
                }
            }
            Token::Period => {
                self.dot = named;
                Next::Plain
            }
            Token::Eq | Token::DoubleEq if named => Next::Assigned { clauses: options },
            Token::RArrow | Token::Assignment | Token::Colon if named => Next::Assigned { clauses: true },
            // The name and the value may be two of some arguments.
            Token::Comma | Token::LParen if named => Next::Named,
            literal if is_text(literal) && text.len() < 80 && names_a_secret(text) => Next::Named,
            _ => Next::Plain,
        }
    }

    /// Whether a value at a depth of parentheses ends before a token.
    fn ends(&self, token: &Token, depth: usize, clauses: bool) -> bool {
        if self.rest && depth == 0 {
            return false;
        }
        let here = self.open.len() == depth;
        match token {
            Token::Comma | Token::RParen | Token::RBracket | Token::RBrace | Token::SemiColon => here,
            Token::Word(word) => {
                here && !clauses && CLAUSES.split_whitespace().any(|clause| word.value.eq_ignore_ascii_case(clause))
            }
            _ => false,
        }
    }

    fn nest(&mut self, token: &Token) {
        match token {
            Token::LParen => self.open.push(matches!(self.word.as_str(), "options" | "with")),
            Token::LBracket | Token::LBrace => self.open.push(false),
            Token::RParen | Token::RBracket | Token::RBrace => drop(self.open.pop()),
            _ => {}
        }
        if !matches!(token, Token::Word(_)) {
            self.word.clear();
        }
    }
}

/// Whether a token stands between a name and its value.
fn joins(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.value.eq_ignore_ascii_case("to"),
        Token::Eq | Token::DoubleEq | Token::RArrow | Token::Assignment | Token::Colon | Token::Period => true,
        _ => false,
    }
}

fn is_text(token: &Token) -> bool {
    use Token as T;
    matches!(
        token,
        T::SingleQuotedString(_)
            | T::DoubleQuotedString(_)
            | T::DollarQuotedString(_)
            | T::EscapedStringLiteral(_)
            | T::NationalStringLiteral(_)
            | T::UnicodeStringLiteral(_)
            | T::HexStringLiteral(_)
            | T::SingleQuotedByteStringLiteral(_)
            | T::DoubleQuotedByteStringLiteral(_)
            | T::SingleQuotedRawStringLiteral(_)
            | T::DoubleQuotedRawStringLiteral(_)
            | T::TripleSingleQuotedString(_)
            | T::TripleDoubleQuotedString(_)
    )
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["sig", "signature"].contains(&name.as_str())
        || SECRET.iter().any(|word| name.contains(word))
        || name.ends_with("key") && name.contains(['_', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out() {
        for text in [
            "SET sinew.s3_secret_access_key = 'hush'",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://b/x' OPTIONS ('aws.secret_access_key' 'hush', 'a' 'b')",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 's3://AKIA:hush@b/x'",
            "COPY t TO 'az://c/x.csv?sv=1&sig=hush'",
            "SELECT f(password => 'hush')",
            "SET x.account_key TO 'hush'",
            "SET my.token = 'hush",
            "SELECT 'open hush",
            "SET sinew.azure_key = hush",
            "SET sinew.azure_key = hush/+hush== -- hush",
            "set Sinew.Azure_Key to hush and from hush, hush",
            "SET \"sinew.azure_key\" = hush",
            "SET sinew.azure_key hush",
            "SET secret.name = (hush)",
            "SET sinew.azure_url = https://x/y?sv=1&sig=hush",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'x' OPTIONS (aws.secret_access_key hush and hush)",
            "COPY t TO 'x.csv' OPTIONS (a b, aws.secret_access_key = hush/(hush, hush)-hush, c d)",
            "SELECT f(a => 1, password => 'hush' || hush(hush, 'hush')) FROM t",
            "SELECT {'password': concat(hush, 'hush'), 'b': 2}",
            "SELECT a FROM t WHERE token = hush.hush AND b = 1",
            "CREATE USER ann WITH PASSWORD hush hush",
            "ALTER USER ann IDENTIFIED BY hush",
            "CREATE OR REPLACE SECRET s (TYPE s3, KEY_ID hush, SECRET hush)",
        ] {
            let shown = redacted(text, 2000);
            assert!(!shown.contains("hush"), "{shown}");
        }
        let kept = "SELECT 'a', monkey FROM t -- no\n  WHERE b = 'x'";
        assert_eq!(redacted(kept, 2000), "SELECT 'a', monkey FROM t WHERE b = 'x'");
        for (text, shown) in [
            ("SET sinew.azure_key = 'a' b", "SET sinew.azure_key = '***'"),
            ("SET sinew.region = eu", "SET sinew.region = eu"),
            (
                "SELECT token, name FROM t WHERE token = 'a' AND b = 'x'",
                "SELECT token, name FROM t WHERE token = '***' AND b = 'x'",
            ),
            ("SELECT f(password => a || b, c => 'x')", "SELECT f(password => '***', c => 'x')"),
            ("COPY t TO 'x' OPTIONS (secret_key a and b, c 'x')", "COPY t TO 'x' OPTIONS (secret_key '***', c 'x')"),
            ("COPY tokens TO 'x.csv' STORED AS CSV", "COPY tokens TO 'x.csv' STORED AS CSV"),
            ("CREATE TABLE users (token VARCHAR, name VARCHAR)", "CREATE TABLE users (token VARCHAR, name VARCHAR)"),
            (
                "SELECT tokens.id FROM tokens t JOIN u ON tokens.id = u.id",
                "SELECT tokens.id FROM tokens t JOIN u ON tokens.id = u.id",
            ),
        ] {
            assert_eq!(redacted(text, 2000), shown);
        }
    }

    #[test]
    fn long_statements_are_cut() {
        let shown = redacted(&format!("SELECT '{}'", "é".repeat(3000)), 101);
        assert!(shown.len() <= 105 && shown.ends_with(" ..."), "{shown}");
        assert_eq!(redacted("", 10), "");
    }
}
