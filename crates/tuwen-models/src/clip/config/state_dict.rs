//! The sizes of OpenAI's models, which come without a configuration (openai/CLIP `model.py`: `build_model`).

use tuwen_tensor::Activation;
use tuwen_tensor::checkpoint::TensorSource;

use super::{
    ClipConfig, ConfigError, LAYER_NORM_EPS, LOGIT_SCALE_INIT, TextConfig, TextPooling, VisionConfig,
};
use crate::{ResNetConfig, VitConfig};

/// Width of an attention head in every model of OpenAI's.
const HEAD_WIDTH: usize = 64;

impl ClipConfig {
    /// Reads the sizes off a state dict in OpenAI's names, as OpenAI's own loader does: heads are 64 wide and the
    /// activation is QuickGELU, which shapes do not tell.
    ///
    /// # Errors
    /// A tensor that is not there or has another number of axes, and sizes that make no network.
    pub fn from_openai_shapes(source: &dyn TensorSource) -> Result<Self, ConfigError> {
        Self::sizes_of_state_dict(source)?.checked()
    }

    /// As [`ClipConfig::from_openai_shapes`], without a check that the sizes make a network.
    ///
    /// # Errors
    /// A tensor that is not there or has another number of axes.
    pub fn sizes_of_state_dict(source: &dyn TensorSource) -> Result<Self, ConfigError> {
        let shape =
            |name: &str| source.info(name).map(|info| info.shape).ok_or(ConfigError::Missing(name.into()));
        let matrix = |name: &str| match shape(name)?.as_slice() {
            &[rows, columns] => Ok([rows, columns]),
            other => Err(ConfigError::unsupported(name, format!("{other:?}"), "expected a matrix")),
        };
        let names = source.names();
        // Blocks are numbered from 0 on.
        let count = |prefix: &str| {
            let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
            names.iter().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
        };
        let [vocab_size, width] = matrix("token_embedding.weight")?;
        let [_, projection_dim] = matrix("text_projection")?;
        let vision = if source.info("visual.proj").is_some() {
            let (out, side) = match shape("visual.conv1.weight")?.as_slice() {
                &[out, 3, side, width] if side == width => (out, side),
                other => {
                    let expected = "expected [width, 3, patch, patch]";
                    return Err(ConfigError::unsupported(
                        "visual.conv1.weight",
                        format!("{other:?}"),
                        expected,
                    ));
                }
            };
            let [positions, _] = matrix("visual.positional_embedding")?;
            VisionConfig::Vit(VitConfig {
                hidden_size: out,
                intermediate_size: matrix("visual.transformer.resblocks.0.mlp.c_fc.weight")?[0],
                num_hidden_layers: count("visual.transformer.resblocks."),
                num_attention_heads: out / HEAD_WIDTH,
                image_size: positions.saturating_sub(1).isqrt().saturating_mul(side),
                patch_size: side,
                hidden_act: Activation::QuickGelu,
                layer_norm_eps: LAYER_NORM_EPS,
            })
        } else {
            let width = shape("visual.layer1.0.conv1.weight")?.first().copied().unwrap_or(0);
            let [positions, _] = matrix("visual.attnpool.positional_embedding")?;
            VisionConfig::ResNet(ResNetConfig {
                width,
                layers: [1, 2, 3, 4].map(|stage| count(&format!("visual.layer{stage}."))),
                num_attention_heads: width.saturating_mul(32) / HEAD_WIDTH,
                image_size: positions.saturating_sub(1).isqrt().saturating_mul(32),
            })
        };
        Ok(Self {
            vision,
            text: TextConfig {
                vocab_size,
                hidden_size: width,
                intermediate_size: matrix("transformer.resblocks.0.mlp.c_fc.weight")?[0],
                num_hidden_layers: count("transformer.resblocks."),
                num_attention_heads: width / HEAD_WIDTH,
                max_position_embeddings: matrix("positional_embedding")?[0],
                hidden_act: Activation::QuickGelu,
                layer_norm_eps: LAYER_NORM_EPS,
                pooling: TextPooling::LargestId,
            },
            projection_dim,
            logit_scale_init_value: LOGIT_SCALE_INIT,
            logit_bias_init_value: None,
        })
    }
}
