//! The vision transformer: patches, a class token, pre-norm layers.
//!
//! Papers: arXiv 2010.11929, 2103.00020 (CLIP, which normalises before the layers and pools the class token) and
//! 2201.12086 (BLIP, which follows timm and uses all tokens). References: `clip/model.py` (`VisionTransformer`), BLIP's
//! `models/vit.py`, and transformers' `modeling_clip.py` and `modeling_blip.py`, whose parameter names these are.

use tuwen_nn::{Encoder, EncoderLayerConfig, EncoderLayerInit};
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

    /// Tokens: the class token and the patches.
    fn positions(&self) -> usize {
        self.grid() * self.grid() + 1
    }

    fn norm(&self, name: &str, scope: &Scope) -> LayerNorm {
        LayerNorm::new(self.hidden_size, self.layer_norm_eps, &scope.enter(name))
    }

    fn encoder(&self, init: &EncoderLayerInit, scope: &Scope) -> Encoder {
        Encoder::new("vision", self.num_hidden_layers, &self.layer(), init, &scope.enter("encoder"))
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

/// A vision transformer.
pub struct VisionTransformer {
    /// `hidden_size` numbers, whatever their shape.
    class_embedding: Param,
    patch_embedding: Linear,
    /// A row of `hidden_size` numbers for the class token and for each patch.
    position_embedding: Param,
    pre_layer_norm: Option<LayerNorm>,
    encoder: Encoder,
    post_layer_norm: LayerNorm,
    patch_size: usize,
}

impl VisionTransformer {
    /// CLIP's: a norm before the layers. Initialisation as in `open_clip`: what the CLIP release leaves to its framework's
    /// defaults.
    pub fn new(config: &VitConfig, scope: &Scope) -> Self {
        let width = config.hidden_size;
        let embeddings = scope.enter("embeddings");
        let token_init = Init::Normal((width as f32).sqrt().recip());
        let patch_len = 3 * config.patch_size * config.patch_size;
        let patches = embeddings.enter("patch_embedding");
        let init = EncoderLayerInit {
            // Xavier over the fused matrix [3 width, width].
            qkv: Init::Uniform((6.0 / (4 * width) as f32).sqrt()),
            out_proj: Init::fan_in(width),
            fc1: Init::fan_in(width),
            fc2: Init::fan_in(config.intermediate_size),
            mlp_biases: [width, config.intermediate_size].map(Init::fan_in),
        };
        let position_scope = embeddings.enter("position_embedding");
        Self {
            class_embedding: embeddings.param("class_embedding", &[width], token_init),
            patch_embedding: Linear::conv_patch(config.patch_size, width, Init::fan_in(patch_len), &patches),
            position_embedding: position_scope.param("weight", &[config.positions(), width], token_init),
            pre_layer_norm: Some(config.norm("pre_layrnorm", scope)),
            encoder: config.encoder(&init, scope),
            post_layer_norm: config.norm("post_layernorm", scope),
            patch_size: config.patch_size,
        }
    }

    /// BLIP's and ALBEF's, which is timm's: a bias of the patches, no norm before the layers. Linear layers and
    /// positions begin normal with a standard deviation of 0.02, biases at zero, the patches as PyTorch's convolutions.
    pub fn timm(config: &VitConfig, scope: &Scope) -> Self {
        let width = config.hidden_size;
        let normal = Init::Normal(0.02);
        let embeddings = scope.enter("embeddings");
        let patches = embeddings.enter("patch_embedding");
        let init = EncoderLayerInit {
            qkv: normal,
            out_proj: normal,
            fc1: normal,
            fc2: normal,
            mlp_biases: [Init::ZEROS; 2],
        };
        let patch_init = Init::fan_in(3 * config.patch_size * config.patch_size);
        Self {
            class_embedding: embeddings.param("class_embedding", &[1, 1, width], normal),
            patch_embedding: Linear::conv_patch_with_bias(config.patch_size, width, patch_init, &patches),
            position_embedding: embeddings.param(
                "position_embedding",
                &[1, config.positions(), width],
                normal,
            ),
            pre_layer_norm: None,
            encoder: config.encoder(&init, scope),
            post_layer_norm: config.norm("post_layernorm", scope),
            patch_size: config.patch_size,
        }
    }

    /// Shapes: `[batch, 3, height, width]` to the normalised states of all tokens `[batch, patches + 1, hidden_size]`, the
    /// class token first.
    ///
    /// The sides are as for [`VisionTransformer::forward`].
    pub fn tokens(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        let hidden = self.encoder.forward(&self.embed(pixel_values, pass), &SequenceMask::default(), pass);
        let tokens = self.post_layer_norm.forward(&hidden);
        pass.record(|| "vision.tokens".into(), || tokens.clone());
        tokens
    }

    /// transformers' `pooler_output` of BLIP: of the states that [`VisionTransformer::tokens`] gives, the class token
    /// normalised once more, as `[batch, hidden_size]`.
    pub fn pooled_again(&self, tokens: &Tensor) -> Tensor {
        let [batch, _, width] = tokens.dims();
        self.post_layer_norm.forward(&ops::narrow(tokens, 1, 0, 1).reshape(&[batch, width]))
    }

    /// Shapes: `[batch, 3, height, width]` to the normalised class token `[batch, hidden_size]`.
    ///
    /// The sides are multiples of the patch size and give the number of positions that the network has.
    pub fn forward(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        let hidden = self.embed(pixel_values, pass);
        let batch = hidden.shape()[0];
        let class =
            self.encoder.forward_at(&hidden, &vec![0; batch], &SequenceMask::default(), pass, |all| {
                pass.record(|| "vision.post_layernorm".into(), || self.post_layer_norm.forward(all));
            });
        let pooled = self.post_layer_norm.forward(&class);
        pass.record(|| "vision.pooled".into(), || pooled.clone());
        pooled
    }

    /// What goes into the layers: `[batch, 3, height, width]` to `[batch, patches + 1, hidden_size]`.
    fn embed(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        let patches = self.patch_embedding.forward(&patchify(pixel_values, self.patch_size)); // [B, g², D]
        let [batch, count, width] = patches.dims();
        pass.record(
            || "vision.patch_embedding".into(),
            || ops::permute(&patches, &[0, 2, 1]).reshape(&[batch, width, count]),
        );
        let class = ops::repeat_axis(&self.class_embedding.value().reshape(&[1, width]), batch); // [B, 1, D]
        let tokens = ops::concat(&[&class, &patches], 1);
        let positions = self.position_embedding.value();
        let embeddings = ops::add(&tokens, &positions.reshape(&[positions.elements() / width, width]));
        pass.record(|| "vision.embeddings".into(), || embeddings.clone());
        let Some(norm) = &self.pre_layer_norm else { return embeddings };
        let hidden = norm.forward(&embeddings);
        pass.record(|| "vision.pre_layernorm".into(), || hidden.clone());
        hidden
    }
}

/// Cuts images into patches: `[batch, 3, height, width]` to `[batch, patches, 3 · side · side]`, rows first.
fn patchify(pixel_values: &Tensor, side: usize) -> Tensor {
    let [batch, channels, height, width] = pixel_values.dims();
    let (rows, columns) = (height / side, width / side);
    let split = pixel_values.reshape(&[batch, channels, rows, side, columns, side]);
    ops::permute(&split, &[0, 2, 4, 1, 3, 5]).reshape(&[batch, rows * columns, channels * side * side])
}
