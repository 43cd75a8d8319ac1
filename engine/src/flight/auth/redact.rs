//! The text of a statement without passwords and keys.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::session::{Offsets, tokens};
use crate::storage::address::without_keys;

/// Words in names of what is secret.
const SECRET: [&str; 9] =
    ["secret", "password", "passwd", "token", "sas", "credential", "access_key", "account_key", "private"];
/// What stands for a value that is not shown.
const HIDDEN: &str = "'***'";

/// The first `most` bytes of a statement, on one line; values that belong to secret names are left out. A text that
/// cannot be cut into words is shown up to where it can.
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
    let (mut out, mut secret) = (String::new(), false);
    for token in &tokens {
        let (from, to) = (offsets.of(token.span.start), offsets.of(token.span.end));
        if out.len() > most {
            break;
        }
        match &token.token {
            Token::Whitespace(_) => {
                if !out.ends_with(' ') && !out.is_empty() {
                    out.push(' ');
                }
                continue;
            }
            Token::EOF => break,
            Token::Word(word) => {
                // SET x TO 'value'.
                secret = names_a_secret(&word.value) || secret && word.value.eq_ignore_ascii_case("to");
                out += &text[from..to];
            }
            Token::Eq
            | Token::Comma
            | Token::Colon
            | Token::RArrow
            | Token::Assignment
            | Token::Period
            | Token::LParen => {
                out += &text[from..to];
            }
            Token::Number(..) if secret => {
                out += HIDDEN;
                secret = false;
            }
            literal if is_text(literal) => {
                let value = &text[from..to];
                match secret || value.contains("sig=") || value.contains("ignature=") {
                    true => out += HIDDEN,
                    false => out += &without_keys(value),
                }
                secret = !secret && value.len() < 80 && names_a_secret(value);
            }
            _ => {
                secret = false;
                out += &text[from..to];
            }
        }
    }
    let mut end = out.len().min(most);
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    let cut = end < out.len() || !whole || !all;
    out.truncate(end);
    if cut { out + " ..." } else { out }
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
    SECRET.iter().any(|word| name.contains(word)) || name.ends_with("key") && name.contains(['_', '.'])
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
        ] {
            let shown = redacted(text, 2000);
            assert!(!shown.contains("hush"), "{shown}");
        }
        let kept = "SELECT 'a', monkey FROM t -- no\n  WHERE b = 'x'";
        assert_eq!(redacted(kept, 2000), "SELECT 'a', monkey FROM t WHERE b = 'x'");
    }

    #[test]
    fn long_statements_are_cut() {
        let shown = redacted(&format!("SELECT '{}'", "é".repeat(3000)), 101);
        assert!(shown.len() <= 105 && shown.ends_with(" ..."), "{shown}");
        assert_eq!(redacted("", 10), "");
    }
}
