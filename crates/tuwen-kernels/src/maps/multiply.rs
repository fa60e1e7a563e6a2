//! Products of 32 pixels and 32 columns of a weight, as two tiles by two.

use std::arch::asm;

use super::STEP;
use crate::amx::TILE_ROWS;
use crate::gemm::Reduction;

/// Sums of 32 pixels and 32 columns: f32 of bf16 products, i32 of int8 products.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [[f32; STEP]; STEP]);

/// Pixels as tiles read them.
pub(super) struct Lines {
    /// Pixel 0.
    pub(super) start: *const u8,
    /// Bytes from a pixel to the next.
    pub(super) line: usize,
    /// Where what the rows of the weight meet begins, in bytes from a pixel on, and for how many steps.
    pub(super) taps: Vec<(isize, usize)>,
}

/// A loop over 64 bytes of 32 pixels.
type Loop = unsafe fn(&Lines, usize, *const u32, *const u32, &mut Sums);

/// The loop for weights of this kind, and how many of a panel's 32 lines a step asks for: all of the next one while this one meets
/// `blocks` blocks of pixels.
pub(super) fn choose(reduction: Reduction, blocks: usize) -> Loop {
    match (reduction, blocks) {
        (Reduction::Bf16, 8..) => bf16_4,
        (Reduction::Bf16, 4..8) => bf16_8,
        (Reduction::Bf16, ..4) => bf16_16,
        (Reduction::Int8, 8..) => int8_4,
        (Reduction::Int8, 4..8) => int8_8,
        (Reduction::Int8, ..4) => int8_16,
    }
}

macro_rules! multiply {
    ($name:ident, $dot:literal, $bytes:literal, $($line:literal)*) => {
        /// The sums of 32 pixels from `pixel` on and the columns of `panel`; `ahead` is what will be needed next.
        ///
        /// # Safety
        /// The tiles are set up; there are the pixels that the taps reach, and the panel has a row for each of their numbers.
        unsafe fn $name(x: &Lines, pixel: usize, panel: *const u32, mut ahead: *const u32, sums: &mut Sums) {
            let mut panel = panel;
            // SAFETY: the caller's contract; `ahead` is only a hint.
            unsafe {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack));
                for &(at, steps) in &x.taps {
                    let a = x.start.wrapping_add(pixel * x.line).wrapping_offset(at);
                    let lower = a.wrapping_add(TILE_ROWS * x.line);
                    asm!(
                        "2:",
                        "tileloadd tmm4, [{a} + {line}]",
                        "tileloadd tmm6, [{b} + {row}]",
                        concat!($dot, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {row} + 64]",
                        concat!($dot, " tmm1, tmm4, tmm7"),
                        "tileloadd tmm5, [{lower} + {line}]",
                        concat!($dot, " tmm2, tmm5, tmm6"),
                        concat!($dot, " tmm3, tmm5, tmm7"),
                        $(concat!("prefetcht1 [{ahead} + ", $line, "]"),)*
                        concat!("add {ahead}, ", $bytes),
                        "add {a}, 64", "add {lower}, 64", "add {b}, 2048",
                        "dec {steps}",
                        "jnz 2b",
                        a = inout(reg) a => _, lower = inout(reg) lower => _, b = inout(reg) panel,
                        ahead = inout(reg) ahead, steps = inout(reg) steps => _,
                        line = in(reg) x.line, row = in(reg) 128usize,
                        options(nostack, readonly)
                    );
                }
                let upper = sums.0.as_mut_ptr();
                asm!(
                    "tilestored [{upper} + {row}], tmm0", "tilestored [{upper} + {row} + 64], tmm1",
                    "tilestored [{lower} + {row}], tmm2", "tilestored [{lower} + {row} + 64], tmm3",
                    upper = in(reg) upper, lower = in(reg) upper.wrapping_add(TILE_ROWS), row = in(reg) 128usize,
                    options(nostack)
                );
            }
        }
    };
}

multiply!(bf16_4, "tdpbf16ps", 256, 0 64 128 192);
multiply!(bf16_8, "tdpbf16ps", 512, 0 64 128 192 256 320 384 448);
multiply!(bf16_16, "tdpbf16ps", 1024, 0 64 128 192 256 320 384 448 512 576 640 704 768 832 896 960);
multiply!(int8_4, "tdpbusd", 256, 0 64 128 192);
multiply!(int8_8, "tdpbusd", 512, 0 64 128 192 256 320 384 448);
multiply!(int8_16, "tdpbusd", 1024, 0 64 128 192 256 320 384 448 512 576 640 704 768 832 896 960);
