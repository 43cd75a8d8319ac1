//! The scalar functions of a model, as DataFusion sees them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::score::Scorer;
use super::{Called, ModelFunction, output};
use crate::error::{MlError, Result};
use crate::kernels::Scores;
use crate::model::Model;

/// One scalar function of one model.
#[derive(Clone, Debug)]
pub(super) struct ScalarFunction {
    called: Called,
    scorer: Arc<Scorer>,
    name: String,
    signature: Signature,
    return_type: DataType,
    threshold: f64,
    class: usize,
}

impl ScalarFunction {
    /// # Errors
    /// When the options do not suit the model.
    pub fn new(called: Called, scorer: Arc<Scorer>) -> Result<Self> {
        let spec = &called.function;
        let return_type = match spec {
            ModelFunction::Predict { .. } => output::struct_type(&scorer)?,
            ModelFunction::PredictLabel { .. } => output::label_type(&scorer)?,
            ModelFunction::PredictProba { .. } => DataType::Float64,
            ModelFunction::Scores => output::scores_type(&scorer),
            ModelFunction::Evaluate { .. } | ModelFunction::EvaluateScores { .. } => {
                return Err(MlError::Internal("evaluate is an aggregate".into()));
            }
        };
        Ok(Self {
            name: called.name(&scorer),
            signature: Signature::variadic_any(Volatility::Immutable),
            return_type,
            threshold: spec.threshold(&scorer)?,
            class: spec.class(&scorer)?,
            called,
            scorer,
        })
    }

    pub fn called(&self) -> &Called {
        &self.called
    }

    pub fn scorer(&self) -> &Arc<Scorer> {
        &self.scorer
    }

    pub fn data_type(&self) -> &DataType {
        &self.return_type
    }

    pub fn model(&self) -> &Arc<Model> {
        self.scorer.model()
    }

    /// The results for rows with these scores; NULL in those that do not count.
    pub fn results(&self, scores: &Scores, valid: Option<&BooleanBuffer>) -> Result<ArrayRef> {
        match self.called.function {
            ModelFunction::Predict { .. } => output::structs(&self.scorer, scores, self.threshold, valid),
            ModelFunction::PredictProba { .. } => output::probability(&self.scorer, scores, self.class, valid),
            ModelFunction::Scores => output::lists(&self.scorer, scores, valid),
            _ => output::labels(&self.scorer, scores, self.threshold, valid),
        }
    }
}

impl PartialEq for ScalarFunction {
    fn eq(&self, other: &Self) -> bool {
        self.called == other.called && self.scorer.identity() == other.scorer.identity()
    }
}

impl Eq for ScalarFunction {}

impl Hash for ScalarFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.scorer.identity().hash(state);
    }
}

impl ScalarUDFImpl for ScalarFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        self.scorer.encoder().check(arg_types)?;
        Ok(self.return_type.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns: Vec<ArrayRef> = args.args.iter().map(|arg| arg.to_array(rows)).collect::<DfResult<_>>()?;
        let (scores, valid) = self.scorer.score(&columns)?;
        let array = self.results(&scores, valid.as_ref())?;
        Ok(if constant {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }
}
