//! Evaluations of a model in training on held-out data.

use tuwen::{Embeddings, ImageFeatures, LinearClassifier, Picture};
use tuwen_data::dataset;
use tuwen_eval::{Classes, Encoded, Encoder, EvalError, Metrics, encode, metrics, suites};
use tuwen_models::clip::{Clip, ClipConfig};
use tuwen_nn::Pass;
use tuwen_tensor::{Tensor, no_grad, ops};

use crate::data::Preparation;
use crate::recipe::{Eval, EvalKind};
use crate::{Recipe, TrainError};

/// The towers of a model in training, as a benchmark knows them.
pub(crate) struct Towers<'a> {
    pub clip: &'a Clip,
    pub config: &'a ClipConfig,
    pub preparation: &'a Preparation,
    /// What images are described by.
    pub features: ImageFeatures,
}

impl Encoder for Towers<'_> {
    type Image = Vec<f32>;

    fn dim(&self) -> usize {
        self.config.image_feature_dim(self.features)
    }

    fn prepare(&self, image: &Picture) -> Vec<f32> {
        let transform = &self.preparation.processor.transform;
        transform.pixel_values(&transform.apply(image))
    }

    fn images(&self, images: &[Vec<f32>]) -> Embeddings {
        let size = self.preparation.image_size;
        let pixel_values = Tensor::new(&images.concat(), &[images.len(), 3, size, size]);
        let pass = Pass::eval();
        let vectors = no_grad(|| self.clip.image_features_as(self.features, &pixel_values, &pass));
        Embeddings::new(vectors.to_vec(), self.dim())
    }

    fn texts(&self, texts: &[String]) -> Result<Embeddings, EvalError> {
        let tokens = self.preparation.tokens(texts).map_err(|error| EvalError::Model(error.to_string()))?;
        let features = no_grad(|| self.clip.text_features_by_length(&tokens, &Pass::eval()));
        Ok(Embeddings::new(ops::l2_normalize(&features).to_vec(), self.config.projection_dim))
    }
}

/// Makes one evaluation of a recipe; `head` is what classifies where that is learnt.
pub(crate) fn run(
    towers: &Towers<'_>,
    head: Option<&LinearClassifier>,
    recipe: &Recipe,
    eval: &Eval,
) -> Result<Metrics, TrainError> {
    let dataset = dataset::open(&recipe.dataset(&eval.dataset()))?;
    let fail = |error: EvalError| TrainError::Eval { eval: eval.name(), reason: error.to_string() };
    let measure = || -> Result<Metrics, EvalError> {
        let encoded = encode(towers, dataset.as_ref(), &mut |_| ())?;
        let mut metrics = match (eval.kind, head) {
            (EvalKind::Retrieval, _) => suites::retrieval(towers, &encoded)?,
            (EvalKind::ZeroShot, _) => suites::zero_shot(towers, &encoded, &eval.templates)?,
            (_, Some(head)) => classification(head, &encoded)?,
            (_, None) => {
                return Err(EvalError::Setting("this objective has no such evaluation".into()));
            }
        };
        if !encoded.failed.is_empty() {
            metrics.insert("failed".into(), encoded.failed.len() as f64);
        }
        Ok(metrics)
    };
    measure().map_err(fail)
}

fn classification(head: &LinearClassifier, encoded: &Encoded) -> Result<Metrics, EvalError> {
    let classes = Classes::from_names(head.labels().to_vec());
    let labels = classes.places(&encoded.samples, &encoded.data)?;
    Ok(metrics::classification(&metrics::log_softmax(head.logits(&encoded.images)), &labels))
}
