//! Softmax over rows: three passes over a row that stays in the first-level cache. The exponential has no branch and no
//! table, so that it runs in all lanes; it is the limit.

use crate::math::{exp, max, sum_of};
use crate::threads::{CHUNK, parallel_chunks_mut};

multiversion! {
    /// Softmax of one row; the log of the sum of exponentials is returned.
    pub(crate) fn softmax_row(x: &[f32], y: &mut [f32]) -> f32 {
        let largest = max(x);
        for (y, &x) in y.iter_mut().zip(x) {
            *y = exp(x - largest);
        }
        let total = sum_of([y], |[y]| y);
        let factor = 1.0 / total;
        y.iter_mut().for_each(|y| *y *= factor);
        largest + total.ln()
    }
}

multiversion! {
    /// The log of the sum of exponentials of `x`: what is taken from each element to make it the log of its probability. Negative
    /// infinity or no number where an element is infinite or none.
    pub fn log_sum_exp(x: &[f32]) -> f32 {
        let largest = max(x);
        let total = sum_of([x], |[x]| exp(x - largest));
        // As the log of the largest probability of [`softmax`] has it, to the bit.
        largest - (1.0 / total).ln()
    }
}

/// Softmax of each row of `cols` elements.
pub fn softmax(x: &[f32], cols: usize, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "softmax: x and y differ in length");
    if x.is_empty() {
        return;
    }
    assert!(cols > 0 && x.len().is_multiple_of(cols), "softmax: {} elements are not rows of {cols}", x.len());
    let chunk = (CHUNK / cols).max(1) * cols;
    parallel_chunks_mut(y, chunk, |i, y| {
        for (y, x) in y.chunks_exact_mut(cols).zip(x[i * chunk..].chunks_exact(cols)) {
            softmax_row(x, y);
        }
    });
}
