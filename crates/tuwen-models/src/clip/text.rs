//! The text tower: a causal transformer whose feature is the state at the end of the text.

use std::sync::Arc;

use tuwen_nn::{Embedding, EncoderLayer, EncoderLayerConfig, EncoderLayerInit, Init, LayerNorm, Pass, Scope};
use tuwen_tensor::{AttentionMask, Tensor, ops};

use super::config::{TextConfig, TextPooling};

/// Token ids of a batch of texts, padded to one length.
#[derive(Clone, Debug)]
pub struct TokenIds {
    /// `[batch, length]`, row-major.
    pub ids: Vec<u32>,
    /// Tokens in each row.
    pub length: usize,
    /// `[batch, length]`, true for real tokens. Without it padding is hidden by the causal mask alone, which gives
    /// the same features: nothing after the end of a text can reach it.
    pub attention_mask: Option<Vec<bool>>,
}

impl TokenIds {
    /// Number of texts.
    pub fn batch(&self) -> usize {
        self.ids.len() / self.length.max(1)
    }

    fn row(&self, row: usize) -> &[u32] {
        &self.ids[row * self.length..][..self.length]
    }
}

/// Embeddings, causal layers, final norm, pooling at the end token.
pub struct TextTransformer {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<Arc<EncoderLayer>>,
    final_layer_norm: LayerNorm,
    pooling: TextPooling,
}

impl TextTransformer {
    /// Initialisation as in openai/CLIP `initialize_parameters`.
    pub fn new(config: &TextConfig, scope: &Scope) -> Self {
        let width = config.hidden_size;
        let embeddings = scope.enter("embeddings");
        let layers = scope.enter("encoder").enter("layers");
        let std = (width as f32).sqrt().recip();
        let residual = Init::Normal(std * ((2 * config.num_hidden_layers) as f32).sqrt().recip());
        let init = EncoderLayerInit {
            qkv: Init::Normal(std),
            out_proj: residual,
            fc1: Init::Normal(((2 * width) as f32).sqrt().recip()),
            fc2: residual,
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
            layers: (0..config.num_hidden_layers)
                .map(|i| Arc::new(EncoderLayer::new(&layer, &init, &layers.enter(i))))
                .collect(),
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
        let mut hidden = ops::add(&embedded, &positions);
        pass.record(|| "text.embeddings".into(), || hidden.clone());
        let keys: Option<Arc<[bool]>> = tokens.attention_mask.as_deref().map(Into::into);
        for (i, layer) in self.layers.iter().enumerate() {
            let (layer, keys) = (layer.clone(), keys.clone());
            hidden = pass.block(&hidden, move |x, _| {
                layer.forward(x, AttentionMask { keys: keys.as_deref(), ..AttentionMask::CAUSAL })
            });
            pass.record(|| format!("text.layers.{i}"), || hidden.clone());
        }
        pass.record(|| "text.final_layer_norm".into(), || self.final_layer_norm.forward(&hidden));
        let ends: Vec<u32> = tokens
            .ids
            .chunks_exact(length)
            .enumerate()
            .map(|(row, ids)| (row * length + self.pooling.position(ids)) as u32)
            .collect();
        let last = ops::gather_rows(&hidden.reshape(&[batch * length, hidden.last_dim()]), &ends);
        self.final_layer_norm.forward(&last)
    }
}

/// Texts of about equal length that go through the tower together.
const BUCKET: usize = 32;

impl TextTransformer {
    /// As [`TextTransformer::forward`] for texts without a mask, which run beside others of about their length: nothing
    /// after the end of a text can reach its feature, and the texts of a large batch are half as long as the longest.
    pub fn forward_by_length(&self, tokens: &TokenIds, pass: &Pass) -> Tensor {
        let order = self.order_by_length(tokens);
        let groups: Vec<Tensor> =
            order.chunks(BUCKET).map(|group| self.forward(&self.shortened(tokens, group), pass)).collect();
        let mut place = vec![0; order.len()];
        order.iter().zip(0u32..).for_each(|(&row, at)| place[row] = at);
        ops::gather_rows(&ops::concat(&groups.iter().collect::<Vec<_>>(), 0), &place)
    }

    /// The rows of a batch, short texts first.
    fn order_by_length(&self, tokens: &TokenIds) -> Vec<usize> {
        let mut order: Vec<usize> = (0..tokens.batch()).collect();
        order.sort_by_cached_key(|&row| self.pooling.position(tokens.row(row)));
        order
    }

    /// Some texts, cut where the longest of them ends.
    fn shortened(&self, tokens: &TokenIds, rows: &[usize]) -> TokenIds {
        debug_assert!(tokens.attention_mask.is_none(), "masked texts run as they are");
        let length = rows.iter().map(|&row| self.pooling.position(tokens.row(row)) + 1).max().unwrap_or(0);
        let ids = rows.iter().flat_map(|&row| tokens.row(row)[..length].iter().copied()).collect();
        TokenIds { ids, length, attention_mask: None }
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
