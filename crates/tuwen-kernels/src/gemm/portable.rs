//! The baseline of any target: plain loops that LLVM vectorises, a register tile of 4 rows and 8 columns.
//!
//! The limit is the vector: 4 numbers, and outside aarch64 a multiplication and an addition are two instructions.

use super::kernel::{Kernel, Tile, with_const_rows};

/// No particular instruction set.
pub(super) struct Portable;

/// Columns of the register tile.
const COLUMNS: usize = 8;

impl Kernel for Portable {
    const ROWS: usize = 4;

    type Vector = [f32; 4];
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const f32, count: usize) -> [f32; 4] {
        let mut values = [0.0; 4];
        // SAFETY: `count` numbers are readable.
        values[..count].copy_from_slice(unsafe { std::slice::from_raw_parts(from, count) });
        values
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, count: usize, values: [f32; 4]) {
        // SAFETY: `count` numbers are writable.
        unsafe { std::slice::from_raw_parts_mut(to, count) }.copy_from_slice(&values[..count]);
    }

    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|lane| a[lane] + b[lane])
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
        // SAFETY: `a` is [depth, rows] and `b` is [depth, width].
        let (a, b) = unsafe {
            (std::slice::from_raw_parts(a, depth * rows), std::slice::from_raw_parts(b, depth * width))
        };
        for column in (0..width).step_by(COLUMNS) {
            with_const_rows!(rows, [1 2 3 4], multiply::<_, 8>(a, b, width, column, tile));
        }
    }

    unsafe fn interleave(
        sources: &[*const f32],
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    ) {
        for k in 0..depth {
            // SAFETY: sources have `depth` elements, rows of the target `out_width`.
            unsafe {
                let out = std::slice::from_raw_parts_mut(out.add(k * out_stride), out_width);
                let (values, padding) = out.split_at_mut(sources.len());
                values.iter_mut().zip(sources).for_each(|(out, source)| *out = *source.add(k));
                padding.fill(0.0);
            }
        }
    }

    unsafe fn copy(
        source: *const f32,
        stride: usize,
        width: usize,
        depth: usize,
        out: *mut f32,
        out_stride: usize,
        out_width: usize,
    ) {
        for k in 0..depth {
            // SAFETY: rows of the source have `width` elements, rows of the target `out_width`.
            unsafe {
                let row = std::slice::from_raw_parts(source.add(k * stride), width);
                let (values, padding) =
                    std::slice::from_raw_parts_mut(out.add(k * out_stride), out_width).split_at_mut(width);
                values.copy_from_slice(row);
                padding.fill(0.0);
            }
        }
    }
}

fn multiply<const ROWS: usize, const COLUMNS: usize>(
    a: &[f32],
    b: &[f32],
    width: usize,
    column: usize,
    tile: &mut Tile,
) {
    let mut sums = [[0.0f32; COLUMNS]; ROWS];
    for (a, b) in a.as_chunks::<ROWS>().0.iter().zip(b.chunks_exact(width)) {
        let b: &[f32; COLUMNS] =
            b[column..].first_chunk().expect("a panel is a multiple of the register tile");
        for (sums, &x) in sums.iter_mut().zip(a) {
            for (sum, &b) in sums.iter_mut().zip(b) {
                // Fused where that is one instruction; elsewhere it would be a call.
                *sum = if cfg!(target_arch = "aarch64") { x.mul_add(b, *sum) } else { x * b + *sum };
            }
        }
    }
    for (row, sums) in tile.0.iter_mut().zip(&sums) {
        row[column..column + COLUMNS].copy_from_slice(sums);
    }
}
