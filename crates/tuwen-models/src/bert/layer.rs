//! A post-norm layer: self-attention, perhaps attention to other states, an MLP.

use std::sync::Arc;

use tuwen_nn::{Init, KeyValues, LayerNorm, Linear, Mlp, MultiHeadAttention, Pass, Scope, SeenBy};
use tuwen_tensor::{Activation, AttentionMask, Tensor, ops};

use super::config::{BertConfig, CrossImages};
use super::states::EncoderStates;

/// Standard deviation from which every matrix is drawn; biases begin at zero.
pub(super) const INIT: Init = Init::Normal(0.02);

/// What a layer consists of. Parts that another BERT shares are the same tensors.
pub(super) struct BertLayer {
    attention: NormedAttention,
    cross: Option<Arc<CrossAttention>>,
    feed_forward: Arc<FeedForward>,
}

impl BertLayer {
    pub(super) fn new(config: &BertConfig, layer: usize, scope: &Scope) -> Self {
        let cross = config.cross_attention.filter(|cross| cross.is_in(layer)).map(|cross| {
            let scope = scope.enter("crossattention");
            Arc::new(match cross.images {
                CrossImages::One => {
                    CrossAttention::One(NormedAttention::new(config, cross.encoder_width, &scope))
                }
                CrossImages::Two { merge_from } => {
                    let merges = layer >= merge_from;
                    CrossAttention::Two(Box::new(TwoAttentions::new(
                        config,
                        cross.encoder_width,
                        merges,
                        &scope,
                    )))
                }
            })
        });
        Self {
            attention: NormedAttention::new(config, config.hidden_size, &scope.enter("attention")),
            cross,
            feed_forward: Arc::new(FeedForward::new(config, scope)),
        }
    }

    /// A layer with a self-attention of its own and everything else of another.
    pub(super) fn sharing(config: &BertConfig, other: &Self, scope: &Scope) -> Self {
        Self {
            attention: NormedAttention::new(config, config.hidden_size, &scope.enter("attention")),
            cross: other.cross.clone(),
            feed_forward: other.feed_forward.clone(),
        }
    }

    /// Shapes: `[batch, tokens, hidden_size]` to the same. Without states to look at the layer does not look.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        mask: AttentionMask,
        states: &[EncoderStates],
        at: usize,
        pass: &Pass,
    ) -> Tensor {
        self.after_attention(&self.attention.forward(x, mask, pass), states, at, pass)
    }

    /// The same for the next tokens of sequences, as [`MultiHeadAttention::forward_cached`] has it.
    pub(super) fn forward_cached(
        &self,
        x: &Tensor,
        steps: &mut Vec<KeyValues>,
        rows: &[Vec<u32>],
        states: &[EncoderStates],
        at: usize,
    ) -> Tensor {
        self.after_attention(&self.attention.forward_cached(x, steps, rows), states, at, &Pass::eval())
    }

    fn after_attention(&self, x: &Tensor, states: &[EncoderStates], at: usize, pass: &Pass) -> Tensor {
        match &self.cross {
            Some(cross) if !states.is_empty() => {
                self.feed_forward.forward(&cross.forward(x, states, at, pass), pass)
            }
            _ => self.feed_forward.forward(x, pass),
        }
    }

    /// [`BertLayer::forward`] of one text where the probabilities of the attention to one image `[1, heads, tokens, states]`
    /// are a leaf of the tape, and come with the result; `None` where the layer does not look at one image.
    pub(super) fn probed(
        &self,
        x: &Tensor,
        mask: AttentionMask,
        image: &EncoderStates,
        at: usize,
    ) -> Option<(Tensor, Tensor)> {
        let CrossAttention::One(cross) = self.cross.as_deref()? else { return None };
        let pass = Pass::eval();
        let x = self.attention.forward(x, mask, &pass);
        let parts = image.seen(at, x.shape()[0], |states| cross.attention.keys_values(states));
        let (seen, mask, _) = parts.first()?;
        let probabilities = cross.attention.probabilities(&x, seen, *mask).leaf();
        let attended = cross.attention.attend_by(&probabilities, seen, Some(&x));
        Some((probabilities, self.feed_forward.forward(&cross.norm.forward(&attended), &pass)))
    }

    /// Whether it looks at other states.
    pub(super) fn looks(&self) -> bool {
        self.cross.is_some()
    }

    /// Keys and values of states for this layer's attention to image `image`, if it looks at one.
    pub(super) fn keys_values(&self, image: usize, states: &Tensor) -> Option<KeyValues> {
        Some(self.cross.as_ref()?.attention(image).kept_keys_values(states))
    }
}

/// `norm(dropout(attention(x)) + x)`.
struct NormedAttention {
    attention: MultiHeadAttention,
    norm: LayerNorm,
}

impl NormedAttention {
    fn new(config: &BertConfig, seen_width: usize, scope: &Scope) -> Self {
        let output = scope.enter("output");
        let projections = (scope.enter("self"), output.enter("dense"));
        Self { attention: attention(config, seen_width, projections), norm: norm(config, &output) }
    }

    fn forward(&self, x: &Tensor, mask: AttentionMask, pass: &Pass) -> Tensor {
        let mask = pass.attention_mask(mask);
        self.norm.forward(&pass.residual(x, |residual| self.attention.forward(x, mask, residual)))
    }

    fn forward_cached(&self, x: &Tensor, steps: &mut Vec<KeyValues>, rows: &[Vec<u32>]) -> Tensor {
        self.norm.forward(&self.attention.forward_cached(x, steps, rows, x))
    }
}

/// Projections to queries, keys and values in one scope, the output projection in another.
fn attention(config: &BertConfig, seen_width: usize, (heads, output): (Scope, Scope)) -> MultiHeadAttention {
    let width = config.hidden_size;
    let linear = |inner, scope: &Scope| Linear::new(inner, width, INIT, Init::ZEROS, scope);
    let projections = [
        linear(width, &heads.enter("query")),
        linear(seen_width, &heads.enter("key")),
        linear(seen_width, &heads.enter("value")),
        linear(width, &output),
    ];
    MultiHeadAttention::of(projections, config.num_attention_heads)
}

fn norm(config: &BertConfig, scope: &Scope) -> LayerNorm {
    LayerNorm::new(config.hidden_size, config.layer_norm_eps, &scope.enter("LayerNorm"))
}

/// Attention to other states.
enum CrossAttention {
    One(NormedAttention),
    /// Boxed: twice as large.
    Two(Box<TwoAttentions>),
}

impl CrossAttention {
    fn attention(&self, image: usize) -> &MultiHeadAttention {
        match self {
            Self::One(one) => &one.attention,
            Self::Two(two) => &two.attentions[image],
        }
    }

    fn forward(&self, x: &Tensor, states: &[EncoderStates], at: usize, pass: &Pass) -> Tensor {
        let see = |image: usize, residual: Option<&Tensor>| {
            let (attention, states) = (self.attention(image), &states[image]);
            let seen = states.seen(at, x.shape()[0], |states| attention.keys_values(states));
            let parts = seen.iter().map(|(key_values, mask, rows)| {
                let mask = pass.attention_mask(*mask);
                SeenBy { key_values, mask, rows: *rows }
            });
            attention.attend_to_parts(x, &parts.collect::<Vec<_>>(), residual)
        };
        match self {
            Self::One(one) => one.norm.forward(&pass.residual(x, |residual| see(0, residual))),
            Self::Two(two) => two.join(&see(0, None), &see(1, None), x, pass),
        }
    }
}

/// Attention to two images (salesforce/BLIP `models/nlvr_encoder.py`).
struct TwoAttentions {
    attentions: [MultiHeadAttention; 2],
    merge: Option<Linear>,
    norm: LayerNorm,
}

impl TwoAttentions {
    fn new(config: &BertConfig, seen_width: usize, merges: bool, scope: &Scope) -> Self {
        let (width, output) = (config.hidden_size, scope.enter("output"));
        let one = |image: usize| {
            let projections =
                (scope.enter(format_args!("self{image}")), output.enter(format_args!("dense{image}")));
            attention(config, seen_width, projections)
        };
        let merge = || Linear::new(2 * width, width, INIT, Init::ZEROS, &output.enter("merge_layer"));
        Self { attentions: [one(0), one(1)], merge: merges.then(merge), norm: norm(config, &output) }
    }

    /// What was seen of both, joined.
    fn join(&self, first: &Tensor, second: &Tensor, x: &Tensor, pass: &Pass) -> Tensor {
        let joined = |residual: Option<&Tensor>| match &self.merge {
            Some(merge) => {
                merge.forward_fused(&ops::concat(&[first, second], 2), Activation::Identity, residual)
            }
            None => {
                let mean = ops::scale(&ops::add(first, second), 0.5);
                residual.map_or_else(|| mean.clone(), |residual| ops::add(&mean, residual))
            }
        };
        self.norm.forward(&pass.residual(x, joined))
    }
}

/// `norm(dropout(mlp(x)) + x)`.
struct FeedForward {
    mlp: Mlp,
    norm: LayerNorm,
}

impl FeedForward {
    fn new(config: &BertConfig, scope: &Scope) -> Self {
        let (width, inner, output) = (config.hidden_size, config.intermediate_size, scope.enter("output"));
        let intermediate = scope.enter("intermediate").enter("dense");
        let mlp = Mlp::new(
            Linear::new(width, inner, INIT, Init::ZEROS, &intermediate),
            Linear::new(inner, width, INIT, Init::ZEROS, &output.enter("dense")),
            config.hidden_act,
        );
        Self { mlp, norm: norm(config, &output) }
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        self.norm.forward(&pass.residual(x, |residual| self.mlp.forward(x, residual)))
    }
}
