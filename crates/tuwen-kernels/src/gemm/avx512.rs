//! AVX-512: a register tile of 14 rows and 32 columns, 28 of the 32 registers.
//!
//! The broadcasts come with the load unit, so that 28 multiply-adds need 16 loads: the two multiply-add units are busy in
//! every cycle as long as the panel comes from the second-level cache at 64 bytes in 7 cycles.

use std::arch::x86_64::*;

use super::kernel::{Kernel, NARROW, PANEL, Tile, with_const_rows};

/// AVX-512 F, BW, DQ and VL.
pub(super) struct Avx512;

impl Kernel for Avx512 {
    const ROWS: usize = 14;

    type Vector = __m512;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> __m512 {
        // SAFETY: the mask ends with the numbers.
        unsafe { _mm512_maskz_loadu_ps(mask(count), from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, count: usize, values: __m512) {
        // SAFETY: as above.
        unsafe { _mm512_mask_storeu_ps(to, mask(count), values) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the CPU has the instruction.
        unsafe { _mm512_add_ps(a, b) }
    }

    unsafe fn tile(
        rows: usize,
        width: usize,
        depth: usize,
        a: *const f32,
        b: *const f32,
        ahead: *const f32,
        tile: &mut Tile,
    ) {
        // SAFETY: the trait's contract is that of the functions.
        unsafe {
            if width == PANEL {
                with_const_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], multiply::<_, 2>(depth, a, b, ahead, tile));
            } else {
                with_const_rows!(rows, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], multiply::<_, 1>(depth, a, b, ahead, tile));
            }
        }
    }

    #[inline(always)]
    fn prefetch(element: *const f32) {
        // SAFETY: a hint; any address will do.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(element.cast()) };
    }

    #[inline(always)]
    fn prefetch_for_writing(element: *const f32) {
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(element.cast()) };
    }

    #[inline]
    unsafe fn interleave(
        sources: &[*const f32],
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    ) {
        // SAFETY: the same contract.
        unsafe { interleave(sources, depth, out, out_stride, out_width) }
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
        // SAFETY: the same contract.
        unsafe { copy(source, stride, width, depth, out, out_stride, out_width) }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
    ahead: *const f32,
    tile: &mut Tile,
) {
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for k in 0..depth {
        if k % 2 == 0 {
            // A quarter of the next panel, into the second-level cache, while this tile keeps the multipliers busy.
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(8 * k).cast());
        }
        // SAFETY: `a` is [depth, ROWS] and `b` is [depth, 16 · VECTORS].
        unsafe {
            let mut columns = [_mm512_setzero_ps(); VECTORS];
            for (v, column) in columns.iter_mut().enumerate() {
                *column = _mm512_loadu_ps(b.add(16 * v));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.add(r));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = _mm512_fmadd_ps(x, column, *sum);
                }
            }
            a = a.add(ROWS);
            b = b.add(16 * VECTORS);
        }
    }
    // By reference: an iterator by value would take the sums out of their registers.
    for (row, sums) in tile.0.iter_mut().zip(&sums) {
        for (v, sum) in sums.iter().enumerate() {
            // SAFETY: a row of the tile has 32 elements, aligned to 64 bytes.
            unsafe { _mm512_store_ps(row.as_mut_ptr().add(16 * v), *sum) };
        }
    }
}

#[inline]
fn mask(len: usize) -> __mmask16 {
    if len >= NARROW { !0 } else { (1 << len) - 1 }
}

#[target_feature(enable = "avx512f")]
unsafe fn interleave(
    sources: &[*const f32],
    depth: usize,
    out: *mut f32,
    out_stride: usize,
    out_width: usize,
) {
    let stored = mask(out_width);
    for start in (0..depth).step_by(16) {
        let (left, loaded) = (depth - start, mask(depth - start));
        let mut block = [_mm512_setzero_ps(); 16];
        // Loops of a known length, so that the block stays in registers.
        for (i, vector) in block.iter_mut().enumerate() {
            if let Some(source) = sources.get(i) {
                // SAFETY: the mask ends with the source.
                *vector = unsafe { _mm512_maskz_loadu_ps(loaded, source.add(start)) };
            }
        }
        transpose(&mut block);
        for (k, vector) in block.iter().enumerate() {
            if k < left {
                // SAFETY: the mask ends with the row of the target.
                unsafe { _mm512_mask_storeu_ps(out.add((start + k) * out_stride), stored, *vector) };
            }
        }
    }
}

/// Transposes a block of 16 by 16: pairs, then fours within each quarter, then the quarters.
#[inline]
#[target_feature(enable = "avx512f")]
pub(super) fn transpose(rows: &mut [__m512; 16]) {
    let mut fours = [[_mm512_setzero_ps(); 4]; 4];
    for (group, four) in rows.as_chunks::<4>().0.iter().zip(&mut fours) {
        let &[a, b, c, d] = group;
        let pair = |x, y| (_mm512_castps_pd(x), _mm512_castps_pd(y));
        let low = pair(_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
        let high = pair(_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
        *four = [
            _mm512_castpd_ps(_mm512_unpacklo_pd(low.0, low.1)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(low.0, low.1)),
            _mm512_castpd_ps(_mm512_unpacklo_pd(high.0, high.1)),
            _mm512_castpd_ps(_mm512_unpackhi_pd(high.0, high.1)),
        ];
    }
    for j in 0..4 {
        let (a, b, c, d) = (fours[0][j], fours[1][j], fours[2][j], fours[3][j]);
        // Quarters 0 and 1 of two vectors side by side, then 2 and 3; then every second one of those.
        let (ab, cd) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0x44>(c, d));
        rows[j] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
        rows[4 + j] = _mm512_shuffle_f32x4::<0xDD>(ab, cd);
        let (ab, cd) = (_mm512_shuffle_f32x4::<0xEE>(a, b), _mm512_shuffle_f32x4::<0xEE>(c, d));
        rows[8 + j] = _mm512_shuffle_f32x4::<0x88>(ab, cd);
        rows[12 + j] = _mm512_shuffle_f32x4::<0xDD>(ab, cd);
    }
}

#[target_feature(enable = "avx512f")]
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
            let row = _mm512_maskz_loadu_ps(loaded, source.add(k * stride));
            _mm512_mask_storeu_ps(out.add(k * out_stride), stored, row);
        }
    }
}
