//! Batch normalisation of channels over rows, fused with a residual and a ReLU.
//!
//! Rows may be short (16 channels), so several are taken together as one wide row and folded at the end: vectors are full
//! whatever the number of channels. Memory is the limit: the statistics read x once, with mean and deviations of a block
//! while it is in the cache, and the result once more; the backward pass masks and sums in one pass.

use super::row_count;
use crate::aligned::Scratch;
use crate::reduce::sum_rows_by;
use crate::threads::{CHUNK, SendPtr, parallel_chunks_mut};

/// Wide rows have about this many elements.
const WIDE: usize = 256;

/// Statistics are computed exactly within blocks of about this many elements, which stay in the cache.
const BLOCK: usize = 8 << 10;

multiversion! {
    /// `sums += Σ rows` for rows as long as `sums`; a last row may be shorter.
    fn add_rows(x: &[f32], sums: &mut [f32]) {
        for row in x.chunks(sums.len()) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
        }
    }

    /// `sums += Σ (row - mean)²`.
    fn add_squared_deviations(x: &[f32], mean: &[f32], sums: &mut [f32]) {
        for row in x.chunks(sums.len()) {
            sums.iter_mut().zip(row).zip(mean).for_each(|((sum, x), mean)| *sum += (x - mean) * (x - mean));
        }
    }

    fn apply(
        x: &[f32],
        mean: &[f32],
        scale: &[f32],
        beta: &[f32],
        residual: Option<&[f32]>,
        relu: bool,
        y: &mut [f32],
    ) {
        for (i, (y, x)) in y.chunks_mut(scale.len()).zip(x.chunks(scale.len())).enumerate() {
            for ((((y, x), mean), scale), beta) in y.iter_mut().zip(x).zip(mean).zip(scale).zip(beta) {
                *y = (x - mean) * scale + beta;
            }
            if let Some(residual) = residual {
                y.iter_mut().zip(&residual[i * scale.len()..]).for_each(|(y, r)| *y += r);
            }
            if relu {
                y.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y });
            }
        }
    }

    /// The gradient behind the ReLU, to `g`.
    fn mask(dy: &[f32], y: &[f32], relu: bool, g: &mut [f32]) {
        if relu {
            g.iter_mut().zip(dy).zip(y).for_each(|((g, &dy), &y)| *g = if y > 0.0 { dy } else { 0.0 });
        } else {
            g.copy_from_slice(dy);
        }
    }

    /// `dgamma += Σ g · (x - mean) · rstd` and `dbeta += Σ g`.
    fn add_parameter_gradients(
        g: &[f32],
        x: &[f32],
        mean: &[f32],
        rstd: &[f32],
        dgamma: &mut [f32],
        dbeta: &mut [f32],
    ) {
        let width = mean.len();
        for (g, x) in g.chunks(width).zip(x.chunks(width)) {
            for (((((dgamma, dbeta), g), x), mean), rstd) in
                dgamma.iter_mut().zip(dbeta.iter_mut()).zip(g).zip(x).zip(mean).zip(rstd)
            {
                *dgamma += g * ((x - mean) * rstd);
                *dbeta += g;
            }
        }
    }

    /// `dx = g · a - (x - mean) · b - c`, with a, b, c and mean of each channel.
    fn input_gradient(g: &[f32], x: &[f32], a: &[f32], b: &[f32], c: &[f32], mean: &[f32], dx: &mut [f32]) {
        let width = a.len();
        for ((dx, g), x) in dx.chunks_mut(width).zip(g.chunks(width)).zip(x.chunks(width)) {
            for ((((((dx, g), x), a), b), c), mean) in dx.iter_mut().zip(g).zip(x).zip(a).zip(b).zip(c).zip(mean) {
                *dx = g * a - (x - mean) * b - c;
            }
        }
    }
}

/// Copies of a per-channel vector side by side, as long as a wide row.
fn widen(channel: &[f32], copies: usize) -> Vec<f32> {
    channel.repeat(copies)
}

/// Sums the copies of each channel in a wide row.
fn fold(wide: &[f32], channels: usize) -> impl Iterator<Item = f32> {
    (0..channels).map(move |c| wide.iter().skip(c).step_by(channels).sum())
}

/// Running count, mean and sum of squared deviations of each channel.
struct Moments {
    count: f64,
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Moments {
    fn new(channels: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; channels], deviation: vec![0.0; channels] }
    }

    /// Takes in more rows (Chan, Golub and LeVeque 1979).
    fn merge(&mut self, count: f64, parts: impl Iterator<Item = (f64, f64)>) {
        let total = self.count + count;
        for ((mean, deviation), (other_mean, other_deviation)) in
            self.mean.iter_mut().zip(&mut self.deviation).zip(parts)
        {
            let delta = other_mean - *mean;
            *mean += delta * count / total;
            *deviation += other_deviation + delta * delta * self.count * count / total;
        }
        self.count = total;
    }

    fn of_rows(x: &[f32], channels: usize) -> Self {
        let copies = (WIDE / channels).max(1);
        let block = (BLOCK / (channels * copies)).max(1) * channels * copies;
        let mut moments = Self::new(channels);
        let mut sums = vec![0.0; channels * copies];
        for x in x.chunks(block) {
            let count = (x.len() / channels) as f32;
            sums.fill(0.0);
            add_rows(x, &mut sums);
            let mean: Vec<f32> = fold(&sums, channels).map(|sum| sum / count).collect();
            sums.fill(0.0);
            add_squared_deviations(x, &widen(&mean, copies), &mut sums);
            let parts = mean.iter().map(|&m| f64::from(m)).zip(fold(&sums, channels).map(f64::from));
            moments.merge(f64::from(count), parts);
        }
        moments
    }
}

/// Batch normalisation in training: `y = act((x - mean) / sqrt(var + eps) · gamma + beta + residual)` for
/// `x [rows, channels]`, where act is ReLU or nothing. `mean` and `var` receive the mean and the biased variance of
/// each channel.
pub fn batch_norm_train(
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    residual: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
    mean: &mut [f32],
    var: &mut [f32],
) {
    let channels = gamma.len();
    let rows = row_count("batch_norm_train", x.len(), channels);
    assert_eq!(x.len(), y.len(), "batch_norm_train: x and y differ in length");
    assert!(
        beta.len() == channels && mean.len() == channels && var.len() == channels,
        "batch_norm_train: gamma, beta, mean and var have one element per channel"
    );
    assert!(residual.is_none_or(|r| r.len() == x.len()), "batch_norm_train: the residual is shaped as x");
    if channels == 0 {
        return;
    }

    const PARTS: usize = 16;
    let part_rows = rows.div_ceil(PARTS).max(CHUNK.div_ceil(channels));
    let mut parts: Vec<Moments> = (0..rows.div_ceil(part_rows)).map(|_| Moments::new(channels)).collect();
    parallel_chunks_mut(&mut parts, 1, |i, part| {
        let rows = i * part_rows..rows.min((i + 1) * part_rows);
        part[0] = Moments::of_rows(&x[rows.start * channels..rows.end * channels], channels);
    });
    let mut moments = Moments::new(channels);
    for part in &parts {
        moments.merge(part.count, part.mean.iter().copied().zip(part.deviation.iter().copied()));
    }
    for channel in 0..channels {
        mean[channel] = moments.mean[channel] as f32;
        var[channel] = (moments.deviation[channel] / moments.count.max(1.0)) as f32;
    }

    let scale: Vec<f32> = gamma.iter().zip(&*var).map(|(gamma, var)| gamma / (var + eps).sqrt()).collect();
    let copies = (WIDE / channels).max(1);
    let [mean, scale, beta] = [&*mean, &scale, beta].map(|channel| widen(channel, copies));
    let chunk = (CHUNK / scale.len()).max(1) * scale.len();
    parallel_chunks_mut(y, chunk, |i, y| {
        let at = i * chunk..i * chunk + y.len();
        apply(&x[at.clone()], &mean, &scale, &beta, residual.map(|r| &r[at]), relu, y);
    });
}

/// Gradients of [`batch_norm_train`] from its results; `dx`, `dresidual`, `dgamma` and `dbeta` are overwritten.
pub fn batch_norm_backward(
    dy: &[f32],
    x: &[f32],
    y: &[f32],
    gamma: &[f32],
    mean: &[f32],
    var: &[f32],
    eps: f32,
    relu: bool,
    dx: &mut [f32],
    dresidual: Option<&mut [f32]>,
    dgamma: &mut [f32],
    dbeta: &mut [f32],
) {
    let channels = gamma.len();
    let rows = row_count("batch_norm_backward", x.len(), channels);
    assert!(
        dy.len() == x.len() && y.len() == x.len() && dx.len() == x.len(),
        "batch_norm_backward: dy, x, y and dx differ in length"
    );
    assert!(
        [mean, var, &*dgamma, &*dbeta].iter().all(|v| v.len() == channels),
        "batch_norm_backward: mean, var, dgamma and dbeta have one element per channel"
    );
    if channels == 0 {
        return;
    }
    let rstd: Vec<f32> = var.iter().map(|var| 1.0 / (var + eps).sqrt()).collect();
    let copies = (WIDE / channels).max(1);
    let width = copies * channels;
    let (wide_mean, wide_rstd) = (widen(mean, copies), widen(&rstd, copies));

    // The masked gradient is kept, in `dresidual` where that is wanted anyway, and read again for `dx`.
    let mut own_masked;
    let masked: &mut [f32] = match dresidual {
        Some(dresidual) => {
            assert_eq!(dresidual.len(), x.len(), "batch_norm_backward: dresidual is shaped as x");
            dresidual
        }
        None => {
            own_masked = Scratch::take(if relu { x.len() } else { 0 });
            &mut own_masked
        }
    };
    let keep = !masked.is_empty();
    let g = SendPtr(masked.as_mut_ptr());
    let wide_rows = rows.div_ceil(copies);
    let mut sums = vec![0.0; 2 * width];
    sum_rows_by(wide_rows, 2 * width, &mut sums, |range, sums| {
        let (dgamma, dbeta) = sums.split_at_mut(width);
        let (start, end) = (range.start * width, x.len().min(range.end * width));
        for start in (start..end).step_by(width) {
            let at = start..end.min(start + width);
            let g = if keep {
                // SAFETY: as long as x where it is kept; the ranges of rows are disjoint.
                let g = unsafe { g.slice(at.start, at.len()) };
                mask(&dy[at.clone()], &y[at.clone()], relu, g);
                &*g
            } else {
                &dy[at.clone()]
            };
            add_parameter_gradients(g, &x[at], &wide_mean, &wide_rstd, dgamma, dbeta);
        }
    });
    dgamma.iter_mut().zip(fold(&sums[..width], channels)).for_each(|(d, sum)| *d = sum);
    dbeta.iter_mut().zip(fold(&sums[width..], channels)).for_each(|(d, sum)| *d = sum);

    let count = rows.max(1) as f32;
    let scale: Vec<f32> = gamma.iter().zip(&rstd).map(|(gamma, rstd)| gamma * rstd).collect();
    let per_channel = |f: &dyn Fn(usize) -> f32| widen(&(0..channels).map(f).collect::<Vec<_>>(), copies);
    let a = per_channel(&|c| scale[c]);
    let b = per_channel(&|c| scale[c] * rstd[c] * dgamma[c] / count);
    let c = per_channel(&|c| scale[c] * dbeta[c] / count);
    let g: &[f32] = if keep { masked } else { dy };
    let chunk = (CHUNK / width).max(1) * width;
    parallel_chunks_mut(dx, chunk, |i, dx| {
        let at = i * chunk..i * chunk + dx.len();
        input_gradient(&g[at.clone()], &x[at], &a, &b, &c, &wide_mean, dx);
    });
}
