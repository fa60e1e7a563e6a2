//! `embed --both`: vectors of images and texts that are looked at together.

use anyhow::anyhow;
use serde::Serialize;
use tuwen::{Ability, GroundedModel, Model, Picture, Pixels};
use tuwen_data::image::ImageError;
use tuwen_tensor::Tensor;

use super::{Embed, shown};
use crate::console::Console;
use crate::failure::Failure;
use crate::models::{model_failure, warn_of_cut};
use crate::pipeline::{Work, each_batch};

/// What encodes images for texts beside them.
#[derive(Clone, Copy)]
struct Look<'m>(&'m GroundedModel);

impl Work for Look<'_> {
    type Output = Tensor;

    fn decode(&self, bytes: &[u8]) -> Result<Picture, ImageError> {
        Picture::decode_for(bytes, self.0.transform())
    }

    fn prepare(&self, image: &Picture) -> Pixels {
        self.0.prepare(image)
    }

    fn batch_size(&self) -> usize {
        GroundedModel::IMAGE_BATCH
    }

    fn compute(&self, images: &[Pixels]) -> Tensor {
        self.0.image_states(images)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    input: &'a str,
    text: &'a str,
    kind: &'static str,
    embedding: &'a [f32],
}

impl Embed {
    /// Prints a vector of every image with every text, and returns how many images failed.
    pub(super) fn both(&self, model: &Model, console: &Console) -> Result<usize, Failure> {
        model.require(Ability::EmbedBoth).map_err(model_failure)?;
        let grounded = model.grounded().ok_or_else(|| anyhow!("what embeds both is a BLIP or ALBEF"))?;
        let texts = &self.texts.read(self.images.null)?;
        let (tokens, truncated) = grounded.tokens_beside_images(texts).map_err(model_failure)?;
        warn_of_cut(texts, &truncated, model, console);
        each_batch(&self.images, Look(grounded), console, |batch| {
            let vectors = grounded.embed_both(&batch.computed, &tokens, !self.raw);
            let pairs = batch.good().flat_map(|record| texts.iter().map(move |text| (record, text)));
            pairs.zip(vectors.rows()).try_for_each(|((record, text), embedding)| {
                if console.json {
                    let line = Line { input: &record.input, text, kind: "both", embedding };
                    return console.print(serde_json::to_string(&line)?);
                }
                console.print(format_args!("{} with \"{text}\": {}", record.input, shown(embedding)))
            })
        })
    }
}
