//! The vision transformer of CLIP: patches, a class token, pre-norm layers.
//!
//! Paper: arXiv 2010.11929 and 2103.00020. Reference: `clip/model.py` (`VisionTransformer`) and transformers'
//! `modeling_clip.py`, whose parameter names these are.

use tuwen_nn::{Embedding, Encoder, EncoderLayerConfig, EncoderLayerInit};
use tuwen_nn::{Init, LayerNorm, Linear, Pass, Scope, SequenceMask};
use tuwen_tensor::{Activation, Param, Tensor, ops};

/// Sizes of a vision transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct VitConfig {
    /// Width of the tokens.
    pub hidden_size: usize,
    /// Width inside the MLPs.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Side of the square input in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Activation of the MLPs.
    pub hidden_act: Activation,
    /// Added to the variance in layer norms.
    pub layer_norm_eps: f32,
}

impl VitConfig {
    /// Patches along a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    fn layer(&self) -> EncoderLayerConfig {
        EncoderLayerConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_attention_heads: self.num_attention_heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
        }
    }
}

/// A vision transformer that pools its class token.
pub struct VisionTransformer {
    class_embedding: Param,
    patch_embedding: Linear,
    position_embedding: Embedding,
    pre_layer_norm: LayerNorm,
    encoder: Encoder,
    post_layer_norm: LayerNorm,
    patch_size: usize,
}

impl VisionTransformer {
    /// Initialisation as in `open_clip`: what the CLIP release leaves to its framework's defaults.
    pub fn new(config: &VitConfig, scope: &Scope) -> Self {
        let width = config.hidden_size;
        let embeddings = scope.enter("embeddings");
        let token_init = Init::Normal((width as f32).sqrt().recip());
        let patch_len = 3 * config.patch_size * config.patch_size;
        let init = EncoderLayerInit {
            // Xavier over the fused matrix [3 width, width].
            qkv: Init::Uniform((6.0 / (4 * width) as f32).sqrt()),
            out_proj: Init::fan_in(width),
            fc1: Init::fan_in(width),
            fc2: Init::fan_in(config.intermediate_size),
        };
        let norm = |name| LayerNorm::new(width, config.layer_norm_eps, &scope.enter(name));
        let positions = config.grid() * config.grid() + 1;
        let patch_scope = embeddings.enter("patch_embedding");
        Self {
            class_embedding: embeddings.param("class_embedding", &[width], token_init),
            patch_embedding: Linear::conv_patch(
                config.patch_size,
                width,
                Init::fan_in(patch_len),
                &patch_scope,
            ),
            position_embedding: Embedding::new(
                positions,
                width,
                token_init,
                &embeddings.enter("position_embedding"),
            ),
            pre_layer_norm: norm("pre_layrnorm"),
            encoder: Encoder::new(
                "vision",
                config.num_hidden_layers,
                &config.layer(),
                &init,
                &scope.enter("encoder"),
            ),
            post_layer_norm: norm("post_layernorm"),
            patch_size: config.patch_size,
        }
    }

    /// Shapes: `[batch, 3, height, width]` to the normalised class token `[batch, hidden_size]`.
    ///
    /// The sides are multiples of the patch size and give the number of positions that the network has.
    pub fn forward(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        let patches = self.patch_embedding.forward(&patchify(pixel_values, self.patch_size)); // [B, g², D]
        let [batch, count, width] = patches.dims();
        pass.record(
            || "vision.patch_embedding".into(),
            || ops::permute(&patches, &[0, 2, 1]).reshape(&[batch, width, count]),
        );
        let class = ops::repeat_axis(&self.class_embedding.value().reshape(&[1, width]), batch); // [B, 1, D]
        let tokens = ops::concat(&[&class, &patches], 1);
        let embeddings = ops::add(&tokens, &self.position_embedding.table());
        pass.record(|| "vision.embeddings".into(), || embeddings.clone());
        let hidden = self.pre_layer_norm.forward(&embeddings);
        pass.record(|| "vision.pre_layernorm".into(), || hidden.clone());
        let class =
            self.encoder.forward_at(&hidden, &vec![0; batch], &SequenceMask::default(), pass, |all| {
                pass.record(|| "vision.post_layernorm".into(), || self.post_layer_norm.forward(all));
            });
        let pooled = self.post_layer_norm.forward(&class);
        pass.record(|| "vision.pooled".into(), || pooled.clone());
        pooled
    }
}

/// Cuts images into patches: `[batch, 3, height, width]` to `[batch, patches, 3 · side · side]`, rows first.
fn patchify(pixel_values: &Tensor, side: usize) -> Tensor {
    let [batch, channels, height, width] = pixel_values.dims();
    let (rows, columns) = (height / side, width / side);
    let split = pixel_values.reshape(&[batch, channels, rows, side, columns, side]);
    ops::permute(&split, &[0, 2, 4, 1, 3, 5]).reshape(&[batch, rows * columns, channels * side * side])
}
