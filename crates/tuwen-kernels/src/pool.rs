//! Average pooling of images `[batch, height, width, channels]`: windows are sums of runs of channels, read once.

use crate::threads::{CHUNK, parallel_chunks_mut};

/// `y [batch, height / k, width / k, channels]` = the mean of each `k` by `k` window; windows do not overlap, and
/// what is left over at the right and the bottom is ignored.
pub fn avg_pool2d(
    x: &[f32],
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    k: usize,
    y: &mut [f32],
) {
    let (out_height, out_width) = output_size(batch * height * width * channels, x.len(), height, width, k);
    assert_eq!(y.len(), batch * out_height * out_width * channels, "avg_pool2d: wrong length of y");
    let factor = 1.0 / (k * k) as f32;
    let row_len = out_width * channels;
    if row_len == 0 {
        return;
    }
    each_row(y, row_len, |row, y| {
        let (image, top) = (row / out_height, row % out_height * k);
        y.fill(0.0);
        for line in 0..k {
            let x = &x[(image * height + top + line) * width * channels..][..out_width * k * channels];
            for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(k * channels)) {
                for pixel in x.chunks_exact(channels) {
                    y.iter_mut().zip(pixel).for_each(|(y, x)| *y += x);
                }
            }
        }
        y.iter_mut().for_each(|y| *y *= factor);
    });
}

/// Gradient of [`avg_pool2d`]: `dx` is overwritten.
pub fn avg_pool2d_backward(
    dy: &[f32],
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    k: usize,
    dx: &mut [f32],
) {
    let (out_height, out_width) = output_size(batch * height * width * channels, dx.len(), height, width, k);
    assert_eq!(
        dy.len(),
        batch * out_height * out_width * channels,
        "avg_pool2d_backward: wrong length of dy"
    );
    let factor = 1.0 / (k * k) as f32;
    let row_len = width * channels;
    if row_len == 0 {
        return;
    }
    each_row(dx, row_len, |row, dx| {
        let (image, window) = (row / height, row % height / k);
        dx.fill(0.0);
        if window == out_height {
            return;
        }
        let dy = &dy[(image * out_height + window) * out_width * channels..][..out_width * channels];
        for (dx, dy) in dx.chunks_mut(k * channels).zip(dy.chunks_exact(channels)) {
            for pixel in dx.chunks_exact_mut(channels) {
                pixel.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy * factor);
            }
        }
    });
}

/// Calls `f(row, values)` for each row, in tasks of enough rows.
fn each_row(data: &mut [f32], row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    let rows_per_task = (CHUNK / row_len).max(1);
    parallel_chunks_mut(data, rows_per_task * row_len, |task, data| {
        (task * rows_per_task..).zip(data.chunks_exact_mut(row_len)).for_each(|(row, values)| f(row, values));
    });
}

fn output_size(expected: usize, got: usize, height: usize, width: usize, k: usize) -> (usize, usize) {
    assert!(k > 0, "avg_pool2d: windows of no pixels");
    assert_eq!(got, expected, "avg_pool2d: wrong length of the image");
    (height / k, width / k)
}
