//! Loading a vision transformer at another image size: its grid of positions is interpolated.
//!
//! open_clip resizes with an anti-aliased bicubic kernel (`resize_pos_embed`), transformers without one
//! (`interpolate_pos_encoding`). The kernels are those of `torch.nn.functional.interpolate`.

use tuwen_tensor::checkpoint::{CheckpointError, RawTensor, TensorInfo, TensorSource};

use super::config::{ClipConfig, VisionConfig};

/// How the grid is interpolated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Four taps, a = -0.75, edges repeated: transformers.
    Bicubic,
    /// Taps widened when shrinking, a = -0.5, weights renormalised at the edges: open_clip.
    BicubicAntialias,
}

const NAME: &str = "vision_model.embeddings.position_embedding.weight";

/// A checkpoint whose positions are interpolated to another grid as they are read.
pub struct ResizedPositions<S> {
    source: S,
    /// The tensor of positions: `[rows, width]` or `[1, rows, width]`.
    name: &'static str,
    grid: usize,
    interpolation: Interpolation,
}

impl<S: TensorSource> ResizedPositions<S> {
    /// Sets the image size of a configuration, and resizes the positions of its checkpoint to match. A ResNet's
    /// attention pool keeps its size: its checkpoint then does not fit, and loading says so.
    pub fn new(source: S, config: &mut ClipConfig, image_size: usize, interpolation: Interpolation) -> Self {
        let grid = match &mut config.vision {
            VisionConfig::Vit(vit) => {
                vit.image_size = image_size;
                vit.grid()
            }
            VisionConfig::ResNet(resnet) => {
                resnet.image_size = image_size;
                resnet.grid()
            }
        };
        Self::of(source, NAME, grid, interpolation)
    }

    /// Resizes the positions of this name, `[rows, width]` or `[1, rows, width]`, to a grid of this side.
    pub fn of(source: S, name: &'static str, grid: usize, interpolation: Interpolation) -> Self {
        Self { source, name, grid, interpolation }
    }
}

impl<S: TensorSource> TensorSource for ResizedPositions<S> {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn info(&self, name: &str) -> Option<TensorInfo> {
        let mut info = self.source.info(name)?;
        if name == self.name
            && let [rows, _] | [1, rows, _] = info.shape.as_mut_slice()
        {
            *rows = self.grid * self.grid + 1;
        }
        Some(info)
    }

    fn read(&self, name: &str) -> Result<RawTensor<'_>, CheckpointError> {
        let tensor = self.source.read(name)?;
        let (&[rows, width] | &[1, rows, width]) = tensor.shape.as_slice() else { return Ok(tensor) };
        let from = rows.saturating_sub(1).isqrt();
        if name != self.name || from == self.grid || from * from + 1 != rows {
            return Ok(tensor);
        }
        let values = tensor.to_f32();
        let (class, grid) = values.split_at(width);
        let mut resized = class.to_vec();
        resized.extend(resize_grid(grid, width, from, self.grid, self.interpolation));
        let mut shape = tensor.shape.clone();
        let axis = shape.len() - 2;
        shape[axis] = self.grid * self.grid + 1;
        Ok(RawTensor::from_f32(&shape, &resized))
    }

    fn check(&self, name: &str) -> Result<(), CheckpointError> {
        self.source.check(name)
    }

    fn release(&self, name: &str) {
        self.source.release(name);
    }
}

/// Interpolates `[from, from, width]` to `[to, to, width]`.
pub fn resize_grid(
    values: &[f32],
    width: usize,
    from: usize,
    to: usize,
    interpolation: Interpolation,
) -> Vec<f32> {
    let taps: Vec<Vec<(usize, f64)>> = (0..to).map(|i| interpolation.taps(i, from, to)).collect();
    let mut resized = Vec::with_capacity(to * to * width);
    for rows in &taps {
        for columns in &taps {
            let at = resized.len();
            resized.resize(at + width, 0.0_f32);
            let mut sums = vec![0.0_f64; width];
            for &(y, wy) in rows {
                for &(x, wx) in columns {
                    let source = &values[(y * from + x) * width..][..width];
                    sums.iter_mut().zip(source).for_each(|(sum, &v)| *sum += wy * wx * f64::from(v));
                }
            }
            resized[at..].iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
        }
    }
    resized
}

impl Interpolation {
    /// Source positions and weights of output position `i`.
    fn taps(self, i: usize, from: usize, to: usize) -> Vec<(usize, f64)> {
        let scale = from as f64 / to as f64;
        let center = (i as f64 + 0.5) * scale;
        match self {
            Self::Bicubic => {
                let first = (center - 0.5).floor() as isize - 1;
                let tap = |x: isize| {
                    let weight = bicubic(center - 0.5 - x as f64, -0.75);
                    (x.clamp(0, from as isize - 1) as usize, weight)
                };
                (first..first + 4).map(tap).collect()
            }
            Self::BicubicAntialias => {
                let stretch = scale.max(1.0);
                let support = 2.0 * stretch;
                let first = ((center - support + 0.5) as isize).max(0) as usize;
                let last = ((center + support + 0.5) as usize).min(from);
                let weight = |x: usize| bicubic((x as f64 - center + 0.5) / stretch, -0.5);
                let total: f64 = (first..last).map(weight).sum();
                (first..last).map(|x| (x, weight(x) / total)).collect()
            }
        }
    }
}

/// Keys' cubic convolution kernel.
fn bicubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_grid_stays_constant_and_an_equal_one_stays_itself() {
        for interpolation in [Interpolation::Bicubic, Interpolation::BicubicAntialias] {
            for value in resize_grid(&[3.0; 50], 2, 5, 7, interpolation) {
                assert!((value - 3.0).abs() < 1e-6, "{value}");
            }
            let grid: Vec<f32> = (0..25).map(|i| (i * i) as f32).collect();
            assert_eq!(resize_grid(&grid, 1, 5, 5, interpolation), grid);
        }
    }
}
