//! Chains such as `1 + 1 + ..` and `SELECT .. UNION SELECT ..`: each link is one level more of a tree that is walked by
//! recursion, so a chain has an end. (Nested parentheses are counted by the parser.)

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Result, SqlError};
use crate::source::{Source, is_word};

/// Links that a chain may have.
const LONGEST: usize = 2_000;

/// Words that link expressions.
const OPERATORS: &[&str] = &[
    "AND", "OR", "XOR", "DIV", "LIKE", "ILIKE", "SIMILAR", "RLIKE", "REGEXP", "MATCH", "MEMBER", "OVERLAPS", "IS",
    "BETWEEN", "IN", "AT", "COLLATE",
];
/// Words that link relations.
const RELATIONS: &[&str] = &["UNION", "INTERSECT", "EXCEPT", "JOIN", "PIVOT", "UNPIVOT"];
/// Words after which a comma does not link relations any more.
const AFTER_FROM: &[&str] =
    &["SELECT", "WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "VALUES", "SET", "USING"];

/// Links seen between one pair of parentheses.
#[derive(Default)]
struct Level {
    /// In the expression that is read now.
    operators: usize,
    relations: usize,
    /// Whether relations with commas between them are read now.
    from: bool,
}

/// # Errors
/// When a statement has a chain that is too long.
pub(crate) fn check(source: &Source<'_>, range: Range<usize>) -> Result<()> {
    let (mut levels, first) = (vec![Level::default()], range.start);
    for at in range {
        let token = &source.at(at).token.token;
        let word = |words: &[&str]| words.iter().any(|word| is_word(token, word));
        let inner = levels.len() > 1;
        let Some(level) = levels.last_mut() else { return Ok(()) };
        match token {
            Token::Comma => {
                level.operators = 0;
                level.relations += usize::from(level.from);
            }
            Token::LParen => {
                // A query that WITH names is below those after it.
                level.relations += usize::from(at > first && is_word(&source.at(at - 1).token.token, "AS"));
                levels.push(Level::default());
            }
            Token::Word(_) if word(&["FROM"]) => level.from = true,
            Token::Word(_) if word(AFTER_FROM) => level.from = false,
            Token::LBracket => {
                level.operators += 1;
                levels.push(Level::default());
            }
            Token::RParen | Token::RBracket if inner => drop(levels.pop()),
            Token::Word(_) if word(&["CASE"]) => levels.push(Level::default()),
            Token::Word(_) if word(&["END"]) && inner => drop(levels.pop()),
            Token::Word(_) if word(&["WHEN", "THEN", "ELSE"]) => level.operators = 0,
            Token::Word(_) if word(OPERATORS) => level.operators += 1,
            Token::Word(_) if word(RELATIONS) => level.relations += 1,
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period | Token::SemiColon => {}
            // Every other sign is an operator, or at least does not repeat without one.
            _ => level.operators += 1,
        }
        let longest = levels.last().map_or(0, |level| level.operators.max(level.relations));
        if longest > LONGEST {
            let message = format!(
                "a chain of more than {LONGEST} operators, joins or unions; name its parts in WITH, use IN (..) or an array"
            );
            return Err(SqlError::Query { message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::parse;

    #[test]
    fn chains_have_an_end() {
        let sum = |links: usize| format!("SELECT 1{}", " + 1".repeat(links));
        assert!(parse(&sum(2_000)).is_ok());
        let union = format!("SELECT 1, 2{}", " UNION SELECT 1, 2".repeat(2_001));
        let casts = format!("SELECT 1{}", "::INT".repeat(2_001));
        let words = format!("SELECT true{}", " XOR true".repeat(2_001));
        let commas = format!("SELECT 1 FROM t{}", ", t".repeat(2_001));
        let names = format!("WITH a AS (SELECT 1){} SELECT 1", ", b AS (SELECT 1)".repeat(2_001));
        for text in
            [sum(2_001), union, casts, words, commas, names, format!("TRAIN MODEL m USING kmeans AS {}", sum(2_001))]
        {
            let error = parse(&text).map(drop).map_err(|e| e.to_string());
            assert!(error.is_err_and(|e| e.starts_with("SINEW-1003") && e.contains("chain")), "{}", &text[..40]);
        }
        // Lists are no chains, however long.
        let values = format!("VALUES (1, -1){}", ", (1, -1)".repeat(5_000));
        let list = format!("SELECT 1 IN (1{})", ", 1 + 1".repeat(5_000));
        let case = format!("SELECT CASE{} END", " WHEN 1 = 1 THEN 1 + 1".repeat(5_000));
        assert!(parse(&values).is_ok() && parse(&list).is_ok() && parse(&case).is_ok());
    }
}
