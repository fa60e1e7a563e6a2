//! Rows of f32 to vectors of sixteen units, with AVX-512.

use std::arch::x86_64::*;

use super::super::kernel::PANEL;
use super::product::RowScale;

#[inline]
fn mask(len: usize) -> __mmask16 {
    if len >= 16 { !0 } else { (1 << len) - 1 }
}

/// Sixteen numbers of which `left` exist; the others are zero.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(row: *const f32, left: usize) -> __m512 {
    // SAFETY: the mask ends with the row.
    unsafe { _mm512_maskz_loadu_ps(mask(left), row) }
}

/// 32 numbers as bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(crate) fn bf16_of(low: __m512, high: __m512) -> __m512i {
    // SAFETY: both types are 64 bytes of bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low)) }
}

/// 32 numbers as bf16; those beyond `left` are zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn bf16_units(row: *const f32, left: usize) -> __m512i {
    // SAFETY: no more than `left` numbers are read.
    unsafe { bf16_of(load(row, left), load(row.wrapping_add(16), left.saturating_sub(16))) }
}

/// Sixteen units of two numbers each: those of `first` and those of `second`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn bf16_pairs(first: __m512, second: __m512) -> __m512i {
    let numbers: [u16; 32] = std::array::from_fn(|i| (i / 2 + i % 2 * 16) as u16);
    // SAFETY: 32 numbers of 16 bits.
    _mm512_permutexvar_epi16(unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }, bf16_of(first, second))
}

/// Pairs of rows of `width` numbers, a multiple of 16, to rows of units.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn rows_to_bf16(rows: &[f32], width: usize, units: &mut [u32]) {
    for (units, pair) in units.chunks_exact_mut(width).zip(rows.chunks_exact(2 * width)) {
        let (first, second) = pair.split_at(width);
        for ((units, first), second) in units
            .as_chunks_mut::<16>()
            .0
            .iter_mut()
            .zip(first.as_chunks::<16>().0)
            .zip(second.as_chunks::<16>().0)
        {
            // SAFETY: sixteen numbers each.
            unsafe {
                let pairs = bf16_pairs(_mm512_loadu_ps(first.as_ptr()), _mm512_loadu_ps(second.as_ptr()));
                _mm512_storeu_si512(units.as_mut_ptr().cast(), pairs);
            }
        }
    }
}

/// Sixteen units of each of `width <= 16` numbers that lie side by side in each of `left` rows, `stride` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) unsafe fn bf16_units_of_columns(
    rows: *const f32,
    stride: usize,
    width: usize,
    left: usize,
) -> [__m512; 16] {
    let mut block = [_mm512_setzero_ps(); 16];
    for (i, units) in block.iter_mut().enumerate() {
        let row = |k: usize| {
            let width = if k < left { width } else { 0 };
            // SAFETY: the mask ends with the row, and before one that does not exist.
            unsafe { load(rows.wrapping_add(k * stride), width) }
        };
        *units = _mm512_castsi512_ps(bf16_pairs(row(2 * i), row(2 * i + 1)));
    }
    block
}

/// 64 numbers as bytes; those beyond `left` are as zero is.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) unsafe fn int8_units(row: *const f32, left: usize, scale: &RowScale) -> __m512i {
    let (factor, zero) = (_mm512_set1_ps(scale.factor), _mm512_set1_ps(scale.zero));
    let mut quarters = [_mm_setzero_si128(); 4];
    for (i, quarter) in quarters.iter_mut().enumerate() {
        // SAFETY: no more than `left` numbers are read.
        let x = unsafe { load(row.wrapping_add(16 * i), left.saturating_sub(16 * i)) };
        let stored = _mm512_cvtps_epi32(_mm512_fmadd_ps(x, factor, zero));
        *quarter = _mm512_cvtusepi32_epi8(_mm512_max_epi32(stored, _mm512_setzero_si512()));
    }
    let low = _mm256_set_m128i(quarters[1], quarters[0]);
    let high = _mm256_set_m128i(quarters[3], quarters[2]);
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

/// Least and greatest of `len` numbers and zero.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn range(row: *const f32, len: usize) -> (f32, f32) {
    let (mut low, mut high) = (_mm512_setzero_ps(), _mm512_setzero_ps());
    for from in (0..len).step_by(16) {
        // SAFETY: no more than `len` numbers are read.
        let x = unsafe { load(row.add(from), len - from) };
        (low, high) = (_mm512_min_ps(low, x), _mm512_max_ps(high, x));
    }
    (_mm512_reduce_min_ps(low), _mm512_reduce_max_ps(high))
}

/// Turns sums of bytes into f32: `(sum - zero · column sum) · row scale · column scale`.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn scale(
    sums: &mut [u32; PANEL],
    row: &RowScale,
    (scales, column_sums): (&[f32; PANEL], &[f32; PANEL]),
) {
    let (zero, row_scale) = (_mm512_set1_epi32(row.zero as i32), _mm512_set1_ps(row.scale));
    for half in 0..2 {
        // SAFETY: half of each of the arrays.
        unsafe {
            let at = sums.as_mut_ptr().add(16 * half);
            let column_sums = _mm512_cvtps_epi32(_mm512_loadu_ps(column_sums.as_ptr().add(16 * half)));
            let scale = _mm512_mul_ps(row_scale, _mm512_loadu_ps(scales.as_ptr().add(16 * half)));
            let exact =
                _mm512_sub_epi32(_mm512_loadu_si512(at.cast()), _mm512_mullo_epi32(zero, column_sums));
            _mm512_storeu_ps(at.cast(), _mm512_mul_ps(_mm512_cvtepi32_ps(exact), scale));
        }
    }
}
