//! Evaluations of a contrastive model on held-out data.

use std::collections::BTreeMap;

use tuwen::{Embeddings, Picture, templates};
use tuwen_data::dataset::{self, DatasetSpec, Sample};

use crate::contrastive::Contrastive;
use crate::evaluate::{ensemble, retrieval, zero_shot};
use crate::recipe::{Eval, EvalKind};
use crate::{Metrics, Recipe, TrainError};

/// Images that are decoded before they are embedded.
const CHUNK: usize = 256;

/// Makes one evaluation of a recipe.
pub(crate) fn run(model: &Contrastive, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
    let spec = recipe.dataset(&DatasetSpec { limit: eval.limit, ..DatasetSpec::new(&eval.path) });
    let (images, samples, failed) = embed(model, &spec)?;
    let fail = |reason: &str| TrainError::Eval { eval: eval.name(), reason: reason.to_owned() };
    if samples.is_empty() {
        return Err(fail("no image can be read"));
    }
    let mut metrics = match eval.kind {
        EvalKind::Retrieval => {
            let texts: Vec<String> = samples.iter().flat_map(|sample| sample.texts.clone()).collect();
            if texts.is_empty() {
                return Err(fail("retrieval needs captions, and there are none"));
            }
            let of_image = |(image, sample): (usize, &Sample)| vec![image; sample.texts.len()];
            let image_of_text: Vec<usize> = samples.iter().enumerate().flat_map(of_image).collect();
            retrieval(&images, &model.embed_texts(&texts)?, &image_of_text)
        }
        EvalKind::ZeroShot => {
            let named = |sample: &Sample| Some((sample.label?, sample.class_name.clone()?));
            let labelled: Option<Vec<(i64, String)>> = samples.iter().map(named).collect();
            let labelled =
                labelled.ok_or_else(|| fail("zero-shot needs a label and a class name in each sample"))?;
            let classes: BTreeMap<i64, String> = labelled.iter().cloned().collect();
            let names: Vec<String> = classes.values().map(|class| class.replace('_', " ")).collect();
            let prompts =
                templates::fill(&names, &eval.templates).map_err(|error| fail(&error.to_string()))?;
            let order: BTreeMap<i64, usize> = classes.keys().copied().zip(0..).collect();
            let labels: Vec<usize> = labelled.iter().map(|(label, _)| order[label]).collect();
            zero_shot(&images, &ensemble(model.embed_texts(&prompts)?, eval.templates.len()), &labels)
        }
    };
    if failed > 0 {
        metrics.insert("failed".into(), failed as f64);
    }
    Ok(metrics)
}

/// Embeds the images of a data set; samples whose image cannot be read are left out and counted.
fn embed(model: &Contrastive, spec: &DatasetSpec) -> Result<(Embeddings, Vec<Sample>, usize), TrainError> {
    let dataset = dataset::open(spec)?;
    let transform = &model.preparation().processor.transform;
    let (mut samples, mut failed, mut vectors) = (Vec::new(), 0, Vec::new());
    for start in (0..dataset.len()).step_by(CHUNK) {
        let mut pixel_values = Vec::new();
        for index in start..dataset.len().min(start + CHUNK) {
            let read = || {
                let sample = dataset.get(index).ok()?;
                Some((Picture::decode(&sample.image).ok()?, sample))
            };
            let Some((picture, sample)) = read() else {
                failed += 1;
                continue;
            };
            pixel_values.extend(transform.pixel_values(&transform.apply(&picture)));
            samples.push(Sample { image: Vec::new(), ..sample });
        }
        vectors.extend(model.embed_images(&pixel_values));
    }
    Ok((Embeddings::new(vectors, model.dim()), samples, failed))
}
