//! Element-wise arithmetic. Memory is the limit: the gain is in not calling these, but fusing them into an epilogue.

use crate::threads::{CHUNK, parallel_chunks_mut};

multiversion! {
    fn add_chunk(a: &[f32], b: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a + b);
    }

    fn mul_chunk(a: &[f32], b: &[f32], out: &mut [f32]) {
        out.iter_mut().zip(a).zip(b).for_each(|((out, a), b)| *out = a * b);
    }

    fn axpy_chunk(alpha: f32, x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += alpha * x);
    }

    fn lerp_chunk(weight: f32, x: &[f32], y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y += weight * (x - *y));
    }

    fn scale_chunk(x: &[f32], alpha: f32, y: &mut [f32]) {
        y.iter_mut().zip(x).for_each(|(y, x)| *y = alpha * x);
    }
}

/// `out = a + b`.
pub fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == out.len() && b.len() == out.len(), "add: a, b and out differ in length");
    parallel_chunks_mut(out, CHUNK, |i, out| {
        add_chunk(&a[i * CHUNK..][..out.len()], &b[i * CHUNK..][..out.len()], out);
    });
}

/// `out = a · b`, element by element.
pub fn mul(a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == out.len() && b.len() == out.len(), "mul: a, b and out differ in length");
    parallel_chunks_mut(out, CHUNK, |i, out| {
        mul_chunk(&a[i * CHUNK..][..out.len()], &b[i * CHUNK..][..out.len()], out);
    });
}

/// `out = x + b`, where `b` repeats over the leading dimensions of `x`.
pub fn add_broadcast(x: &[f32], b: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "add_broadcast: x and out differ in length");
    if out.is_empty() {
        return;
    }
    assert!(
        !b.is_empty() && x.len().is_multiple_of(b.len()),
        "add_broadcast: {} elements do not repeat evenly over {}",
        b.len(),
        x.len()
    );
    let rows_per_task = (CHUNK / b.len()).max(1);
    let chunk = rows_per_task * b.len();
    parallel_chunks_mut(out, chunk, |i, out| {
        let x = &x[i * chunk..][..out.len()];
        out.chunks_exact_mut(b.len()).zip(x.chunks_exact(b.len())).for_each(|(out, x)| add_chunk(x, b, out));
    });
}

/// `y += alpha · x`.
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "axpy: x and y differ in length");
    parallel_chunks_mut(y, CHUNK, |i, y| axpy_chunk(alpha, &x[i * CHUNK..][..y.len()], y));
}

/// `y += weight · (x - y)`: moves y towards x.
pub fn lerp(weight: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lerp: x and y differ in length");
    parallel_chunks_mut(y, CHUNK, |i, y| lerp_chunk(weight, &x[i * CHUNK..][..y.len()], y));
}

/// `y = alpha · x`.
pub fn scale(x: &[f32], alpha: f32, y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "scale: x and y differ in length");
    parallel_chunks_mut(y, CHUNK, |i, y| scale_chunk(&x[i * CHUNK..][..y.len()], alpha, y));
}
