//! Several functions of one model over the same columns: rows are encoded and scored once for all of them.

use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::ScalarUDF;

use super::Called;
use super::scalar::ScalarFunction;
use super::score::Scorer;
use crate::block::Block;
use crate::error::{MlError, Result};
use crate::kernels::{Scores, Scoring};
use crate::model::Model;

/// Functions of one model.
#[derive(Debug)]
pub struct Prediction {
    scorer: Arc<Scorer>,
    functions: Vec<ScalarFunction>,
}

impl Prediction {
    /// These functions of `model`.
    ///
    /// # Errors
    /// When the options of one do not suit the model, or it is an aggregate.
    pub fn new(model: &Arc<Model>, functions: &[Called]) -> Result<Self> {
        Self::over(Arc::new(Scorer::new(Arc::clone(model))?), functions)
    }

    /// The functions that `calls` are, which are all of one model.
    ///
    /// # Errors
    /// When they are none of ours, or of several models.
    pub fn of(calls: &[Arc<ScalarUDF>]) -> Result<Self> {
        let odd = || MlError::Internal("these are no functions of one model".into());
        let ours = |udf: &Arc<ScalarUDF>| udf.inner().downcast_ref::<ScalarFunction>().cloned();
        let functions = calls.iter().map(ours).collect::<Option<Vec<_>>>().ok_or_else(odd)?;
        let scorer = Arc::clone(functions.first().ok_or_else(odd)?.scorer());
        if functions.iter().any(|function| function.scorer().identity() != scorer.identity()) {
            return Err(odd());
        }
        Ok(Self { scorer, functions })
    }

    fn over(scorer: Arc<Scorer>, functions: &[Called]) -> Result<Self> {
        let function = |called: &Called| ScalarFunction::new(called.clone(), Arc::clone(&scorer));
        let functions = functions.iter().map(function).collect::<Result<_>>()?;
        Ok(Self { scorer, functions })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        self.scorer.model()
    }

    /// The functions, in order.
    pub fn functions(&self) -> impl Iterator<Item = &Called> {
        self.functions.iter().map(ScalarFunction::called)
    }

    /// The types of their results.
    pub fn types(&self) -> impl Iterator<Item = &DataType> {
        self.functions.iter().map(ScalarFunction::data_type)
    }

    /// What scores rows.
    pub fn scoring(&self) -> &Arc<Scoring> {
        self.scorer.scoring()
    }

    /// Some rows as kernels see them, and which of them count (`None`: all).
    ///
    /// # Errors
    /// When the columns are not those of the model.
    pub fn encode(&self, columns: &[ArrayRef]) -> Result<(Block, Option<BooleanBuffer>)> {
        self.scorer.encode(columns)
    }

    /// The results of all functions for rows with these scores; NULL in those that do not count.
    ///
    /// # Errors
    /// When the results of a batch are too large for Arrow's lists.
    pub fn results(&self, scores: &Scores, valid: Option<&BooleanBuffer>) -> Result<Vec<ArrayRef>> {
        self.functions.iter().map(|function| function.results(scores, valid)).collect()
    }
}
