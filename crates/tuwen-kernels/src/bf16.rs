//! Numbers in bf16, the upper halves of f32, where they are kept and not multiplied: two share an element of f32 memory.

use std::slice::{from_raw_parts, from_raw_parts_mut};

/// The bf16 number nearest to `x`, ties to even.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    // Rounding could turn a NaN into an infinity.
    if x.is_nan() { bits >> 16 | 0x40 } else { rounded }
}

/// The memory as bf16 numbers, twice as many.
pub(crate) fn halves(memory: &[f32]) -> &[u16] {
    // SAFETY: of an element of four bytes there are two of two bytes, at less alignment, and every bit pattern is a number.
    unsafe { from_raw_parts(memory.as_ptr().cast(), 2 * memory.len()) }
}

/// The memory as bf16 numbers, for writing.
pub(crate) fn halves_mut(memory: &mut [f32]) -> &mut [u16] {
    // SAFETY: as above, and the borrow is unique.
    unsafe { from_raw_parts_mut(memory.as_mut_ptr().cast(), 2 * memory.len()) }
}

/// Rounds numbers to bf16.
#[inline(always)]
pub(crate) fn round_each(x: &[f32], rounded: &mut [u16]) {
    for (rounded, x) in rounded.iter_mut().zip(x) {
        *rounded = nearest(*x) as u16;
    }
}

/// The same numbers in f32.
#[inline(always)]
pub(crate) fn widen_each(x: &[u16], wide: &mut [f32]) {
    for (wide, x) in wide.iter_mut().zip(x) {
        *wide = f32::from_bits(u32::from(*x) << 16);
    }
}

multiversion! {
    /// [`round_each`] with the instruction set in use.
    pub(crate) fn round(x: &[f32], rounded: &mut [u16]) {
        round_each(x, rounded);
    }

    /// [`widen_each`] with the instruction set in use.
    pub(crate) fn widen(x: &[u16], wide: &mut [f32]) {
        widen_each(x, wide);
    }
}
