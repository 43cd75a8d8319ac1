//! The metrics of a model over some rows, as an aggregate.
//!
//! Its state is the rows' scores (exact ranks and medians need them all): `[label, score, ..]` for each
//! row, or `[index of the nearest centre, squared distance]` for clusterings, 16 bytes a row for most
//! models. The metrics do not depend on the order of rows, so states merge in any order.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, LargeListArray, StructArray};
use datafusion::arrow::buffer::{BooleanBuffer, OffsetBuffer};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, UInt32Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::score::Scorer;
use super::{Called, ModelFunction, output};
use crate::error::{MlError, Result};
use crate::family::Task;
use crate::kernels::Scores;
use crate::metrics;
use crate::model::Model;

/// The aggregate of one model.
#[derive(Debug)]
pub(super) struct Evaluate {
    called: Called,
    scorer: Arc<Scorer>,
    name: String,
    signature: Signature,
    threshold: f64,
}

impl Evaluate {
    /// # Errors
    /// When the options do not suit the model.
    pub fn new(called: Called, scorer: Arc<Scorer>) -> Result<Self> {
        let spec = &called.function;
        if !matches!(spec, ModelFunction::Evaluate { .. } | ModelFunction::EvaluateScores { .. }) {
            return Err(MlError::Internal(format!("{} is no aggregate", spec.kind())));
        }
        Ok(Self {
            name: called.name(&scorer),
            signature: Signature::variadic_any(Volatility::Immutable),
            threshold: spec.threshold(&scorer)?,
            called,
            scorer,
        })
    }

    pub fn called(&self) -> &Called {
        &self.called
    }

    /// Whether rows come with their scores.
    fn scored(&self) -> bool {
        matches!(self.called.function, ModelFunction::EvaluateScores { .. })
    }

    pub fn model(&self) -> &Arc<Model> {
        self.scorer.model()
    }

    fn fields(&self) -> Fields {
        metrics::names(self.scorer.task()).iter().map(|name| Field::new(*name, DataType::Float64, true)).collect()
    }
}

impl PartialEq for Evaluate {
    fn eq(&self, other: &Self) -> bool {
        self.called == other.called && self.scorer.identity() == other.scorer.identity()
    }
}

impl Eq for Evaluate {}

impl Hash for Evaluate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.scorer.identity().hash(state);
    }
}

impl AggregateUDFImpl for Evaluate {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let features = match (self.scorer.task(), arg_types) {
            (Task::Clustering, features) => features,
            (_, [label, features @ ..]) => {
                self.scorer.encoder().check_label(label)?;
                features
            }
            (_, []) => return Err(MlError::Mismatch { reason: "evaluate needs the label column".into() }.into()),
        };
        if self.scored() {
            let expected = output::scores_type(&self.scorer);
            if features != [expected.clone()] {
                return Err(MlError::Mismatch { reason: format!("scores of this model are {expected}") }.into());
            }
        } else {
            self.scorer.encoder().check(features)?;
        }
        Ok(DataType::Struct(self.fields()))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(Rows {
            scorer: Arc::clone(&self.scorer),
            scored: self.scored(),
            threshold: self.threshold,
            fields: self.fields(),
            values: vec![],
        }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[rows]", args.name), state_type(), true))])
    }
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Float64, true))
}

fn state_type() -> DataType {
    DataType::LargeList(item())
}

/// The scores seen so far.
#[derive(Debug)]
struct Rows {
    scorer: Arc<Scorer>,
    /// Whether rows come with their scores.
    scored: bool,
    threshold: f64,
    fields: Fields,
    /// [`Rows::stride`] values for each row.
    values: Vec<f64>,
}

impl Rows {
    /// How many values a row has.
    fn stride(&self) -> usize {
        1 + metrics::width(self.scorer.kernel())
    }

    /// The scores of some rows, and which of them count.
    fn scores(&self, features: &[ArrayRef]) -> Result<(Scores, Option<BooleanBuffer>)> {
        match features.first().and_then(|list| list.as_fixed_size_list_opt()) {
            Some(lists) if self.scored => output::of_lists(lists),
            _ => self.scorer.score(features),
        }
    }

    fn update(&mut self, columns: &[ArrayRef]) -> Result<()> {
        if self.scorer.task() == Task::Clustering {
            let (scores, valid) = self.scores(columns)?;
            for (row, (centre, squared)) in metrics::nearest(&scores).into_iter().enumerate() {
                if valid.as_ref().is_none_or(|v| v.value(row)) {
                    self.values.extend([centre as f64, squared]);
                }
            }
            return Ok(());
        }
        let [label, features @ ..] = columns else {
            return Err(MlError::Internal("evaluate without a label".into()));
        };
        let (label, known) = self.scorer.encoder().encode_label(label)?;
        let (scores, valid) = self.scores(features)?;
        let label: Vec<f64> = match label.as_primitive_opt::<UInt32Type>() {
            Some(classes) => classes.values().iter().map(|&class| f64::from(class)).collect(),
            None => label.as_primitive::<Float64Type>().values().to_vec(),
        };
        self.values.reserve(label.len() * self.stride());
        for (row, label) in label.into_iter().enumerate() {
            if known.as_ref().is_none_or(|v| v.value(row)) && valid.as_ref().is_none_or(|v| v.value(row)) {
                self.values.push(label);
                self.values.extend(scores.iter().map(|score| score[row]));
            }
        }
        Ok(())
    }
}

impl Accumulator for Rows {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        Ok(self.update(values)?)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let classes = self.scorer.classes().len();
        let results = metrics::of_rows(self.scorer.kernel(), classes, &self.values, self.threshold);
        let columns = results.into_iter().map(|(_, value)| Arc::new(Float64Array::from(vec![value])) as ArrayRef);
        Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(self.fields.clone(), columns.collect(), None)?)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        let values = Float64Array::from(std::mem::take(&mut self.values));
        let offsets = OffsetBuffer::from_lengths([values.len()]);
        let list = LargeListArray::try_new(item(), offsets, Arc::new(values), None)?;
        Ok(vec![ScalarValue::LargeList(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        for state in states.iter().flat_map(|states| states.as_list::<i64>().iter()).flatten() {
            let state: &Float64Array = state.as_primitive();
            if !state.len().is_multiple_of(self.stride()) {
                return Err(MlError::Internal("merged metrics of two different models".into()).into());
            }
            self.values.extend_from_slice(state.values());
        }
        Ok(())
    }
}
