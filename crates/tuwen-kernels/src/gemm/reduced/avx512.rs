//! AVX-512 BF16 and VNNI: the register tile of the f32 kernel, 14 rows and 32 columns, on units.
//!
//! A packed block is `[units, rows]`, as in f32: the kernel broadcasts a unit of each row.

use std::arch::x86_64::*;

use super::super::avx512::transpose;
use super::super::kernel::{PANEL, with_const_rows};
use super::convert;
use super::pack::Reduction;
use super::product::{Dot, RowScale, Sums};

/// `vdpbf16ps`.
pub(super) struct Bf16;
/// `vpdpbusd`.
pub(super) struct Int8;

/// Rows of the register tile.
const ROWS: usize = 14;

/// The loop over the depth, for an instruction.
macro_rules! multiply {
    ($name:ident, $features:literal, |$sum:ident, $x:ident, $column:ident| $dot:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const VECTORS: usize>(
            units: usize,
            mut a: *const u32,
            mut b: *const u32,
            out: &mut Sums,
        ) {
            let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
            for _ in 0..units {
                // SAFETY: `a` is [units, ROWS] and `b` is [units, 16 · VECTORS].
                unsafe {
                    let mut columns = [_mm512_setzero_si512(); VECTORS];
                    for (v, column) in columns.iter_mut().enumerate() {
                        *column = _mm512_loadu_si512(b.add(16 * v).cast());
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let $x = _mm512_set1_epi32(*a.add(r) as i32);
                        for (sum, $column) in sums.iter_mut().zip(columns) {
                            let $sum = *sum;
                            *sum = $dot;
                        }
                    }
                    a = a.add(ROWS);
                    b = b.add(16 * VECTORS);
                }
            }
            // By reference: an iterator by value would take the sums out of their registers.
            for (row, sums) in out.0.iter_mut().zip(&sums) {
                for (v, sum) in sums.iter().enumerate() {
                    // SAFETY: a row has 32 elements, aligned to 64 bytes.
                    unsafe { _mm512_store_si512(row.as_mut_ptr().add(16 * v).cast(), *sum) };
                }
            }
        }
    };
}

multiply!(multiply_bf16, "avx512f,avx512bf16", |sum, x, column| {
    let (x, column) =
        (std::mem::transmute::<__m512i, __m512bh>(x), std::mem::transmute::<__m512i, __m512bh>(column));
    _mm512_castps_si512(_mm512_dpbf16_ps(_mm512_castsi512_ps(sum), x, column))
});
multiply!(multiply_int8, "avx512f,avx512vnni", |sum, x, column| _mm512_dpbusd_epi32(sum, x, column));

/// Stores sixteen units, each of all rows, as `[units, height]`, `count` rows of it.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(block: &[__m512; 16], height: usize, rows: usize, out: *mut u32) {
    let mask: __mmask16 = ((1u32 << rows) - 1) as __mmask16;
    for (unit, vector) in block.iter().enumerate() {
        // SAFETY: the mask ends with the row.
        unsafe { _mm512_mask_storeu_ps(out.add(unit * height).cast(), mask, *vector) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_bf16(rows: &[*const f32], height: usize, from: usize, len: usize, out: *mut u32) {
    for k in (0..len).step_by(32) {
        let mut block = [_mm512_setzero_ps(); 16];
        for (vector, row) in block.iter_mut().zip(rows) {
            // SAFETY: the caller's contract.
            *vector = _mm512_castsi512_ps(unsafe { convert::bf16_units(row.add(k), len - k) });
        }
        transpose(&mut block);
        // SAFETY: the block holds these units of all rows.
        unsafe { store(&block, height, rows.len(), out.add((from + k) / 2 * height)) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_bf16_columns(
    columns: *const f32,
    stride: usize,
    rows: usize,
    height: usize,
    from: usize,
    len: usize,
    out: *mut u32,
) {
    // SAFETY: the caller's contract; the block holds these units of all rows.
    unsafe {
        let block = convert::bf16_units_of_columns(columns, stride, rows, len);
        store(&block, height, rows, out.add(from / 2 * height));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pack_int8(
    rows: &[*const f32],
    scales: &[RowScale],
    height: usize,
    from: usize,
    len: usize,
    out: *mut u32,
) {
    for k in (0..len).step_by(64) {
        let mut block = [_mm512_setzero_ps(); 16];
        for ((vector, row), scale) in block.iter_mut().zip(rows).zip(scales) {
            // SAFETY: the caller's contract.
            *vector = _mm512_castsi512_ps(unsafe { convert::int8_units(row.add(k), len - k, scale) });
        }
        transpose(&mut block);
        // SAFETY: the block holds these units of all rows.
        unsafe { store(&block, height, rows.len(), out.add((from + k) / 4 * height)) };
    }
}

/// What both instructions share.
macro_rules! dot {
    (
        $name:ident, $multiply:ident, |$rows:ident, $scales:ident, $at:ident, $out:ident| $pack:expr
        $(, $more:item)*
    ) => {
        impl Dot for $name {
            const REDUCTION: Reduction = Reduction::$name;
            const ROWS: usize = ROWS;

            type Guard = ();

            fn stored_rows(height: usize) -> usize {
                height
            }

            unsafe fn begin(_height: usize) {}

            unsafe fn pack(
                $rows: &[*const f32],
                $scales: &[RowScale],
                height: usize,
                _first: usize,
                from: usize,
                len: usize,
                $out: *mut u32,
            ) {
                let $at = (height, from, len);
                // SAFETY: the same contract.
                unsafe { $pack }
            }

            $($more)*

            unsafe fn multiply(
                height: usize,
                width: usize,
                units: usize,
                a: *const u32,
                b: *const u32,
                _ahead: *const u32,
                sums: &mut Sums,
            ) {
                // SAFETY: the same contract.
                unsafe {
                    if width == PANEL {
                        with_const_rows!(height, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], $multiply::<_, 2>(units, a, b, sums));
                    } else {
                        with_const_rows!(height, [1 2 3 4 5 6 7 8 9 10 11 12 13 14], $multiply::<_, 1>(units, a, b, sums));
                    }
                }
            }
        }
    };
}

dot!(
    Bf16,
    multiply_bf16,
    |rows, _scales, at, out| pack_bf16(rows, at.0, at.1, at.2, out),
    const PACKS_COLUMNS: bool = true;,
    unsafe fn pack_columns(
        columns: *const f32,
        stride: usize,
        rows: usize,
        height: usize,
        _first: usize,
        from: usize,
        len: usize,
        out: *mut u32,
    ) {
        // SAFETY: the same contract.
        unsafe { pack_bf16_columns(columns, stride, rows, height, from, len, out) };
    }
);
dot!(Int8, multiply_int8, |rows, scales, at, out| pack_int8(rows, scales, at.0, at.1, at.2, out));
