//! Scaling rows to unit length; a row is read from memory once and from the first-level cache a second time.

use super::row_count;
use crate::math::sum_of;
use crate::threads::{CHUNK, SendPtr, parallel_chunks_mut};

multiversion! {
    /// Normalises a row; its norm is returned.
    fn normalize_row(x: &[f32], eps: f32, y: &mut [f32]) -> f32 {
        let norm = sum_of([x], |[x]| x * x).sqrt();
        let factor = 1.0 / if norm > eps { norm } else { eps };
        y.iter_mut().zip(x).for_each(|(y, x)| *y = x * factor);
        norm
    }

    fn backward_row(dy: &[f32], y: &[f32], norm: f32, eps: f32, dx: &mut [f32]) {
        let (along, factor) =
            if norm > eps { (sum_of([dy, y], |[dy, y]| dy * y), 1.0 / norm) } else { (0.0, 1.0 / eps) };
        for ((dx, dy), y) in dx.iter_mut().zip(dy).zip(y) {
            *dx = (dy - y * along) * factor;
        }
    }
}

/// `y = x / max(‖x‖, eps)` for each row of `cols` elements; `norm` receives `‖x‖` of each row.
pub fn l2_normalize(x: &[f32], cols: usize, eps: f32, y: &mut [f32], norm: &mut [f32]) {
    let rows = row_count("l2_normalize", x.len(), cols);
    assert_eq!(x.len(), y.len(), "l2_normalize: x and y differ in length");
    assert_eq!(norm.len(), rows, "l2_normalize: one norm per row");
    let y = SendPtr(y.as_mut_ptr());
    let rows_per_task = (CHUNK / cols.max(1)).max(1);
    parallel_chunks_mut(norm, rows_per_task, |task, norms| {
        for (row, norm) in (task * rows_per_task..).zip(norms) {
            // SAFETY: each row belongs to one task; y is as long as x.
            let y = unsafe { y.slice(row * cols, cols) };
            *norm = normalize_row(&x[row * cols..][..cols], eps, y);
        }
    });
}

/// Gradient of [`l2_normalize`] from its results `y` and `norm`; `dx` is overwritten.
pub fn l2_normalize_backward(dy: &[f32], y: &[f32], norm: &[f32], cols: usize, eps: f32, dx: &mut [f32]) {
    let rows = row_count("l2_normalize_backward", y.len(), cols);
    assert!(
        dy.len() == y.len() && dx.len() == y.len(),
        "l2_normalize_backward: dy, y and dx differ in length"
    );
    assert_eq!(norm.len(), rows, "l2_normalize_backward: one norm per row");
    if rows == 0 {
        return;
    }
    let rows_per_task = (CHUNK / cols).max(1);
    parallel_chunks_mut(dx, rows_per_task * cols, |task, dx| {
        for (i, dx) in dx.chunks_exact_mut(cols).enumerate() {
            let row = task * rows_per_task + i;
            let at = row * cols..(row + 1) * cols;
            backward_row(&dy[at.clone()], &y[at], norm[row], eps, dx);
        }
    });
}
