//! A prepared statement and the values of its parameters, a row of them for each time it runs.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{LogicalPlan, Values, WriteOp};
use futures::{StreamExt, TryStreamExt};

use super::execution::{Execution, ExecutionKind};
use super::prepared::Prepared;
use super::split::{Offsets, tokens};
use super::{Session, guarded, plain};
use crate::error::{Result, SinewError};
use crate::flight::Placed;

/// A statement with what its parameters stand for.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    prepared: Prepared,
    /// The type of each parameter, where the statement tells.
    parameters: Vec<Option<DataType>>,
    values: Option<RecordBatch>,
}

impl Bound {
    /// # Errors
    /// When there is not a value for each parameter.
    pub fn new(prepared: Prepared, values: Option<RecordBatch>) -> Result<Self> {
        let parameters = prepared.parameters()?;
        let given = values.as_ref().map_or(0, RecordBatch::num_columns);
        if given != parameters.len() {
            return Err(SinewError::Request {
                what: format!("the statement has {} parameters, and {given} values were given", parameters.len()),
                hint: "bind a column of values for each".into(),
            });
        }
        Ok(Self { prepared, parameters, values })
    }

    /// Whether the statement only reads.
    pub fn only_reads(&self) -> bool {
        matches!(self.prepared, Prepared::Query(_))
    }

    /// The statement without its values.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// How often it runs.
    pub fn runs(&self) -> usize {
        self.values.as_ref().map_or(1, RecordBatch::num_rows)
    }

    /// The columns of its result.
    pub async fn schema(&self, session: &Session) -> Result<SchemaRef> {
        match self.runs() {
            0 => self.prepared.schema(session).await,
            _ => self.at(0)?.schema(session).await,
        }
    }

    /// The statement with one row of values.
    fn at(&self, row: usize) -> Result<Prepared> {
        let Some(values) = &self.values else { return Ok(self.prepared.clone()) };
        let value = |(at, wanted): (usize, &Option<DataType>)| {
            let value = ScalarValue::try_from_array(values.column(at), row)?;
            match wanted {
                Some(wanted) if *wanted != value.data_type() => value.cast_to(wanted).map_err(|e| {
                    let what = format!("the value of ${} is not {wanted}: {}", at + 1, e.strip_backtrace());
                    SinewError::Request { what, hint: "bind another, or CAST the parameter".into() }
                }),
                _ => Ok(value),
            }
        };
        let values = self.parameters.iter().enumerate().map(value).collect::<Result<Vec<_>>>()?;
        self.prepared.bind(values)
    }

    /// All rows of values in one statement, for `INSERT INTO t VALUES (?, ?)`: one write rather than many.
    fn in_one(&self) -> Result<Option<Prepared>> {
        let is_insert = match &self.prepared {
            Prepared::Plan(LogicalPlan::Dml(dml), _) => matches!(dml.op, WriteOp::Insert(InsertOp::Append)),
            _ => false,
        };
        if !is_insert || self.runs() < 2 {
            return Ok(None);
        }
        let (mut rows, mut schema) = (Vec::new(), None);
        for row in 0..self.runs() {
            let Prepared::Plan(plan, _) = self.at(row)? else { return Ok(None) };
            let Some(values) = only_values(&plan)? else { return Ok(None) };
            // A type that only the value gives may differ from row to row.
            if schema.get_or_insert_with(|| Arc::clone(&values.schema)).fields() != values.schema.fields() {
                return Ok(None);
            }
            rows.extend(values.values);
        }
        let Prepared::Plan(first, text) = self.at(0)? else { return Ok(None) };
        let all = first.transform_down(|node| match node {
            LogicalPlan::Values(Values { schema, .. }) => {
                Ok(Transformed::yes(LogicalPlan::Values(Values { schema, values: std::mem::take(&mut rows) })))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(Some(Prepared::Plan(all.data, text)))
    }

    /// Runs a query so that its result stays where it was made; `None`, and nothing was run, where there is no such
    /// place.
    pub async fn place(&self, session: &Session) -> Result<Option<Arc<dyn Placed>>> {
        if self.runs() != 1 {
            return Ok(None);
        }
        match self.at(0)? {
            Prepared::Query(plan) => guarded(plain::place(session, plan)).await,
            _ => Ok(None),
        }
    }

    /// Starts the statement; with more than one row of values, once for each, one after another.
    pub async fn start(self, session: &Session) -> Result<Execution> {
        if self.runs() == 0 {
            return Ok(Execution::done());
        }
        if let Some(all) = self.in_one()? {
            return guarded(all.start(session)).await;
        }
        let first = guarded(async { self.at(0)?.start(session).await }).await?;
        if self.runs() == 1 {
            return Ok(first);
        }
        let (kind, schema, session) = (first.kind(), first.schema(), session.clone());
        let rest = futures::stream::iter(1..self.runs()).then(move |row| {
            let (bound, session) = (self.clone(), session.clone());
            async move { guarded(async { bound.at(row)?.start(&session).await }).await }
        });
        let rows = first.chain(rest.try_flatten());
        // What a definition does it does when it starts, so all of them start before this is done.
        if kind == ExecutionKind::Done {
            rows.try_collect::<Vec<_>>().await?;
            return Ok(Execution::done());
        }
        Ok(Execution::new(kind, schema, rows.boxed()))
    }
}

/// The values of a plan that reads nothing else.
fn only_values(plan: &LogicalPlan) -> Result<Option<Values>> {
    let (mut found, mut leaves) = (None, 0);
    plan.apply_with_subqueries(|node| {
        leaves += usize::from(node.inputs().is_empty());
        if let LogicalPlan::Values(values) = node {
            found = Some(values.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found.filter(|_| leaves == 1))
}

/// The text with `$1`, `$2` and so on in place of each `?`; the engine knows no other names for parameters.
///
/// # Errors
/// When the text has both forms, or a name.
pub(crate) fn numbered(text: &str) -> Result<String> {
    use datafusion::sql::sqlparser::tokenizer::Token;
    let (tokens, _) = tokens(text);
    let (mut out, mut copied, mut count, mut named) = (String::new(), 0, 0, None);
    let mut offsets = Offsets::new(text);
    for token in &tokens {
        let Token::Placeholder(name) = &token.token else { continue };
        if name != "?" {
            named.get_or_insert_with(|| name.clone());
            continue;
        }
        let (from, to) = (offsets.of(token.span.start), offsets.of(token.span.end));
        count += 1;
        out += &text[copied..from];
        out += &format!("${count}");
        copied = to;
    }
    match named {
        Some(name) if count > 0 => Err(SinewError::Request {
            what: format!("the statement has parameters written as ? and as {name}"),
            hint: "write all of them in one way".into(),
        }),
        _ => Ok(out + &text[copied..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_are_numbered_outside_of_quotes() {
        let text = "SELECT '?' AS \"?\", ? -- ?\n, é, ? /* ? */ WHERE a = ?";
        let expected = "SELECT '?' AS \"?\", $1 -- ?\n, é, $2 /* ? */ WHERE a = $3";
        assert_eq!(numbered(text).ok().as_deref(), Some(expected));
        assert_eq!(numbered("SELECT $2, $10").ok().as_deref(), Some("SELECT $2, $10"));
        assert!(numbered("SELECT $1, ?").is_err());
        assert_eq!(numbered("SELECT 'open ?").ok().as_deref(), Some("SELECT 'open ?"));
    }
}
