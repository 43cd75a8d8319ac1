//! From columns to scores: the transform, then the family's kernel.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;

use crate::block::Block;
use crate::error::{MlError, Result};
use crate::family::Task;
use crate::fold::Kernel;
use crate::kernels::{Scores, Scoring, scores};
use crate::model::Model;
use crate::transform::Encoder;

/// A model made ready to score.
#[derive(Debug)]
pub struct Scorer {
    model: Arc<Model>,
    checksum: String,
    task: Task,
    encoder: Encoder,
    scoring: Arc<Scoring>,
    /// The classes in the label's type; nothing for other tasks.
    typed_classes: Option<ArrayRef>,
}

impl Scorer {
    /// Makes `model` ready to score.
    ///
    /// # Errors
    /// When this version has no such family, or the parts of the model do not fit each other.
    pub fn new(model: Arc<Model>) -> Result<Self> {
        let family = model.family()?;
        let layout = model.manifest.transform.layout();
        let kernel = family.scorer(&model.manifest.params, &layout, &model.weights)?;
        Self::with_kernel(model, family.task(), kernel)
    }

    /// Scores with a given kernel.
    pub(crate) fn with_kernel(model: Arc<Model>, task: Task, kernel: Kernel) -> Result<Self> {
        let transform = &model.manifest.transform;
        let layout = transform.layout();
        let classes = transform.label.as_ref().map_or(0, |label| label.classes.len());
        let label = transform.label.is_some();
        let width = layout.width();
        let fits = match (&kernel, task) {
            (Kernel::Linear { weights, .. }, Task::Regression) => weights.len() == width && label && classes == 0,
            (Kernel::Linear { weights, .. }, Task::Classification) => weights.len() == width && classes == 2,
            (Kernel::Softmax { intercepts, weights }, Task::Classification) => {
                intercepts.len() == classes && classes > 1 && weights.len() == classes * width
            }
            (Kernel::Network { network, .. }, Task::Regression) => network.outputs == 1 && label && classes == 0,
            (Kernel::Network { network, .. }, Task::Classification) => network.outputs == classes && classes > 1,
            (Kernel::Centroids { shift, scale, centers }, Task::Clustering) => {
                shift.len() == width
                    && scale.len() == width
                    && width > 0
                    && !centers.is_empty()
                    && centers.len() % width == 0
            }
            _ => false,
        };
        if !fits {
            return Err(MlError::Damaged {
                reason: format!(
                    "the weights of family {} do not fit {width} coordinates and {classes} classes",
                    model.manifest.family
                ),
            });
        }
        let encoder = Encoder::new(transform)?;
        let typed_classes = match (&transform.label, task) {
            (Some(label), Task::Classification) => {
                let data_type: DataType = label.data_type.parse().map_err(|_| MlError::Damaged {
                    reason: format!("the label's type '{}' is not a type", label.data_type),
                })?;
                let texts: ArrayRef = Arc::new(StringArray::from_iter_values(&label.classes));
                Some(cast(&texts, &data_type)?)
            }
            _ => None,
        };
        let checksum = model.checksum()?;
        let scoring = Arc::new(Scoring { kernel, layout });
        Ok(Self { model, checksum, task, encoder, scoring, typed_classes })
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What it predicts.
    pub fn task(&self) -> Task {
        self.task
    }

    /// How its columns become features.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The kernel that scores.
    pub fn kernel(&self) -> &Kernel {
        &self.scoring.kernel
    }

    /// The kernel with its layout, as devices take it.
    pub(crate) fn scoring(&self) -> &Arc<Scoring> {
        &self.scoring
    }

    /// The classes as text, in order; nothing for other tasks.
    pub fn classes(&self) -> &[String] {
        self.model.manifest.transform.label.as_ref().map_or(&[], |label| &label.classes)
    }

    /// The classes in the label's type.
    pub(super) fn typed_classes(&self) -> Result<&ArrayRef> {
        self.typed_classes.as_ref().ok_or_else(|| MlError::Internal("classes of a model without any".into()))
    }

    /// What tells this model from every other.
    pub(super) fn identity(&self) -> (&str, &str) {
        (&self.model.manifest.run, &self.checksum)
    }

    /// Some rows as kernels see them, and which of them count (`None`: all).
    ///
    /// # Errors
    /// As for [`Encoder::apply`].
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<(Block, Option<BooleanBuffer>)> {
        let prepared = self.encoder.apply(columns)?;
        Ok((Block::from_batch(&prepared.batch)?, prepared.valid))
    }

    /// Raw scores of some rows, and which of them count (`None`: all).
    ///
    /// # Errors
    /// As for [`Encoder::apply`].
    pub fn score(&self, columns: &[ArrayRef]) -> Result<(Scores, Option<BooleanBuffer>)> {
        let (block, valid) = self.encode(columns)?;
        Ok((scores(&self.scoring, &block)?, valid))
    }
}
