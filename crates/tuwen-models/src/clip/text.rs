//! The text tower: a causal transformer whose feature is the state at the end of the text.

use tuwen_nn::{Embedding, Encoder, EncoderLayerConfig, EncoderLayerInit};
use tuwen_nn::{Init, LayerNorm, Pass, Scope, SequenceMask};
use tuwen_tensor::{Tensor, ops};

use super::config::{TextConfig, TextPooling};
use crate::{TokenIds, by_length};

impl TokenIds {
    /// Some of the texts, cut where the longest of them ends.
    fn shortened(&self, rows: &[usize], lengths: &[usize]) -> Self {
        debug_assert!(self.attention_mask.is_none(), "masked texts run as they are");
        let length = rows.iter().map(|&row| lengths[row]).max().unwrap_or(0);
        let ids = rows.iter().flat_map(|&row| self.row(row)[..length].iter().copied()).collect();
        Self { ids, length, attention_mask: None }
    }
}

/// Embeddings, causal layers, final norm, pooling at the end token.
pub struct TextTransformer {
    token_embedding: Embedding,
    position_embedding: Embedding,
    encoder: Encoder,
    final_layer_norm: LayerNorm,
    pooling: TextPooling,
}

impl TextTransformer {
    /// Initialisation as in openai/CLIP `initialize_parameters`.
    pub fn new(config: &TextConfig, scope: &Scope) -> Self {
        let width = config.hidden_size;
        let embeddings = scope.enter("embeddings");
        let std = (width as f32).sqrt().recip();
        let residual = Init::Normal(std * ((2 * config.num_hidden_layers) as f32).sqrt().recip());
        let init = EncoderLayerInit {
            qkv: Init::Normal(std),
            out_proj: residual,
            fc1: Init::Normal(((2 * width) as f32).sqrt().recip()),
            fc2: residual,
            mlp_biases: [width, config.intermediate_size].map(Init::fan_in),
        };
        let layer = EncoderLayerConfig {
            hidden_size: width,
            intermediate_size: config.intermediate_size,
            num_attention_heads: config.num_attention_heads,
            hidden_act: config.hidden_act,
            layer_norm_eps: config.layer_norm_eps,
        };
        let embedding =
            |rows, std, name| Embedding::new(rows, width, Init::Normal(std), &embeddings.enter(name));
        Self {
            token_embedding: embedding(config.vocab_size, 0.02, "token_embedding"),
            position_embedding: embedding(config.max_position_embeddings, 0.01, "position_embedding"),
            encoder: Encoder::new("text", config.num_hidden_layers, &layer, &init, &scope.enter("encoder")),
            final_layer_norm: LayerNorm::new(width, config.layer_norm_eps, &scope.enter("final_layer_norm")),
            pooling: config.pooling,
        }
    }

    /// Shapes: `[batch, tokens]` to the normalised state at each text's end `[batch, hidden_size]`.
    ///
    /// # Panics
    /// If an id is outside the vocabulary, or rows are longer than the positions.
    pub fn forward(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let (batch, length) = (tokens.batch(), tokens.length);
        let embedded = self.token_embedding.forward(&tokens.ids);
        let embedded = embedded.reshape(&[batch, length, embedded.last_dim()]);
        pass.record(|| "text.token_embedding".into(), || embedded.clone());
        let positions = ops::narrow(&self.position_embedding.table(), 0, 0, length);
        let hidden = ops::add(&embedded, &positions);
        pass.record(|| "text.embeddings".into(), || hidden.clone());
        let mask = SequenceMask { causal: true, keys: tokens.attention_mask.as_deref().map(Into::into) };
        let last = self.encoder.forward_at(&hidden, &self.ends(tokens), &mask, pass, |all| {
            pass.record(|| "text.final_layer_norm".into(), || self.final_layer_norm.forward(all));
        });
        self.final_layer_norm.forward(&last)
    }

    /// Where each text ends.
    fn ends(&self, tokens: &TokenIds) -> Vec<usize> {
        (0..tokens.batch()).map(|row| self.pooling.position(tokens.row(row))).collect()
    }
}

/// What a pass costs beside its tokens, in tokens: reading the weights takes as long. In training there are also the
/// gradients of all weights to be written and added up.
const PASS_COST: [usize; 2] = [16, 64];

impl TextTransformer {
    /// As [`TextTransformer::forward`] for texts without a mask, which run beside others of about their length: nothing
    /// after the end of a text can reach its feature, and captions are a sixth as long as the context.
    pub fn forward_by_length(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let lengths: Vec<usize> = self.ends(tokens).iter().map(|end| end + 1).collect();
        let pass_cost = PASS_COST[usize::from(pass.is_training())];
        by_length(&lengths, pass_cost, |group| self.forward(&tokens.shortened(group, &lengths), pass))
    }
}

impl TextPooling {
    /// Where in a row the text ends.
    fn position(self, ids: &[u32]) -> usize {
        let end = match self {
            Self::LargestId => ids.iter().max().copied(),
            Self::FirstEos(eos) => Some(eos),
        };
        // As the reference does, a row without an end token is pooled at its first position.
        ids.iter().position(|&id| Some(id) == end).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use tuwen_nn::Scope;

    use super::*;
    use crate::clip::{Clip, ClipConfig};

    #[test]
    fn texts_by_length_are_the_texts_of_the_batch_in_their_order() {
        let json = r#"{"embed_dim": 8, "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8,
            "patch_size": 8}, "text_cfg": {"context_length": 24, "vocab_size": 520, "width": 16, "heads": 2, "layers": 2}}"#;
        let mut config = ClipConfig::from_open_clip_json(json).expect("read");
        for pooling in [TextPooling::LargestId, TextPooling::FirstEos(519)] {
            config.text.pooling = pooling;
            let clip = Clip::new(&config, Scope::init(5)).expect("nothing is loaded");
            // 70 texts of 1 to 22 tokens; one without an end.
            let row = |text: u32| {
                let words = (0..text * 7 % 22).map(move |word| (text * 31 + word * 17) % 500);
                let end = if text == 9 { 0 } else { 519 };
                let mut ids: Vec<u32> = [518].into_iter().chain(words).chain([end]).collect();
                ids.resize(24, 0);
                ids
            };
            let tokens = TokenIds { ids: (0..70).flat_map(row).collect(), length: 24, attention_mask: None };
            let together = clip.text_features(&tokens, &Pass::eval()).to_vec();
            let by_length = clip.text_features_by_length(&tokens, &Pass::eval()).to_vec();
            assert_eq!(together.len(), by_length.len());
            assert!(together.iter().zip(&by_length).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }
}
