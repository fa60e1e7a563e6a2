//! BLIP and ALBEF: to see images, to begin captions, to go on with them.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use tuwen::generate::GenerationConfig;
use tuwen::{Captioner, GroundedConfig, GroundedModel, Model, Picture, Pixels, SeenImages, WritingOptions};
use tuwen_kernels::Precision;
use tuwen_models::TokenIds;
use tuwen_models::bert::{BertDecoder, DecoderCache, EncoderStates};
use tuwen_models::blip::Blip;
use tuwen_nn::{Pass, Scope};
use tuwen_tensor::{Tensor, no_grad};

use super::clock::Clock;
use super::line::Timed;
use super::roofline::Work;
use super::stage::Writing;
use super::towers::random_pixels;
use super::work::{flops, weight_bytes};
use crate::failure::Failure;

/// Tokens of a caption. Random weights may never end one: captions are exactly so long.
const TOKENS: usize = 20;

/// Runs before the measured ones.
const WARM_UP: usize = 2;

/// A model in memory, and its shapes.
pub struct Grounded {
    model: Model,
    counted: Option<Counted>,
    photograph: Pixels,
}

impl Grounded {
    /// Of a model in memory.
    pub fn new(
        model: Model,
        config: &GroundedConfig,
        photograph: &[u8],
        precision: Precision,
    ) -> Result<Self, Failure> {
        let counted = match config {
            GroundedConfig::Blip(config) => {
                let blip = Blip::new(config, Scope::count()).map_err(Failure::model)?;
                Some(Counted { blip, side: config.vision.image_size, precision })
            }
            GroundedConfig::Albef(_) => None,
        };
        let picture = Picture::decode(photograph).map_err(Failure::usage)?;
        let photograph = grounded(&model).prepare(&picture);
        Ok(Self { model, counted, photograph })
    }

    /// Measures the image encoder; pixels are random.
    pub fn images(&self, batch: usize, clock: Clock) -> Timed {
        let network = grounded(&self.model).network().vision_model();
        let pixels = random_pixels(batch, grounded(&self.model).config().vision().image_size);
        let pass = Pass::eval();
        let seconds = clock.median(|| no_grad(|| drop(black_box(network.tokens(&pixels, &pass)))));
        let work = self.counted.as_ref().map(|counted| counted.images(batch)).unwrap_or_default();
        Timed { batch, seconds, work, peak_memory: None }
    }

    /// Measures captions of one photograph many times: they differ in nothing that costs time.
    pub fn captions(&self, writing: Writing, batch: usize, clock: Clock) -> Result<Timed, Failure> {
        let captioner = self.model.captioner().map_err(Failure::model)?;
        let images = vec![self.photograph.clone(); batch];
        let write = |seen: &SeenImages, tokens| written(&captioner, seen, writing.beams, tokens);
        let seconds = if writing.first {
            clock.median_of(WARM_UP, || {
                let begin = Instant::now();
                write(&captioner.look(&images), 1)?;
                Ok(begin.elapsed())
            })
        } else {
            let seen = captioner.look(&images);
            clock.median_of(WARM_UP, || {
                let (one, all) = (write(&seen, 1)?, write(&seen, TOKENS)?);
                Ok(all.saturating_sub(one) / (TOKENS - 1) as u32)
            })
        }?;
        let work = self.counted.as_ref().map(|counted| counted.captions(writing, batch)).unwrap_or_default();
        Ok(Timed { batch, seconds, work, peak_memory: None })
    }
}

fn grounded(model: &Model) -> &GroundedModel {
    model.grounded().expect("files of BLIP and ALBEF are no CLIP")
}

/// Time to write so many tokens about images that were seen.
fn written(
    captioner: &Captioner<'_>,
    seen: &SeenImages,
    num_beams: usize,
    tokens: usize,
) -> Result<Duration, Failure> {
    let own = captioner.options();
    let generation = GenerationConfig {
        num_beams,
        max_length: None,
        max_new_tokens: Some(tokens),
        min_length: 0,
        min_new_tokens: tokens,
        ..own.generation
    };
    let options = WritingOptions { generation, ..own };
    let begin = Instant::now();
    black_box(captioner.write(seen, &options).map_err(Failure::model)?);
    Ok(begin.elapsed())
}

/// The network without memory, which tells what it would do.
struct Counted {
    blip: Blip,
    side: usize,
    precision: Precision,
}

impl Counted {
    /// What the image encoder does.
    fn images(&self, batch: usize) -> Work {
        let pixels = Tensor::shape_only(&[batch, 3, self.side, self.side]);
        let input = float_bytes(&pixels);
        let flops = flops(|| drop(self.blip.vision_model().tokens(&pixels, &Pass::eval())));
        let weights =
            weight_bytes(self.blip.parameters(), self.precision, |name| name.starts_with("vision_model."));
        Work { flops, bytes: input + weights }
    }

    /// What the first token takes, with the image encoder; or what each later one takes, in the middle of a caption.
    fn captions(&self, writing: Writing, batch: usize) -> Work {
        let Some(decoder) = self.blip.captioner().map(|captioner| captioner.text_decoder) else {
            return Work::default();
        };
        let states = EncoderStates::new(
            self.blip
                .vision_model()
                .tokens(&Tensor::shape_only(&[batch, 3, self.side, self.side]), &Pass::eval()),
        );
        if !writing.first {
            return self.token(decoder, &decoder.project(&states), batch, writing.beams);
        }
        let begin =
            || drop(decoder.step(&tokens(batch, 1), &decoder.project(&states), &mut DecoderCache::default()));
        let Work { flops: seen, bytes } = self.images(batch);
        let weights =
            weight_bytes(self.blip.parameters(), self.precision, |name| name.starts_with("text_decoder."));
        Work { flops: seen + flops(begin), bytes: bytes + weights }
    }

    /// A step of all rows: weights, keys and values, each read once.
    fn token(&self, decoder: &BertDecoder, states: &EncoderStates, batch: usize, beams: usize) -> Work {
        let rows = batch * beams;
        let mut cache = DecoderCache::default();
        drop(decoder.step(&tokens(rows, TOKENS / 2), states, &mut cache));
        let cache = RefCell::new(cache);
        let step = || drop(decoder.step(&tokens(rows, 1), states, &mut cache.borrow().clone()));
        // Keys and values of the images were made before.
        let counts = |name: &str| {
            let is_made =
                name.contains("crossattention.self.key") || name.contains("crossattention.self.value");
            name.starts_with("text_decoder.") && !is_made && !name.contains("position_embeddings")
        };
        let weights = weight_bytes(self.blip.parameters(), self.precision, counts);
        let seen = self.precision.of_activations().weight_bytes() * states.elements();
        let written = size_of::<f32>() * cache.borrow().elements();
        Work { flops: flops(step), bytes: weights + (seen + written) as u64 }
    }
}

fn float_bytes(tensor: &Tensor) -> u64 {
    (size_of::<f32>() * tensor.elements()) as u64
}

fn tokens(rows: usize, length: usize) -> TokenIds {
    TokenIds { ids: vec![0; rows * length], length, attention_mask: None }
}
