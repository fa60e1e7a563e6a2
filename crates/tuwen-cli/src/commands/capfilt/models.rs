//! BLIP as a captioner and as a filter; CLIP as a filter by cosines.

use std::collections::HashSet;

use clap::Args;
use serde_json::{Value, json};
use tuwen::{
    Ability, Captioner, Embeddings, Model, Opened, PairScore, PairScorer, Pixels, Texts, Truncated,
    WritingOptions,
};
use tuwen_data::image::{RgbImage, Transform};
use tuwen_jobs::capfilt::ModelId;
use tuwen_jobs::{self as jobs, Caption, Heads, ImageEncoder, ModelError, Scores};
use tuwen_tensor::Tensor;

use crate::arguments::Global;
use crate::console::Console;
use crate::failure::Failure;
use crate::models::model_failure;

/// How captions are written.
#[derive(Args)]
pub(super) struct Writing {
    /// Captions for each image; 0 only filters the texts that there are
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(0..=64))]
    pub captions: u16,
    /// Draw words from the most probable ones that are so probable together
    #[arg(long, value_name = "P", default_value = "0.9", conflicts_with = "beams", value_parser = share)]
    top_p: f32,
    /// Search with so many beams, instead of drawing words
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    beams: Option<u16>,
    /// Fewest tokens of a caption, the prompt included [default: the model's]
    #[arg(long, value_name = "N")]
    min_length: Option<u16>,
    /// Most tokens of a caption, the prompt included [default: the model's]
    #[arg(long, value_name = "N")]
    max_length: Option<u16>,
    /// What captions begin with [default: the model's]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
}

/// A model that looks at images.
pub(super) struct Beholder {
    model: Model,
    id: ModelId,
    /// What tells its image encoder and its preparation of images from others.
    sight: String,
}

/// What a model saw in images.
pub(super) enum Seen {
    /// States of all tokens: BLIP and ALBEF.
    States(Tensor),
    /// Vectors of unit length: CLIP.
    Vectors(Embeddings),
}

impl Beholder {
    pub(super) fn open(name: &str, global: &Global, console: &Console) -> Result<Self, Failure> {
        global.fetch(name, console)?;
        let open = || {
            let files = Opened::open(name, &global.options())?;
            let sight = match &files {
                Opened::Grounded(files) => files.vision_fingerprint()?,
                Opened::Clip(files) => files.name.clone(),
            };
            let model = Model::of(files)?;
            let (fingerprint, precision) = (model.fingerprint(), model.precision().to_string());
            let id = ModelId { name: name.to_owned(), fingerprint, precision };
            Ok(Self { model, id, sight })
        };
        let opened = open().map_err(model_failure)?;
        for note in opened.model.notes() {
            console.note(format_args!("note: {note}"));
        }
        Ok(opened)
    }

    pub(super) fn name(&self) -> &str {
        &self.id.name
    }

    pub(super) fn id(&self) -> ModelId {
        self.id.clone()
    }

    /// Whether both see the same in an image: the same weights and the same preparation.
    pub(super) fn sees_as(&self, other: &Self) -> bool {
        self.sight == other.sight
    }

    /// The model as a filter by these heads.
    pub(super) fn judge(&self, heads: Heads) -> Result<Judge<'_>, Failure> {
        let able = || {
            if heads.itc {
                self.model.require(Ability::Compare)?;
            }
            match self.model.grounded() {
                None if !heads.itm => Ok(None),
                _ => self.model.pair_scorer().map(Some),
            }
        };
        let hint = "a BLIP made for retrieval has both heads; CLIP filters by --itc alone";
        let scorer = able().map_err(|error| model_failure(error).hint(hint))?;
        Ok(Judge { model: &self.model, scorer })
    }

    /// The model as a captioner.
    pub(super) fn author(&self, writing: &Writing, seed: u64) -> Result<Author<'_>, Failure> {
        let captioner = self.model.captioner().map_err(model_failure)?;
        let options = writing.options(&captioner, seed);
        Ok(Author { model: &self.model, captioner, options })
    }
}

/// What a model sees in prepared images.
fn look(model: &Model, images: &[RgbImage]) -> Seen {
    let pixels: Vec<Pixels> = images.iter().cloned().map(Pixels::from).collect();
    match model.grounded() {
        Some(model) => Seen::States(model.image_states(&pixels)),
        None => Seen::Vectors(model.embedder().pixels(&pixels)),
    }
}

impl Writing {
    fn options(&self, captioner: &Captioner<'_>, seed: u64) -> WritingOptions {
        let mut options = match self.beams {
            None => captioner.nucleus(self.top_p, seed),
            Some(beams) => {
                let mut options = captioner.options();
                options.generation.num_beams = usize::from(beams);
                options
            }
        };
        let generation = &mut options.generation;
        generation.num_return_sequences = usize::from(self.captions);
        if let Some(length) = self.min_length {
            generation.min_length = usize::from(length);
        }
        if let Some(length) = self.max_length {
            generation.max_length = Some(usize::from(length));
            generation.max_new_tokens = None;
        }
        if let Some(prompt) = &self.prompt {
            options.prompt.clone_from(prompt);
        }
        options
    }
}

/// A captioner.
pub(super) struct Author<'m> {
    model: &'m Model,
    captioner: Captioner<'m>,
    options: WritingOptions,
}

impl Author<'_> {
    /// What decides its captions beside the seed.
    pub(super) fn settings(&self) -> Value {
        let WritingOptions { generation, prompt, .. } = &self.options;
        let mut settings = json!({
            "captions": generation.num_return_sequences,
            "beams": generation.num_beams,
            "top_p": generation.do_sample.then(|| digits(generation.top_p)),
            "top_k": generation.do_sample.then_some(generation.top_k),
            "repetition_penalty": digits(generation.repetition_penalty),
            "min_length": generation.min_length,
            "max_length": generation.max_length,
            "prompt": prompt,
        });
        let said = self.captioner.defaults().as_json();
        if !said.is_empty() {
            settings["generation_config"] = said.clone().into();
        }
        settings
    }
}

impl ImageEncoder for Author<'_> {
    type Features = Seen;

    fn transform(&self) -> &Transform {
        self.model.transform()
    }

    fn encode(&self, images: &[RgbImage]) -> Result<Seen, ModelError> {
        Ok(look(self.model, images))
    }
}

impl jobs::Captioner for Author<'_> {
    fn captions(&self, images: &Seen, seeds: &[u64]) -> Result<Vec<Vec<Caption>>, ModelError> {
        let Seen::States(states) = images else { return Err("vectors are not enough to write about".into()) };
        let seen = self.captioner.seen(states.clone(), seeds.to_vec());
        let written = self.captioner.write(&seen, &self.options)?;
        let caption =
            |written: tuwen::Written| Caption { text: written.text, score: written.generated.score };
        Ok(written.into_iter().map(|texts| texts.into_iter().map(caption).collect()).collect())
    }
}

/// A filter.
pub(super) struct Judge<'m> {
    model: &'m Model,
    /// What scores pairs where the model has a head that saw both.
    scorer: Option<PairScorer<'m>>,
}

impl Judge<'_> {
    /// Cosines of texts with their images.
    fn cosines(&self, images: &Seen, texts: &[Vec<String>]) -> Result<Vec<Vec<Scores>>, ModelError> {
        let encoded = match (images, &self.scorer) {
            (Seen::Vectors(vectors), _) => vectors.clone(),
            (Seen::States(states), Some(scorer)) => scorer.encoded(states.clone()).embeddings().clone(),
            (Seen::States(_), None) => return Err("nothing turns states into vectors".into()),
        };
        let flat: Vec<&String> = texts.iter().flatten().collect();
        if flat.is_empty() {
            return Ok(vec![Vec::new(); texts.len()]);
        }
        let Texts { embeddings, truncated } = self.model.embed_texts(&flat)?;
        let cut = cut(flat.len(), &truncated);
        let mut rows = embeddings.rows().zip(cut);
        let mut score = |image: &[f32]| {
            let (text, cut) = rows.next().unwrap_or_default();
            Scores { itm: None, itc: Some(image.iter().zip(text).map(|(a, b)| a * b).sum()), cut }
        };
        let of_image = |(image, texts): (&[f32], &Vec<String>)| texts.iter().map(|_| score(image)).collect();
        Ok(encoded.rows().zip(texts).map(of_image).collect())
    }
}

impl ImageEncoder for Judge<'_> {
    type Features = Seen;

    fn transform(&self) -> &Transform {
        self.model.transform()
    }

    fn encode(&self, images: &[RgbImage]) -> Result<Seen, ModelError> {
        Ok(look(self.model, images))
    }
}

impl jobs::Filter for Judge<'_> {
    fn scores(
        &self,
        images: &Seen,
        texts: &[Vec<String>],
        heads: Heads,
    ) -> Result<Vec<Vec<Scores>>, ModelError> {
        let (Seen::States(states), Some(scorer), true) = (images, &self.scorer, heads.itm) else {
            return self.cosines(images, texts);
        };
        let scored = scorer.score(&scorer.encoded(states.clone()), texts)?;
        let mut cut = cut(texts.iter().map(Vec::len).sum(), &scored.truncated).into_iter();
        let mut scores = |score: PairScore| Scores {
            itm: Some(score.itm),
            itc: heads.itc.then_some(score.similarity),
            cut: cut.next().unwrap_or_default(),
        };
        let of_image = |texts: Vec<PairScore>| texts.into_iter().map(&mut scores).collect();
        Ok(scored.scores.into_iter().map(of_image).collect())
    }
}

/// Which of so many texts are among those that were cut.
fn cut(texts: usize, truncated: &[Truncated]) -> Vec<bool> {
    let cut: HashSet<usize> = truncated.iter().map(|cut| cut.text).collect();
    (0..texts).map(|text| cut.contains(&text)).collect()
}

/// A number with the digits that it was given with.
fn digits(number: f32) -> Value {
    number.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A probability that is more than nothing.
fn share(text: &str) -> Result<f32, String> {
    let number = text.parse::<f32>().ok().filter(|&number| number > 0.0 && number <= 1.0);
    number.ok_or_else(|| "expected a number above 0 and at most 1".to_owned())
}
