//! Activation functions, forward and backward. Polynomials without a branch, so that LLVM vectorises them; most run in the
//! epilogue of a product and never touch memory of their own.

use crate::math::{erf, exp, sigmoid};
use crate::threads::{CHUNK, parallel_chunks_mut};

/// An activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// `x`
    #[default]
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `x Φ(x)`, exactly (through erf)
    Gelu,
    /// `x σ(1.702 x)`
    QuickGelu,
    /// `x σ(x)`
    Silu,
}

/// Slope of the sigmoid in [`Activation::QuickGelu`].
pub(crate) const QUICK_GELU_SLOPE: f32 = 1.702;

#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// GELU and its slope.
#[inline(always)]
fn gelu_and_slope(x: f32) -> (f32, f32) {
    const DENSITY_AT_0: f32 = 0.398_942_3;
    let twice = 1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2);
    (0.5 * x * twice, 0.5 * twice + x * DENSITY_AT_0 * exp(-0.5 * x * x))
}

/// `x σ(a x)` and its slope.
#[inline(always)]
fn gated_and_slope(x: f32, a: f32) -> (f32, f32) {
    let s = sigmoid(a * x);
    (x * s, s * (1.0 + a * x * (1.0 - s)))
}

#[inline(always)]
fn relu_and_slope(x: f32) -> (f32, f32) {
    (relu(x), if x > 0.0 { 1.0 } else { 0.0 })
}

#[inline(always)]
fn relu(x: f32) -> f32 {
    if x < 0.0 { 0.0 } else { x } // keeps NaN
}

#[inline(always)]
fn each(values: &mut [f32], f: impl Fn(f32) -> f32) {
    // A loop: the body of a closure in `for_each` is compiled without the instruction set when it is long.
    for v in values {
        *v = f(*v);
    }
}

/// Replaces inputs by outputs, and gradients of outputs by those of inputs, which are added to the sums of their columns.
#[inline(always)]
fn each_backward(z: &mut [f32], dz: &mut [f32], sums: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for (z, dz) in z.chunks_exact_mut(sums.len()).zip(dz.chunks_exact_mut(sums.len())) {
        for ((z, dz), sum) in z.iter_mut().zip(dz).zip(&mut *sums) {
            let (value, slope) = f(*z);
            *z = value;
            *dz *= slope;
            *sum += *dz;
        }
    }
}

/// Applies the activation in place.
#[inline(always)]
pub(crate) fn activate_in_place(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Identity => {}
        Activation::Relu => each(values, relu),
        Activation::Gelu => each(values, gelu),
        Activation::QuickGelu => each(values, |v| v * sigmoid(QUICK_GELU_SLOPE * v)),
        Activation::Silu => each(values, |v| v * sigmoid(v)),
    }
}

multiversion! {
    fn activate_backward_chunk(activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        dx.copy_from_slice(x);
        match activation {
            Activation::Identity => dx.fill(1.0),
            Activation::Relu => each(dx, |x| relu_and_slope(x).1),
            Activation::Gelu => each(dx, |x| gelu_and_slope(x).1),
            Activation::QuickGelu => each(dx, |x| gated_and_slope(x, QUICK_GELU_SLOPE).1),
            Activation::Silu => each(dx, |x| gated_and_slope(x, 1.0).1),
        }
        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx *= dy);
    }
}

multiversion! {
    /// Replaces inputs by outputs on this thread.
    pub(crate) fn activate_band(activation: Activation, values: &mut [f32]) {
        activate_in_place(activation, values);
    }

    /// On this thread: `z`, the inputs of the activation, become its outputs; `dz`, the gradients of the outputs, become
    /// those of the inputs; and `sums`, one a column, grow by them.
    pub(crate) fn activate_band_backward(
        activation: Activation,
        z: &mut [f32],
        dz: &mut [f32],
        sums: &mut [f32],
    ) {
        match activation {
            _ if sums.is_empty() => {}
            Activation::Identity => each_backward(z, dz, sums, |x| (x, 1.0)),
            Activation::Relu => each_backward(z, dz, sums, relu_and_slope),
            Activation::Gelu => each_backward(z, dz, sums, gelu_and_slope),
            Activation::QuickGelu => each_backward(z, dz, sums, |x| gated_and_slope(x, QUICK_GELU_SLOPE)),
            Activation::Silu => each_backward(z, dz, sums, |x| gated_and_slope(x, 1.0)),
        }
    }
}

/// `y = activation(x)`.
pub fn activate(activation: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "activate: x and y differ in length");
    parallel_chunks_mut(y, CHUNK, |i, y| {
        y.copy_from_slice(&x[i * CHUNK..][..y.len()]);
        activate_band(activation, y);
    });
}

/// `dx = dy · activation'(x)`; `x` is the input of the activation.
pub fn activate_backward(activation: Activation, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    assert!(x.len() == dx.len() && dy.len() == dx.len(), "activate_backward: x, dy and dx differ in length");
    parallel_chunks_mut(dx, CHUNK, |i, dx| {
        let (start, len) = (i * CHUNK, dx.len());
        activate_backward_chunk(activation, &x[start..][..len], &dy[start..][..len], dx);
    });
}
