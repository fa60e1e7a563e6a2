//! Branch-free elementary functions that vectorise, and sums in fixed lanes.

/// `e^x`, relative error below 2e-7. Zero below the smallest normal number, infinite above 2.4e38.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.336_54;
    const HIGHEST: f32 = 88.376_26;
    /// Adding this rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: products of the first with small integers are exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Every branch chooses between two constants or arguments: a branch over the result would keep LLVM from vectorising,
    // because it moves the computation into it.
    let clamped = if x > HIGHEST { HIGHEST } else { x };
    let beyond = if x > HIGHEST { f32::INFINITY } else { 0.0 };
    let mask = if x < LOWEST { 0 } else { !0u32 };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    // Taylor: |r| <= ln 2 / 2, so the first term left out is below 6e-9.
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    let fraction = p * (r * r) + r + 1.0;
    let power_of_two = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    let value = fraction * power_of_two + beyond;
    f32::from_bits(value.to_bits() & mask)
}

/// `e^x` for x of at most 0 with a relative error below 1e-5, which is little beside the rounding of bf16; 2^-126 is the
/// least value. Half as many instructions as [`exp`], where they are fused.
#[inline(always)]
pub(crate) fn rough_exp(x: f32) -> f32 {
    /// Adding this rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x * std::f32::consts::LOG2_E;
    let x = if x > -126.0 { x } else { -126.0 };
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    // Minimax fit of 2^r on [-1/2, 1/2].
    let mut p = 9.582_83e-3_f32;
    p = p.mul_add(r, 5.590_64e-2);
    p = p.mul_add(r, 2.402_409_9e-1);
    p = p.mul_add(r, 6.931_242e-1);
    p = p.mul_add(r, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + x)` for x in 0 to 1, relative error below 3e-7.
#[inline(always)]
pub(crate) fn log1p(x: f32) -> f32 {
    // ln((1 + s) / (1 - s)) with s at most 1/3, so the first term left out is below 1e-9 of the sum.
    let s = x / (2.0 + x);
    let square = s * s;
    let mut p = 1.0 / 17.0;
    p = p * square + 1.0 / 15.0;
    p = p * square + 1.0 / 13.0;
    p = p * square + 1.0 / 11.0;
    p = p * square + 1.0 / 9.0;
    p = p * square + 1.0 / 7.0;
    p = p * square + 1.0 / 5.0;
    p = p * square + 1.0 / 3.0;
    2.0 * s + 2.0 * s * square * p
}

/// The error function, absolute error below 1.2e-7.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    // From 4 on, 1 - erf is below half a unit in the last place.
    let t = if x.abs() > 4.0 { 4.0 } else { x.abs() };
    // Minimax fit of ln(1 - erf t) / t on [0, 4], weighted for the error of erf: 6e-9.
    let mut p = 8.043_776e-6;
    p = p * t - 1.060_262_4e-4;
    p = p * t + 5.879_492_4e-4;
    p = p * t - 1.576_757_4e-3;
    p = p * t + 5.877_868_5e-5;
    p = p * t + 1.921_714_5e-2;
    p = p * t - 1.027_992_14e-1;
    p = p * t - 6.366_161e-1;
    p = p * t - 1.128_379_3;
    (1.0 - exp(p * t)).copysign(x)
}

/// Lanes of a reduction: fixed, so that it gives the same bits on every instruction set.
pub(crate) const LANES: usize = 32;

/// Combines `f` of the elements of all inputs, which are equally long, lane by lane, and then the lanes by halves.
#[inline(always)]
fn reduce<const N: usize>(
    neutral: f32,
    inputs: [&[f32]; N],
    f: impl Fn([f32; N]) -> f32,
    combine: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [neutral; LANES];
    let blocks = inputs.map(|input| input.as_chunks::<LANES>());
    for i in 0..blocks[0].0.len() {
        let block = blocks.map(|(whole, _)| &whole[i]);
        for (lane, value) in lanes.iter_mut().enumerate() {
            *value = combine(*value, f(block.map(|block| block[lane])));
        }
    }
    let rest = blocks.map(|(_, rest)| rest);
    if !rest[0].is_empty() {
        // Filled up first: the lanes stay in registers if they are never used in part.
        let mut last = [neutral; LANES];
        for (i, value) in last[..rest[0].len()].iter_mut().enumerate() {
            *value = f(rest.map(|rest| rest[i]));
        }
        for (lane, last) in lanes.iter_mut().zip(&last) {
            *lane = combine(*lane, *last);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = combine(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ f(elements)` over equally long inputs.
#[inline(always)]
pub(crate) fn sum_of<const N: usize>(inputs: [&[f32]; N], f: impl Fn([f32; N]) -> f32) -> f32 {
    reduce(0.0, inputs, f, |a, b| a + b)
}

/// The largest element; negative infinity of none. NaN is passed over.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    reduce(f32::NEG_INFINITY, [x], |[x]| x, |a, b| if b > a { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn exp_is_accurate_to_two_units() {
        for i in -873_000..883_000 {
            let x = i as f32 * 1e-4;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2e-7, "exp({x}): relative error {error}");
        }
    }

    #[test]
    fn rough_exp_is_accurate_enough_for_bf16() {
        for i in -873_000..=0 {
            let x = i as f32 * 1e-4;
            let expected = f64::from(x).exp();
            let error = (f64::from(rough_exp(x)) - expected).abs() / expected;
            assert!(error < 1e-5, "rough_exp({x}): relative error {error}");
        }
        assert_eq!(rough_exp(0.0), 1.0);
        assert!(rough_exp(f32::NEG_INFINITY) < 1.2e-38);
    }

    #[test]
    fn exp_has_sane_limits() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(89.0), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(sigmoid(f32::INFINITY), 1.0);
        assert_eq!(sigmoid(-200.0), 0.0);
    }

    #[test]
    fn log1p_keeps_small_terms() {
        for x in (0..=1_000_000).map(|i| i as f32 * 1e-6).chain([1e-10, 1e-20, 1e-38]) {
            let expected = f64::from(x).ln_1p();
            let error = (f64::from(log1p(x)) - expected).abs();
            assert!(error <= 3e-7 * expected, "log1p({x}): error {error}");
        }
        assert!(log1p(f32::NAN).is_nan());
    }

    #[test]
    fn erf_is_accurate_to_1e_7() {
        for i in -60_000..60_000 {
            let x = i as f32 * 1e-4;
            let error = f64::from(erf(x)) - reference::erf(f64::from(x));
            assert!(error.abs() < 1.2e-7, "erf({x}): error {error}");
        }
        assert!(erf(f32::NAN).is_nan());
        assert_eq!(erf(f32::INFINITY), 1.0);
        assert_eq!(erf(f32::NEG_INFINITY), -1.0);
    }

    #[test]
    fn sums_and_maxima_cover_every_element() {
        for len in [0, 1, 31, 32, 33, 257] {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(sum_of([&x], |[x]| x), (0..len).sum::<usize>() as f32);
            assert_eq!(max(&x), x.last().copied().unwrap_or(f32::NEG_INFINITY));
        }
    }
}
