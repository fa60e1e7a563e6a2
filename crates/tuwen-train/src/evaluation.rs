//! Evaluations of a contrastive model on held-out data.

use std::collections::BTreeMap;

use tuwen_data::augment::Augment;
use tuwen_data::dataset::{self, DatasetSpec, Sample};
use tuwen_data::image::{Normalizer, decode_rgb};
use tuwen_data::rng::Rng;

use crate::contrastive::Contrastive;
use crate::data::colours;
use crate::evaluate::{Embeddings, ensemble, retrieval, zero_shot};
use crate::recipe::{Eval, EvalKind};
use crate::{Metrics, Recipe, TrainError};

/// Images that are decoded before they are embedded.
const CHUNK: usize = 256;

/// Makes one evaluation of a recipe.
pub(crate) fn run(model: &Contrastive, recipe: &Recipe, eval: &Eval) -> Result<Metrics, TrainError> {
    let mut spec = DatasetSpec::new(recipe.resolve(&eval.path));
    spec.limit = eval.limit;
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
            let prompts: Vec<String> = classes
                .values()
                .flat_map(|class| {
                    eval.templates.iter().map(|template| template.replace("{}", &spoken(class)))
                })
                .collect();
            let order: BTreeMap<i64, usize> = classes.keys().copied().zip(0..).collect();
            let labels: Vec<usize> = labelled.iter().map(|(label, _)| order[label]).collect();
            zero_shot(&images, &ensemble(&model.embed_texts(&prompts)?, eval.templates.len()), &labels)
        }
    };
    if failed > 0 {
        metrics.insert("failed".into(), failed as f64);
    }
    Ok(metrics)
}

fn spoken(class: &str) -> String {
    class.replace('_', " ")
}

/// Embeds the images of a data set; samples whose image cannot be read are left out and counted.
fn embed(model: &Contrastive, spec: &DatasetSpec) -> Result<(Embeddings, Vec<Sample>, usize), TrainError> {
    let dataset = dataset::open(spec)?;
    let size = model.preparation().image_size;
    let (mean, std) = colours();
    let normalizer = Normalizer::new(mean, std);
    let (mut samples, mut failed) = (Vec::new(), 0);
    let mut images = Embeddings::default();
    for start in (0..dataset.len()).step_by(CHUNK) {
        let mut pixel_values = Vec::new();
        for index in start..dataset.len().min(start + CHUNK) {
            let read =
                dataset.get(index).ok().and_then(|sample| Some((decode_rgb(&sample.image).ok()?, sample)));
            let Some((image, sample)) = read else {
                failed += 1;
                continue;
            };
            let at = pixel_values.len();
            pixel_values.resize(at + 3 * size * size, 0.0);
            // Nothing is varied, so the random numbers are not asked for.
            Augment::default().image(&image, &normalizer, size, &mut Rng::new(&[]), &mut pixel_values[at..]);
            samples.push(Sample { image: Vec::new(), ..sample });
        }
        let embedded = model.embed_images(&pixel_values);
        images.dim = embedded.dim;
        images.values.extend(embedded.values);
    }
    Ok((images, samples, failed))
}
