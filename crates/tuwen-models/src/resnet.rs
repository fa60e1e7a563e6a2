//! The ModifiedResNet of CLIP: three convolutions as stem, anti-aliased strides, attention pooling.
//!
//! Reference: openai/CLIP `clip/model.py` (`ModifiedResNet`, `AttentionPool2d`); no Hugging Face layout exists, so
//! parameter names are what follows `visual.` there. Activations are channels-last inside.

use std::sync::Arc;

use tuwen_nn::{ConvBatchNorm, Init, Linear, Pass, Scope};
use tuwen_tensor::{AttentionMask, Param, Tensor, ops};

/// Sizes of a ModifiedResNet.
#[derive(Clone, Debug, PartialEq)]
pub struct ResNetConfig {
    /// Channels after the stem.
    pub width: usize,
    /// Number of bottleneck blocks in each of the four stages.
    pub layers: [usize; 4],
    /// Heads of the attention pool.
    pub num_attention_heads: usize,
    /// Side of the square input in pixels.
    pub image_size: usize,
}

impl ResNetConfig {
    /// Side in pixels of what becomes one place of the last map.
    pub const CELL: usize = 32;

    /// Channels of the last stage.
    pub fn pooled_size(&self) -> usize {
        self.width * 32
    }

    /// Side of the last stage's map.
    pub fn grid(&self) -> usize {
        self.image_size / 32
    }
}

/// A bottleneck block multiplies its inner width by this.
const EXPANSION: usize = 4;

/// The network up to the joint embedding.
pub struct ModifiedResNet {
    stem: [ConvBatchNorm; 3],
    stages: [Vec<Arc<Bottleneck>>; 4],
    pool: AttentionPool,
}

impl ModifiedResNet {
    /// A network whose attention pool projects to `output_dim`.
    pub fn new(config: &ResNetConfig, output_dim: usize, scope: &Scope) -> Self {
        let width = config.width;
        let stem = |i: usize, inner, out, stride| {
            let (conv, norm) = (scope.enter(format!("conv{i}")), scope.enter(format!("bn{i}")));
            // Rounding the pixels would be half of the error of bf16, in a thousandth of the work.
            let conv = if i == 1 { conv.exact() } else { conv };
            ConvBatchNorm::new([inner, out, 3, stride], 1.0, &conv, &norm)
        };
        let mut inner = width;
        let mut stage = |s: usize| {
            let planes = width << s;
            (0..config.layers[s])
                .map(|b| {
                    let stride = if b == 0 && s > 0 { 2 } else { 1 };
                    let block = scope.enter(format!("layer{}", s + 1)).enter(b);
                    let bottleneck = Arc::new(Bottleneck::new(inner, planes, stride, &block));
                    inner = planes * EXPANSION;
                    bottleneck
                })
                .collect()
        };
        Self {
            stem: [stem(1, 3, width / 2, 2), stem(2, width / 2, width / 2, 1), stem(3, width / 2, width, 1)],
            stages: [stage(0), stage(1), stage(2), stage(3)],
            pool: AttentionPool::new(config, output_dim, &scope.enter("attnpool")),
        }
    }

    /// Shapes: `[batch, 3, size, size]` to `[batch, output_dim]`.
    pub fn forward(&self, pixel_values: &Tensor, pass: &Pass) -> Tensor {
        let mut x = ops::permute(pixel_values, &[0, 2, 3, 1]);
        pass.record(|| "vision.conv1".into(), || channels_first(&self.stem[0].convolve(&x)));
        for conv in &self.stem {
            x = conv.forward(&x, None, true, pass);
        }
        x = ops::avg_pool2d(&x, 2);
        pass.record(|| "vision.stem".into(), || channels_first(&x));
        for (s, stage) in self.stages.iter().enumerate() {
            for (b, block) in stage.iter().enumerate() {
                let block = block.clone();
                x = pass.block(&x, move |x, pass| block.forward(x, pass));
                pass.record(|| format!("vision.layer{}.{b}", s + 1), || channels_first(&x));
            }
        }
        self.pool.forward(&x, pass)
    }
}

fn channels_first(x: &Tensor) -> Tensor {
    ops::permute(x, &[0, 3, 1, 2])
}

/// 1x1, 3x3 and 1x1 convolutions around a shortcut. Strides are average pools, so that nothing is skipped.
struct Bottleneck {
    conv1: ConvBatchNorm,
    conv2: ConvBatchNorm,
    conv3: ConvBatchNorm,
    downsample: Option<ConvBatchNorm>,
    stride: usize,
}

impl Bottleneck {
    fn new(inner: usize, planes: usize, stride: usize, scope: &Scope) -> Self {
        let out = planes * EXPANSION;
        let conv = |i: usize, inner, out, kernel, gain| {
            let (conv, norm) = (scope.enter(format!("conv{i}")), scope.enter(format!("bn{i}")));
            ConvBatchNorm::new([inner, out, kernel, 1], gain, &conv, &norm)
        };
        let downsample = scope.enter("downsample");
        Self {
            conv1: conv(1, inner, planes, 1, 1.0),
            conv2: conv(2, planes, planes, 3, 1.0),
            // A block begins as its shortcut.
            conv3: conv(3, planes, out, 1, 0.0),
            downsample: (stride > 1 || inner != out).then(|| {
                ConvBatchNorm::new([inner, out, 1, 1], 1.0, &downsample.enter(0), &downsample.enter(1))
            }),
            stride,
        }
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let pooled = |x: Tensor| if self.stride > 1 { ops::avg_pool2d(&x, self.stride) } else { x };
        let shortcut = match &self.downsample {
            Some(conv) => conv.forward(&pooled(x.clone()), None, false, pass),
            None => x.clone(),
        };
        let y = self.conv1.forward(x, None, true, pass);
        let y = pooled(self.conv2.forward(&y, None, true, pass));
        self.conv3.forward(&y, Some(&shortcut), true, pass)
    }
}

/// Attention of the mean of all positions to all positions and itself.
struct AttentionPool {
    positional_embedding: Param,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    c_proj: Linear,
    heads: usize,
}

impl AttentionPool {
    fn new(config: &ResNetConfig, output_dim: usize, scope: &Scope) -> Self {
        let width = config.pooled_size();
        let init = Init::Normal((width as f32).sqrt().recip());
        let linear = |name, out| Linear::new(width, out, init, Init::fan_in(width), &scope.enter(name));
        let positions = config.grid() * config.grid() + 1;
        Self {
            positional_embedding: scope.param("positional_embedding", &[positions, width], init),
            q_proj: linear("q_proj", width),
            k_proj: linear("k_proj", width),
            v_proj: linear("v_proj", width),
            c_proj: linear("c_proj", output_dim),
            heads: config.num_attention_heads,
        }
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Tensor {
        let [batch, height, width, channels] = x.dims();
        let positions = x.reshape(&[batch, height * width, channels]);
        let mean = ops::mean_axis(&positions, 1).reshape(&[batch, 1, channels]);
        pass.record(|| "vision.attnpool.mean_token".into(), || mean.reshape(&[batch, channels]));
        let tokens = ops::concat(&[&mean, &positions], 1);
        let tokens = ops::add(&tokens, &self.positional_embedding.value());
        pass.record(|| "vision.attnpool.tokens".into(), || tokens.clone());
        let query = ops::narrow(&tokens, 1, 0, 1);
        let (q, k, v) =
            (self.q_proj.forward(&query), self.k_proj.forward(&tokens), self.v_proj.forward(&tokens));
        pass.record(
            || "vision.attnpool.weights".into(),
            || ops::attention_weights(&q, &k, self.heads, AttentionMask::default()),
        );
        let pooled =
            ops::attention(&q, &k, &v, self.heads, AttentionMask::default(), self.q_proj.precision());
        self.c_proj.forward(&pooled.reshape(&[batch, channels]))
    }
}
