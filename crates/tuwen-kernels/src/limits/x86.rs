//! Peaks of the vector units of x86-64.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::{Unit, x86_tiles};
use crate::Precision;

/// Independent sums: two units of a latency of four or five cycles need ten; 32 registers leave room for more.
const SUMS: usize = 24;
/// The same where there are 16 registers.
const FEW_SUMS: usize = 12;

/// Operations of a round of `sums` instructions on vectors of `lanes` sums of `products` products each.
const fn flops(sums: usize, lanes: usize, products: usize) -> u64 {
    (2 * sums * lanes * products) as u64
}

/// The unit that multiplies numbers of this precision fastest.
pub(super) fn unit(precision: Precision) -> Unit {
    let found = match precision {
        Precision::F32 => None,
        Precision::Bf16 => x86_tiles::bf16().or_else(bf16),
        Precision::Int8 => x86_tiles::int8().or_else(int8),
    };
    found.unwrap_or_else(f32)
}

fn f32() -> Unit {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has it.
        let run = |rounds| unsafe { fma_512(rounds) };
        return Unit { name: "AVX-512 FMA", flops: flops(SUMS, 16, 1), run };
    }
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has both.
        let run = |rounds| unsafe { fma_256(rounds) };
        return Unit { name: "AVX2 FMA", flops: flops(FEW_SUMS, 8, 1), run };
    }
    Unit { name: "SSE2", flops: flops(FEW_SUMS, 4, 1), run: sse2 }
}

fn bf16() -> Option<Unit> {
    let there = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
    // SAFETY: the CPU has both where the unit is given out.
    let run = |rounds| unsafe { dpbf16_512(rounds) };
    there.then_some(Unit { name: "AVX-512 BF16", flops: flops(SUMS, 16, 2), run })
}

fn int8() -> Option<Unit> {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        // SAFETY: the CPU has both.
        let run = |rounds| unsafe { dpbusd_512(rounds) };
        return Some(Unit { name: "AVX-512 VNNI", flops: flops(SUMS, 16, 4), run });
    }
    if is_x86_feature_detected!("avxvnni") {
        // SAFETY: the CPU has it.
        let run = |rounds| unsafe { dpbusd_256(rounds) };
        return Some(Unit { name: "AVX-VNNI", flops: flops(FEW_SUMS, 8, 4), run });
    }
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has it.
        let run = |rounds| unsafe { maddubs_256(rounds) };
        return Some(Unit { name: "AVX2 maddubs", flops: flops(FEW_SUMS, 8, 4), run });
    }
    None
}

/// Repeats `$step` on every one of `$count` sums.
macro_rules! peak_loop {
    ($rounds:expr, $start:expr, $count:expr, $step:expr) => {{
        let mut sums = [$start; $count];
        for _ in 0..$rounds {
            for sum in &mut sums {
                *sum = $step(*sum);
            }
        }
        black_box(sums);
    }};
}

#[target_feature(enable = "avx512f")]
fn fma_512(rounds: u64) {
    let (x, y) = black_box((_mm512_set1_ps(0.999), _mm512_set1_ps(0.001)));
    peak_loop!(rounds, _mm512_set1_ps(0.5), SUMS, |sum| _mm512_fmadd_ps(sum, x, y));
}

#[target_feature(enable = "avx2,fma")]
fn fma_256(rounds: u64) {
    let (x, y) = black_box((_mm256_set1_ps(0.999), _mm256_set1_ps(0.001)));
    peak_loop!(rounds, _mm256_set1_ps(0.5), FEW_SUMS, |sum| _mm256_fmadd_ps(sum, x, y));
}

fn sse2(rounds: u64) {
    let mut sums = [0.5_f32; 4 * FEW_SUMS];
    let (x, y) = black_box((0.999_f32, 0.001_f32));
    for _ in 0..rounds {
        sums.iter_mut().for_each(|sum| *sum = *sum * x + y);
    }
    black_box(sums);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn dpbf16_512(rounds: u64) {
    let ones = black_box(_mm512_cvtne2ps_pbh(_mm512_set1_ps(1.0), _mm512_set1_ps(1.0)));
    peak_loop!(rounds, _mm512_set1_ps(0.5), SUMS, |sum| _mm512_dpbf16_ps(sum, ones, ones));
}

#[target_feature(enable = "avx512f,avx512vnni")]
fn dpbusd_512(rounds: u64) {
    let ones = black_box(_mm512_set1_epi8(1));
    peak_loop!(rounds, _mm512_set1_epi32(1), SUMS, |sum| _mm512_dpbusd_epi32(sum, ones, ones));
}

#[target_feature(enable = "avx2,avxvnni")]
fn dpbusd_256(rounds: u64) {
    let ones = black_box(_mm256_set1_epi8(1));
    peak_loop!(rounds, _mm256_set1_epi32(1), FEW_SUMS, |sum| _mm256_dpbusd_avx_epi32(sum, ones, ones));
}

/// Bytes in pairs to 16 bits, those in pairs to 32: three instructions for what VNNI does in one.
#[target_feature(enable = "avx2")]
fn maddubs_256(rounds: u64) {
    let (bytes, ones) = black_box((_mm256_set1_epi8(1), _mm256_set1_epi16(1)));
    peak_loop!(rounds, _mm256_set1_epi32(1), FEW_SUMS, |sum| {
        // The sum is an operand, so that the products are not computed once for all rounds.
        let products = _mm256_maddubs_epi16(_mm256_xor_si256(sum, bytes), bytes);
        _mm256_add_epi32(sum, _mm256_madd_epi16(products, ones))
    });
}
