//! A training with parameters: values are put into its text, which is then the statement that is recorded, so that
//! `RETRAIN MODEL` can run it again.

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::sql::sqlparser::tokenizer::Token;
use datafusion::sql::unparser::expr_to_sql;
use sinew_sql::Statement;

use super::bound::numbered;
use super::prepared::by_number;
use super::split::{Offsets, tokens};
use super::{Session, train};
use crate::error::{Result, SinewError};

/// The text of a training with places for values.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    /// The type of each value, where the training query tells.
    pub types: Vec<Option<DataType>>,
    /// The columns of its report.
    pub schema: SchemaRef,
}

impl Template {
    /// `None` where the text is another statement, or has no parameters.
    ///
    /// # Errors
    /// When a parameter is not written as `?` or `$1`, or the training query cannot be planned.
    pub async fn of(session: &Session, text: &str) -> Result<Option<Self>> {
        if !is_training(text) || !holes(text).any(|_| true) {
            return Ok(None);
        }
        let text = numbered(text)?;
        let names = holes(&text).map(|(_, _, name)| (name, None)).collect::<Vec<_>>();
        let mut types = by_number(names.into_iter())?;
        // A parameter in OPTIONS does not parse, and has no type of its own.
        if let Ok(Some(Statement::Train(statement))) = sinew_sql::parse(&text).map(|mut all| all.pop()) {
            for (at, known) in
                by_number(train::parameters(session, &statement).await?.into_iter())?.into_iter().enumerate()
            {
                types[at] = known;
            }
        }
        Ok(Some(Self { text, types, schema: train::report_schema() }))
    }

    /// The statement with values in place of its parameters.
    ///
    /// # Errors
    /// When a value has no form in SQL, or the statement does not parse with it.
    pub fn fill(&self, values: &[ScalarValue]) -> Result<Statement> {
        let (mut out, mut copied) = (String::new(), 0);
        for (from, to, name) in holes(&self.text) {
            let value = name[1..].parse::<usize>().ok().and_then(|number| values.get(number.wrapping_sub(1)));
            let value = value.ok_or_else(|| SinewError::Internal(format!("{name} has no value")))?;
            out += &self.text[copied..from];
            out += &expr_to_sql(&Expr::Literal(value.clone(), None))?.to_string();
            copied = to;
        }
        out += &self.text[copied..];
        let filled = sinew_sql::parse(&out)?.pop();
        filled.ok_or_else(|| SinewError::Internal("a training became nothing".into()))
    }
}

/// Begin, end and name of each parameter of a text.
fn holes(text: &str) -> impl Iterator<Item = (usize, usize, String)> {
    let (words, _) = tokens(text);
    let mut offsets = Offsets::new(text);
    let holes: Vec<_> = words
        .into_iter()
        .filter_map(|word| match word.token {
            Token::Placeholder(name) => Some((offsets.of(word.span.start), offsets.of(word.span.end), name)),
            _ => None,
        })
        .collect();
    holes.into_iter()
}

/// Whether a text begins as a training does.
fn is_training(text: &str) -> bool {
    let (tokens, _) = tokens(text);
    let words = tokens.iter().filter(|word| !matches!(word.token, Token::Whitespace(_)));
    let words: Vec<String> = words.take(4).map(|word| word.token.to_string().to_uppercase()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    matches!(words.as_slice(), ["TRAIN", "MODEL", ..] | ["CREATE", "MODEL", ..] | ["CREATE", "OR", "REPLACE", "MODEL"])
}
