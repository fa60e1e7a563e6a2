//! Definitions of arithmetic on elements, of sums, of rows of tables, and of the optimizer.

use super::Real;
use crate::optimizer::AdamW;

/// `f` of each pair of elements.
fn each<R: Real>(a: &[R], b: &[R], f: impl Fn(R, R) -> R) -> Vec<R> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

/// `a + b`
pub fn add<R: Real>(a: &[R], b: &[R]) -> Vec<R> {
    each(a, b, |a, b| a + b)
}

/// `a · b`, element by element.
pub fn mul<R: Real>(a: &[R], b: &[R]) -> Vec<R> {
    each(a, b, |a, b| a * b)
}

/// `x + b`, where `b` repeats over the leading dimensions of `x`.
pub fn add_broadcast<R: Real>(x: &[R], b: &[R]) -> Vec<R> {
    x.iter().enumerate().map(|(i, &x)| x + b[i % b.len()]).collect()
}

/// `y + alpha · x`
pub fn axpy<R: Real>(alpha: R, x: &[R], y: &[R]) -> Vec<R> {
    each(x, y, |x, y| y + alpha * x)
}

/// `y + weight · (x - y)`
pub fn lerp<R: Real>(weight: R, x: &[R], y: &[R]) -> Vec<R> {
    each(x, y, |x, y| y + weight * (x - y))
}

/// `alpha · x`
pub fn scale<R: Real>(x: &[R], alpha: R) -> Vec<R> {
    x.iter().map(|&x| alpha * x).collect()
}

/// `Σ x`
pub fn sum<R: Real>(x: &[R]) -> R {
    x.iter().copied().sum()
}

/// `Σ a · b`
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    sum(&mul(a, b))
}

/// `Σ x²`
pub fn sum_squares<R: Real>(x: &[R]) -> R {
    dot(x, x)
}

/// The sum of each column of `x [rows, cols]`.
pub fn column_sums<R: Real>(x: &[R], cols: usize) -> Vec<R> {
    (0..cols).map(|c| x.iter().skip(c).step_by(cols).copied().sum()).collect()
}

/// `table[ids[i]]` for rows of `cols` elements.
pub fn gather_rows<R: Real>(table: &[R], cols: usize, ids: &[u32]) -> Vec<R> {
    ids.iter().flat_map(|&id| table[id as usize * cols..][..cols].iter().copied()).collect()
}

/// `table` with `dout[i]` added to row `ids[i]`, in the order of `ids`.
pub fn scatter_add_rows<R: Real>(dout: &[R], cols: usize, ids: &[u32], table: &[R]) -> Vec<R> {
    let mut table = table.to_vec();
    for (i, &id) in ids.iter().enumerate() {
        for c in 0..cols {
            table[id as usize * cols + c] += dout[i * cols + c];
        }
    }
    table
}

/// One step of AdamW for one parameter, as PyTorch's documentation defines it: the new parameter and the new running
/// means of the gradient and of its square.
pub fn adamw<R: Real>(p: R, g: R, m: R, v: R, options: &AdamW) -> (R, R, R) {
    let (one, of) = (R::of(1.0), |x: f32| R::of(f64::from(x)));
    let (beta1, beta2) = (of(options.beta1), of(options.beta2));
    let m = beta1 * m + (one - beta1) * g;
    let v = beta2 * v + (one - beta2) * g * g;
    let corrected = |mean: R, beta: f32| mean / (one - R::of(f64::from(beta).powf(options.step as f64)));
    let p = p * (one - of(options.lr) * of(options.weight_decay));
    let step = corrected(m, options.beta1) / (corrected(v, options.beta2).sqrt() + of(options.eps));
    (p - of(options.lr) * step, m, v)
}
