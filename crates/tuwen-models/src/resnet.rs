//! The ModifiedResNet of CLIP: three convolutions as stem, anti-aliased strides, attention pooling.
//!
//! Reference: openai/CLIP `clip/model.py` (`ModifiedResNet`, `AttentionPool2d`); no Hugging Face layout exists, so
//! parameter names are what follows `visual.` there. Activations are channels-last inside.

mod attention_pool;

use std::sync::Arc;

use tuwen_nn::{ConvBatchNorm, Pass, Scope};
use tuwen_tensor::{Precision, Tensor, ops};

use attention_pool::AttentionPool;

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
            // Rounding the pixels and what the stem makes of them would be three quarters of the error of bf16, in a
            // twentieth of the work. In int8 the pixels are exact, and the rest in bf16.
            let conv = if i == 1 { conv.finer().finer() } else { conv.finer() };
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
        let channels_last = || ops::permute(pixel_values, &[0, 2, 3, 1]);
        pass.record(|| "vision.conv1".into(), || channels_first(&self.stem[0].convolve(&channels_last())));
        let maps = self.maps(pass).and_then(|exact| self.stem[0].to_maps(pixel_values, exact));
        let mut x = maps.unwrap_or_else(|| self.stem[0].forward(&channels_last(), None, true, pass));
        for conv in &self.stem[1..] {
            x = conv.forward(&x, None, true, pass);
        }
        x = ops::avg_pool2d(&x, 2);
        pass.record(|| "vision.stem".into(), || channels_first(&ops::from_maps(&x)));
        for (s, stage) in self.stages.iter().enumerate() {
            for (b, block) in stage.iter().enumerate() {
                let block = block.clone();
                x = pass.block(&x, move |x, pass| block.forward(x, pass));
                pass.record(|| format!("vision.layer{}.{b}", s + 1), || channels_first(&ops::from_maps(&x)));
            }
        }
        self.pool.forward(&ops::from_maps(&x), pass)
    }

    /// Whether convolutions can hand maps in bf16 on to each other, in inference with reduced weights, and whether those of the stem
    /// are exact ones.
    fn maps(&self, pass: &Pass) -> Option<bool> {
        let stem = |precision| self.stem[1..].iter().all(|conv| conv.takes_maps(precision));
        let blocks = || self.stages.iter().flatten().all(|block| block.takes_maps());
        let exact = stem(Precision::F32);
        (!pass.is_training() && (exact || stem(Precision::Bf16)) && blocks()).then_some(exact)
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

    /// Whether all of its convolutions can take and give maps.
    fn takes_maps(&self) -> bool {
        let convolutions = [&self.conv1, &self.conv2, &self.conv3].into_iter().chain(&self.downsample);
        self.stride <= 2 && convolutions.into_iter().all(|conv| conv.takes_maps(Precision::Bf16))
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
