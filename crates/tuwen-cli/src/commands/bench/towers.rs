//! The two towers of a CLIP.

use std::hint::black_box;

use tuwen::{ClipModel, Model};
use tuwen_data::rng::Rng;
use tuwen_data::tokenizer::Overflow;
use tuwen_kernels::Precision;
use tuwen_models::clip::{Clip, ClipConfig, TokenIds};
use tuwen_nn::{LoadReport, Pass, Scope};
use tuwen_tensor::Tensor;

use super::captions::{COUNT, captions};
use super::clock::Clock;
use super::line::Timed;
use super::roofline::Work;
use super::work::{flops, weight_bytes};
use crate::failure::Failure;

/// Parameters of the towers, by how their names begin.
const VISION: [&str; 2] = ["vision_model.", "visual_projection."];
const TEXT: [&str; 2] = ["text_model.", "text_projection."];
/// The one of which only the rows of the tokens are read.
const TOKEN_EMBEDDING: &str = "text_model.embeddings.token_embedding.weight";

/// A model in memory, and its shapes.
pub struct Towers {
    model: Model,
    counted: Counted,
}

impl Towers {
    /// Of a model in memory.
    pub fn new(model: Model, precision: Precision) -> Result<Self, Failure> {
        let counted = Counted::new(&clip(&model)?.config, precision).map_err(Failure::model)?;
        Ok(Self { model, counted })
    }

    /// Measures the image tower; pixels are random.
    pub fn images(&self, batch: usize, clock: Clock) -> Result<Timed, Failure> {
        let ClipModel { network, config, .. } = clip(&self.model)?;
        let side = config.vision.image_size();
        let pixels = random_pixels(batch, side);
        let pass = Pass::eval();
        let seconds = clock.median(|| drop(black_box(network.image_features(&pixels, &pass))));
        Ok(Timed { batch, seconds, work: self.counted.images(batch, side), peak_memory: None })
    }

    /// Measures the text tower on captions that are tokens already.
    pub fn texts(&self, clock: Clock) -> Result<Timed, Failure> {
        let missing = || Failure::model(anyhow::anyhow!("{}: no tokenizer", self.model.name()));
        let clip = clip(&self.model)?;
        let tokenizer = clip.tokenizer().ok_or_else(missing)?;
        let context = clip.config.text.max_position_embeddings;
        let batch = tokenizer.encode_batch(&captions(), context, Overflow::Truncate)?;
        let tokens = TokenIds { ids: batch.ids, length: batch.context_length, attention_mask: None };
        let pass = Pass::eval();
        let network = &clip.network;
        let seconds = clock.median(|| drop(black_box(network.text_features_by_length(&tokens, &pass))));
        Ok(Timed { batch: COUNT, seconds, work: self.counted.texts(&tokens), peak_memory: None })
    }
}

fn clip(model: &Model) -> Result<&ClipModel, Failure> {
    model.clip().ok_or_else(|| Failure::usage(anyhow::anyhow!("{}: no CLIP model", model.name())))
}

/// Normalised images `[batch, 3, side, side]` of noise.
pub fn random_pixels(batch: usize, side: usize) -> Tensor {
    let mut rng = Rng::new(&[11]);
    let values: Vec<f32> = (0..batch * 3 * side * side).map(|_| rng.range(-2.0, 2.0)).collect();
    Tensor::new(&values, &[batch, 3, side, side])
}

/// The network without memory, which tells what it would do.
pub struct Counted {
    clip: Clip,
    precision: Precision,
}

impl Counted {
    /// The network of this configuration.
    pub fn new(config: &ClipConfig, precision: Precision) -> Result<Self, LoadReport> {
        Ok(Self { clip: Clip::new(config, Scope::count())?, precision })
    }

    /// What the image tower does.
    pub fn images(&self, batch: usize, side: usize) -> Work {
        let pixels = Tensor::shape_only(&[batch, 3, side, side]);
        let input = size_of::<f32>() as u64 * pixels.elements() as u64;
        let flops = flops(|| drop(self.clip.image_features(&pixels, &Pass::eval())));
        Work { flops, bytes: input + self.weight_bytes(VISION) }
    }

    /// Bytes of a tower.
    fn weight_bytes(&self, tower: [&str; 2]) -> u64 {
        weight_bytes(self.clip.parameters(), self.precision, |name| {
            name != TOKEN_EMBEDDING && tower.iter().any(|begin| name.starts_with(begin))
        })
    }

    /// What the text tower does.
    pub fn texts(&self, tokens: &TokenIds) -> Work {
        let flops = flops(|| drop(self.clip.text_features_by_length(tokens, &Pass::eval())));
        Work { flops, bytes: self.weight_bytes(TEXT) }
    }
}

#[cfg(test)]
mod tests {
    use tuwen_models::clip::presets;

    use super::*;

    #[test]
    fn the_work_of_a_tower_is_what_its_architecture_asks_for() {
        let config = presets::find("ViT-B-32").expect("published");
        let work = |precision| Counted::new(&config, precision).expect("published").images(2, 224);
        let (f32, int8) = (work(Precision::F32), work(Precision::Int8));
        assert_eq!(f32.flops, int8.flops);
        // At most 4.4 billion multiplications an image, and not less than without the rest of the last block.
        assert!((16_000_000_000..=17_700_000_000).contains(&f32.flops), "{}", f32.flops);
        let pixels = 4 * 2 * 3 * 224 * 224;
        // 87.8 million weights in the tower.
        assert!((351_000_000..352_000_000).contains(&(f32.bytes - pixels)), "{}", f32.bytes);
        assert!(int8.bytes < f32.bytes / 3);
    }
}
