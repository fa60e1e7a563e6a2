//! AVX2 and FMA: a register tile of 6 rows and 16 columns, 12 of the 16 registers.
//!
//! 12 chains of multiply-adds hide the latency of 4 cycles of two units; 2 loads and 6 broadcasts for 12 multiply-adds
//! keep within two loads in each cycle.

use std::arch::x86_64::*;

use super::kernel::{Kernel, Tile, with_const_rows};

/// AVX2 with FMA.
pub(super) struct Avx2;

/// Columns of the register tile.
const COLUMNS: usize = 16;

impl Kernel for Avx2 {
    const ROWS: usize = 6;

    type Vector = __m256;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> __m256 {
        // SAFETY: the mask ends with the numbers.
        unsafe { if count == 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask(count)) } }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, count: usize, values: __m256) {
        // SAFETY: as above.
        unsafe {
            if count == 8 {
                _mm256_storeu_ps(to, values)
            } else {
                _mm256_maskstore_ps(to, mask(count), values)
            }
        }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the CPU has the instruction.
        unsafe { _mm256_add_ps(a, b) }
    }

    unsafe fn tile(
        rows: usize,
        width: usize,
        depth: usize,
        a: *const f32,
        b: *const f32,
        _ahead: *const f32,
        tile: &mut Tile,
    ) {
        for column in (0..width).step_by(COLUMNS) {
            // SAFETY: the trait's contract, for 16 columns of the panel.
            unsafe {
                let b = b.add(column);
                with_const_rows!(rows, [1 2 3 4 5 6], multiply::<_, 2>(depth, a, b, width, column, tile));
            }
        }
    }

    #[inline]
    unsafe fn interleave(
        sources: &[*const f32],
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    ) {
        for first in (0..out_width).step_by(8) {
            let sources = sources.get(first..sources.len().min(first + 8)).unwrap_or_default();
            // SAFETY: the same contract, for 8 of the 16 columns.
            unsafe { interleave(sources, depth, out.add(first), out_stride, (out_width - first).min(8)) }
        }
    }

    #[inline]
    unsafe fn copy(
        source: *const f32,
        stride: usize,
        width: usize,
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    ) {
        for first in (0..out_width).step_by(8) {
            let (width, out_width) = (width.saturating_sub(first).min(8), (out_width - first).min(8));
            // SAFETY: the same contract, for 8 of the 16 columns.
            unsafe {
                copy(source.wrapping_add(first), stride, width, depth, out.add(first), out_stride, out_width)
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
    b_stride: usize,
    column: usize,
    tile: &mut Tile,
) {
    let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
    for _ in 0..depth {
        // SAFETY: `a` is [depth, ROWS]; the rows of `b` have 8 · VECTORS elements from here.
        unsafe {
            let mut columns = [_mm256_setzero_ps(); VECTORS];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm256_loadu_ps(b.add(8 * v));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_set1_ps(*a.add(r));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm256_fmadd_ps(x, column, *sum);
                }
            }
            a = a.add(ROWS);
            b = b.wrapping_add(b_stride);
        }
    }
    // By reference: an iterator by value would take the sums out of their registers.
    for (row, sums) in tile.0.iter_mut().zip(&sums) {
        for (v, sum) in sums.iter().enumerate() {
            // SAFETY: `column` is 0 or 16 in a row of 32.
            unsafe { _mm256_storeu_ps(row.as_mut_ptr().add(column + 8 * v), *sum) };
        }
    }
}

/// All ones in the first `len` of 8 lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(len: usize) -> __m256i {
    _mm256_cmpgt_epi32(_mm256_set1_epi32(len as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

#[target_feature(enable = "avx2")]
unsafe fn interleave(
    sources: &[*const f32],
    depth: usize,
    out: *mut f32,
    out_stride: usize,
    out_width: usize,
) {
    let stored = mask(out_width);
    for start in (0..depth).step_by(8) {
        let loaded = mask((depth - start).min(8));
        let mut block = [_mm256_setzero_ps(); 8];
        for (vector, source) in block.iter_mut().zip(sources) {
            // SAFETY: the mask ends with the source.
            *vector = unsafe { _mm256_maskload_ps(source.add(start), loaded) };
        }
        transpose(&mut block);
        for (k, vector) in block.into_iter().enumerate().take(depth - start) {
            // SAFETY: the mask ends with the row of the target.
            unsafe { _mm256_maskstore_ps(out.add((start + k) * out_stride), stored, vector) };
        }
    }
}

/// Transposes a block of 8 by 8: pairs, then fours within each half, then the halves.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(rows: &mut [__m256; 8]) {
    let mut fours = [[_mm256_setzero_ps(); 4]; 2];
    for (group, four) in rows.as_chunks::<4>().0.iter().zip(&mut fours) {
        let &[a, b, c, d] = group;
        let pair = |x, y| (_mm256_castps_pd(x), _mm256_castps_pd(y));
        let low = pair(_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let high = pair(_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        *four = [
            _mm256_castpd_ps(_mm256_unpacklo_pd(low.0, low.1)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(low.0, low.1)),
            _mm256_castpd_ps(_mm256_unpacklo_pd(high.0, high.1)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(high.0, high.1)),
        ];
    }
    for j in 0..4 {
        rows[j] = _mm256_permute2f128_ps::<0x20>(fours[0][j], fours[1][j]);
        rows[4 + j] = _mm256_permute2f128_ps::<0x31>(fours[0][j], fours[1][j]);
    }
}

#[target_feature(enable = "avx2")]
unsafe fn copy(
    source: *const f32,
    stride: usize,
    width: usize,
    depth: usize,
    out: *mut f32,
    out_stride: usize,
    out_width: usize,
) {
    let (loaded, stored) = (mask(width), mask(out_width));
    for k in 0..depth {
        // SAFETY: the masks end with the rows of source and target.
        unsafe {
            let row = _mm256_maskload_ps(source.wrapping_add(k * stride), loaded);
            _mm256_maskstore_ps(out.add(k * out_stride), stored, row);
        }
    }
}
