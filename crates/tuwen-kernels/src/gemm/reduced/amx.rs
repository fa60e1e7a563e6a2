//! AMX: blocks of 32 rows and 32 columns as two tiles by two, so that each of the four tiles that a step loads is used
//! twice.
//!
//! A packed block is, for each step of sixteen units, one tile or two of the left operand one after the other; a tile is
//! stored row by row, without gaps. Tiles 0 to 3 hold the sums, 4 and 5 the left operand, 6 and 7 the right one.

use std::arch::asm;
use std::arch::x86_64::*;

use super::super::avx512::transpose;
use super::convert;
use super::pack::Reduction;
use super::product::{Dot, MAX_ROWS, RowScale, Sums};
use crate::amx::{LoadedTiles, TILE_ROWS, TILE_UNITS, TileConfig};

/// bf16 tiles.
pub(super) struct Bf16;
/// int8 tiles.
pub(super) struct Int8;

/// Rows of each tile of a block of this height.
fn tile_rows(height: usize) -> usize {
    if height <= TILE_ROWS { height } else { height.div_ceil(2) }
}

fn tiles(height: usize) -> usize {
    if height <= TILE_ROWS { 1 } else { 2 }
}

fn stored_rows(height: usize) -> usize {
    tiles(height) * tile_rows(height)
}

/// Where in a packed block row `row` of step `step` is stored.
#[inline(always)]
fn offset(height: usize, row: usize, step: usize) -> usize {
    let rows = tile_rows(height);
    let (tile, row) = (row / rows, row % rows);
    ((step * tiles(height) + tile) * rows + row) * TILE_UNITS
}

/// Asks for lines of the right operand. So few rows leave it no time to arrive from memory by itself: half of the bytes a second.
macro_rules! ask_for {
    ($($at:literal)*) => { concat!($("prefetcht0 [{b} + ", $at, "]\n",)*) };
}

/// The loop over the depth, for tiles of an instruction. With few rows there is one block, which meets the panels one after the
/// other.
macro_rules! multiply {
    ($name:ident, $dot:literal) => {
        #[inline(always)]
        unsafe fn $name(
            height: usize,
            width: usize,
            units: usize,
            a: *const u32,
            b: *const u32,
            ahead: *const u32,
            sums: &mut Sums,
        ) {
            let steps = units / TILE_UNITS;
            if steps == 0 {
                sums.0 = [[0; 32]; MAX_ROWS];
                return;
            }
            let rows = tile_rows(height);
            let lower = a.wrapping_add(rows * TILE_UNITS);
            let sums = sums.0.as_mut_ptr().cast::<u32>();
            let lower_sums = sums.wrapping_add(rows * 32);
            let a_step = 4 * tiles(height) * rows * TILE_UNITS;
            // SAFETY: the operands and the sums have the sizes that the caller promises; `ahead` is only a hint.
            unsafe {
                match (height > TILE_ROWS, width > TILE_UNITS) {
                    (true, true) => asm!(
                        "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                        "2:",
                        "tileloadd tmm4, [{a} + {line}]",
                        "tileloadd tmm6, [{b} + {line} * 2]",
                        concat!($dot, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {line} * 2 + 64]",
                        concat!($dot, " tmm1, tmm4, tmm7"),
                        "tileloadd tmm5, [{lower} + {line}]",
                        concat!($dot, " tmm2, tmm5, tmm6"),
                        concat!($dot, " tmm3, tmm5, tmm7"),
                        "prefetcht1 [{ahead}]", "prefetcht1 [{ahead} + 64]",
                        "prefetcht1 [{ahead} + 128]", "prefetcht1 [{ahead} + 192]",
                        "add {a}, {a_step}", "add {lower}, {a_step}", "add {b}, 2048", "add {ahead}, 256",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{sums} + {line} * 2], tmm0", "tilestored [{sums} + {line} * 2 + 64], tmm1",
                        "tilestored [{lower_sums} + {line} * 2], tmm2",
                        "tilestored [{lower_sums} + {line} * 2 + 64], tmm3",
                        a = inout(reg) a => _, lower = inout(reg) lower => _, b = inout(reg) b => _,
                        ahead = inout(reg) ahead => _, steps = inout(reg) steps => _, a_step = in(reg) a_step,
                        line = in(reg) 64usize, sums = in(reg) sums, lower_sums = in(reg) lower_sums,
                        options(nostack)
                    ),
                    (true, false) => asm!(
                        "tilezero tmm0", "tilezero tmm2",
                        "2:",
                        "tileloadd tmm4, [{a} + {line}]",
                        "tileloadd tmm6, [{b} + {line}]",
                        concat!($dot, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm5, [{lower} + {line}]",
                        concat!($dot, " tmm2, tmm5, tmm6"),
                        "add {a}, {a_step}", "add {lower}, {a_step}", "add {b}, 1024",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{sums} + {line} * 2], tmm0", "tilestored [{lower_sums} + {line} * 2], tmm2",
                        a = inout(reg) a => _, lower = inout(reg) lower => _, b = inout(reg) b => _,
                        steps = inout(reg) steps => _, a_step = in(reg) a_step,
                        line = in(reg) 64usize, sums = in(reg) sums, lower_sums = in(reg) lower_sums,
                        options(nostack)
                    ),
                    (false, true) => asm!(
                        "tilezero tmm0", "tilezero tmm1",
                        "2:",
                        "tileloadd tmm4, [{a} + {line}]",
                        "tileloadd tmm6, [{b} + {line} * 2]",
                        concat!($dot, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {line} * 2 + 64]",
                        concat!($dot, " tmm1, tmm4, tmm7"),
                        ask_for!(
                            8192 8256 8320 8384 8448 8512 8576 8640
                            8704 8768 8832 8896 8960 9024 9088 9152
                            9216 9280 9344 9408 9472 9536 9600 9664
                            9728 9792 9856 9920 9984 10048 10112 10176
                        ),
                        "add {a}, {a_step}", "add {b}, 2048",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{sums} + {line} * 2], tmm0", "tilestored [{sums} + {line} * 2 + 64], tmm1",
                        a = inout(reg) a => _, b = inout(reg) b => _, steps = inout(reg) steps => _, a_step = in(reg) a_step,
                        line = in(reg) 64usize, sums = in(reg) sums,
                        options(nostack)
                    ),
                    (false, false) => asm!(
                        "tilezero tmm0",
                        "2:",
                        "tileloadd tmm4, [{a} + {line}]",
                        "tileloadd tmm6, [{b} + {line}]",
                        concat!($dot, " tmm0, tmm4, tmm6"),
                        "add {a}, {a_step}", "add {b}, 1024",
                        "dec {steps}",
                        "jnz 2b",
                        "tilestored [{sums} + {line} * 2], tmm0",
                        a = inout(reg) a => _, b = inout(reg) b => _,
                        steps = inout(reg) steps => _, a_step = in(reg) a_step,
                        line = in(reg) 64usize, sums = in(reg) sums,
                        options(nostack)
                    ),
                }
            }
        }
    };
}

multiply!(multiply_bf16, "tdpbf16ps");
multiply!(multiply_int8, "tdpbusd");

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_bf16(
    rows: &[*const f32],
    height: usize,
    first: usize,
    from: usize,
    len: usize,
    out: *mut u32,
) {
    for (i, row) in rows.iter().enumerate() {
        for k in (0..len).step_by(2 * TILE_UNITS) {
            let at = offset(height, first + i, (from + k) / (2 * TILE_UNITS));
            // SAFETY: the caller's contract.
            unsafe { _mm512_storeu_si512(out.add(at).cast(), convert::bf16_units(row.add(k), len - k)) };
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn pack_bf16_columns(
    columns: *const f32,
    stride: usize,
    rows: usize,
    height: usize,
    first: usize,
    from: usize,
    len: usize,
    out: *mut u32,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut block = convert::bf16_units_of_columns(columns, stride, rows, len);
        transpose(&mut block);
        for (i, units) in block.iter().enumerate() {
            if i < rows {
                let at = offset(height, first + i, from / (2 * TILE_UNITS));
                _mm512_storeu_ps(out.add(at).cast(), *units);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pack_int8(
    rows: &[*const f32],
    scales: &[RowScale],
    height: usize,
    first: usize,
    from: usize,
    len: usize,
    out: *mut u32,
) {
    for (i, (row, scale)) in rows.iter().zip(scales).enumerate() {
        for k in (0..len).step_by(4 * TILE_UNITS) {
            let at = offset(height, first + i, (from + k) / (4 * TILE_UNITS));
            // SAFETY: the caller's contract.
            unsafe {
                _mm512_storeu_si512(out.add(at).cast(), convert::int8_units(row.add(k), len - k, scale))
            };
        }
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
            const ROWS: usize = 2 * TILE_ROWS;

            type Guard = LoadedTiles;

            fn stored_rows(height: usize) -> usize {
                stored_rows(height)
            }

            #[inline(always)]
            unsafe fn begin(height: usize) -> LoadedTiles {
                // SAFETY: the CPU has tiles, says the caller.
                unsafe { TileConfig::new(tile_rows(height)).load() }
            }

            unsafe fn pack(
                $rows: &[*const f32],
                $scales: &[RowScale],
                height: usize,
                first: usize,
                from: usize,
                len: usize,
                $out: *mut u32,
            ) {
                let $at = (height, first, from, len);
                // SAFETY: the same contract.
                unsafe { $pack }
            }

            $($more)*

            #[inline(always)]
            unsafe fn multiply(
                height: usize,
                width: usize,
                units: usize,
                a: *const u32,
                b: *const u32,
                ahead: *const u32,
                sums: &mut Sums,
            ) {
                // SAFETY: the same contract.
                unsafe { $multiply(height, width, units, a, b, ahead, sums) }
            }
        }
    };
}

dot!(
    Bf16,
    multiply_bf16,
    |rows, _scales, at, out| pack_bf16(rows, at.0, at.1, at.2, at.3, out),
    const PACKS_COLUMNS: bool = true;,
    unsafe fn pack_columns(
        columns: *const f32,
        stride: usize,
        rows: usize,
        height: usize,
        first: usize,
        from: usize,
        len: usize,
        out: *mut u32,
    ) {
        // SAFETY: the same contract.
        unsafe { pack_bf16_columns(columns, stride, rows, height, first, from, len, out) };
    }
);
dot!(Int8, multiply_int8, |rows, scales, at, out| pack_int8(rows, scales, at.0, at.1, at.2, at.3, out));
