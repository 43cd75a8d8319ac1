//! A training over a DataFrame: described, started, followed, and what it ends with.

use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::dataframe::DataFrame;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use sinew_ml::params::ParamValue;
use sinew_ml::split::SplitSpec;
use sinew_sql::ast::{literal, split_clause};
use sinew_sql::name::quote;

use super::learn::Metrics;
use super::relations::Given;
use crate::error::{Result, SinewError};
use crate::session::{Execution, Session};

/// A training that was described and not started; awaiting it runs it to its end.
#[derive(Clone, Debug)]
#[must_use = "a training runs when it is awaited or started"]
pub struct Train {
    frame: DataFrame,
    model: String,
    clauses: Vec<String>,
    options: Vec<String>,
}

impl Train {
    pub(super) fn new(frame: DataFrame, model: &str) -> Self {
        Self { frame, model: model.into(), clauses: Vec::new(), options: Vec::new() }
    }

    /// The family of models, such as `logistic_regression`; it must be given.
    pub fn using(self, family: &str) -> Self {
        self.clause(format!("USING {}", quote(family)))
    }

    /// The label; default: a column named `label`.
    pub fn predict(self, label: &str) -> Self {
        self.clause(format!("PREDICT {}", quote(label)))
    }

    /// The weight of each row: a column, or an expression in SQL.
    pub fn weight_by(self, expression: &str) -> Self {
        self.clause(format!("WEIGHT BY {expression}"))
    }

    /// Which rows are held out; default: [`SplitSpec::Auto`].
    pub fn split(self, split: &SplitSpec) -> Self {
        self.clause(split_clause(split))
    }

    /// An option of the family, such as `reg_param`.
    pub fn option(mut self, name: &str, value: impl Into<ParamValue>) -> Self {
        self.options.push(format!("{} = {}", quote(name), literal(&value.into())));
        self
    }

    fn clause(mut self, clause: String) -> Self {
        self.clauses.push(clause);
        self
    }

    /// Starts the training, to be followed. Dropping what this returns cancels it.
    ///
    /// # Errors
    /// When the family, an option or a column is not there, or the server cannot be reached.
    pub async fn start(self) -> Result<Training> {
        let given = Given::of(self.frame)?;
        let mut statement = format!("TRAIN MODEL {}", quote(&self.model));
        for clause in &self.clauses {
            statement += &format!(" {clause}");
        }
        if !self.options.is_empty() {
            statement += &format!(" OPTIONS ({})", self.options.join(", "));
        }
        statement += &format!(" FROM {}", given.name);
        let session = given.session.clone();
        let rows = given.run(&statement).await?;
        Ok(Training { session, rows, seen: Vec::new(), read: 0, last: Last { model: self.model, ..Last::default() } })
    }
}

impl IntoFuture for Train {
    type Output = Result<Trained>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move { self.start().await?.finish().await }.boxed()
    }
}

/// One step of a training.
#[derive(Clone, Debug, PartialEq)]
pub struct Iteration {
    /// Counted from 0.
    pub iteration: u64,
    /// The objective over the rows that train.
    pub loss: f64,
    /// The same over the rows held out, where there are some.
    pub eval_loss: Option<f64>,
    /// The length of the gradient, where there is one.
    pub gradient_norm: Option<f64>,
    /// Milliseconds since the step before.
    pub duration_ms: f64,
    /// Rows that train.
    pub rows: u64,
}

#[derive(Clone, Debug, Default)]
struct Last {
    model: String,
    version: Option<u64>,
    run: String,
}

/// A training that runs: a stream of its iterations, each when it is done. Dropping it cancels the training.
#[derive(Debug)]
pub struct Training {
    session: Session,
    rows: Execution,
    seen: Vec<Iteration>,
    read: usize,
    last: Last,
}

impl Training {
    /// Waits for the end.
    ///
    /// # Errors
    /// When the training fails; no model is published then.
    pub async fn finish(mut self) -> Result<Trained> {
        while let Some(iteration) = self.next().await {
            iteration?;
        }
        let Last { model, version, run } = self.last;
        let version = version.ok_or_else(|| SinewError::Internal("a training ended without a version".into()))?;
        let metrics = metrics(&self.session, &model, version).await?;
        let warnings = self.rows.warnings();
        Ok(Trained { model, version, run, iterations: self.seen, metrics, warnings })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let floats = |name| column(batch, name, &DataType::Float64);
        let integers = |name| column(batch, name, &DataType::Int64);
        let (iterations, rows, versions) = (integers("iteration")?, integers("rows")?, integers("version")?);
        let (loss, eval_loss) = (floats("loss")?, floats("eval_loss")?);
        let (gradient, duration) = (floats("gradient_norm")?, floats("duration_ms")?);
        let runs = column(batch, "run", &DataType::Utf8)?;
        let float =
            |array: &dyn Array, row| array.is_valid(row).then(|| array.as_primitive::<Float64Type>().value(row));
        let integer =
            |array: &dyn Array, row| array.is_valid(row).then(|| array.as_primitive::<Int64Type>().value(row));
        for row in 0..batch.num_rows() {
            self.seen.push(Iteration {
                iteration: integer(&iterations, row).unwrap_or_default() as u64,
                loss: float(&loss, row).unwrap_or(f64::NAN),
                eval_loss: float(&eval_loss, row),
                gradient_norm: float(&gradient, row),
                duration_ms: float(&duration, row).unwrap_or_default(),
                rows: integer(&rows, row).unwrap_or_default() as u64,
            });
            self.last.version = integer(&versions, row).map(|version| version as u64).or(self.last.version);
            if runs.is_valid(row) {
                self.last.run = runs.as_string::<i32>().value(row).to_string();
            }
        }
        Ok(())
    }
}

fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> Result<std::sync::Arc<dyn Array>> {
    let internal = |what: String| SinewError::Internal(what);
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| internal(format!("the report of a training has no column '{name}'")))?;
    cast(column, data_type).map_err(|e| internal(e.to_string()))
}

impl Stream for Training {
    type Item = Result<Iteration>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(iteration) = self.seen.get(self.read).cloned() {
                self.read += 1;
                return Poll::Ready(Some(Ok(iteration)));
            }
            match self.rows.poll_next_unpin(cx) {
                Poll::Ready(Some(batch)) => {
                    if let Err(error) = batch.and_then(|batch| self.add(&batch)) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// A model that was trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Its name.
    pub model: String,
    /// The version that this training added.
    pub version: u64,
    /// The run that made it.
    pub run: String,
    /// Its iterations, all of them.
    pub iterations: Vec<Iteration>,
    /// How well it does on the rows held out; empty where there were none.
    pub metrics: Metrics,
    /// What the training warns of, such as that it has not converged.
    pub warnings: Vec<String>,
}

/// The metrics of a version, as they were recorded when it was trained.
async fn metrics(session: &Session, model: &str, version: u64) -> Result<Metrics> {
    let described = session.sql(&format!("DESCRIBE MODEL {}@{version}", quote(model))).collect().await?;
    let mut metrics = Metrics::new();
    for batch in &described {
        let (properties, values) =
            (column(batch, "property", &DataType::Utf8)?, column(batch, "value", &DataType::Utf8)?);
        let (properties, values) = (properties.as_string::<i32>(), values.as_string::<i32>());
        for (property, value) in properties.iter().zip(values) {
            let metric = property.and_then(|property| property.strip_prefix("metric "));
            if let (Some(metric), Some(value)) = (metric, value.and_then(|value| value.parse().ok())) {
                metrics.insert(metric.to_string(), value);
            }
        }
    }
    Ok(metrics)
}
