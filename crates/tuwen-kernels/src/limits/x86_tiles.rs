//! Peaks of the tile unit of x86-64 (AMX): products of a tile of 16 rows by one of 16 columns, 64 bytes deep.

use std::arch::asm;

use super::Unit;
use crate::amx::{self, TILE_ROWS, TileConfig};

/// Tile products of a round: four sums hide the latency of a product.
const SUMS: u64 = 4;

pub(super) fn bf16() -> Option<Unit> {
    // SAFETY: the tile unit is there, does bf16, and may be used.
    let run = |rounds| unsafe { tdpbf16ps(rounds) };
    amx::is_available().then_some(Unit { name: "AMX-BF16", flops: 2 * SUMS * 16 * 16 * 32, run })
}

pub(super) fn int8() -> Option<Unit> {
    // SAFETY: the tile unit is there, does int8, and may be used.
    let run = |rounds| unsafe { tdpbusd(rounds) };
    amx::is_available().then_some(Unit { name: "AMX-INT8", flops: 2 * SUMS * 16 * 16 * 64, run })
}

macro_rules! tile_loop {
    ($(#[$doc:meta])* $name:ident, $product:literal) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The CPU has the instruction, and the process may use tiles.
        unsafe fn $name(rounds: u64) {
            if rounds == 0 {
                return;
            }
            // SAFETY: promised by the caller; the code uses no memory, and of registers only tiles and its own.
            unsafe {
                let _tiles = TileConfig::new(TILE_ROWS).load();
                asm!(
                    "2:",
                    concat!($product, " tmm0, tmm4, tmm6"),
                    concat!($product, " tmm1, tmm4, tmm7"),
                    concat!($product, " tmm2, tmm5, tmm6"),
                    concat!($product, " tmm3, tmm5, tmm7"),
                    "dec {rounds}",
                    "jnz 2b",
                    rounds = inout(reg) rounds => _,
                    options(nostack, nomem),
                );
            }
        }
    };
}

tile_loop! {
    /// Products of bf16, zeros.
    tdpbf16ps, "tdpbf16ps"
}
tile_loop! {
    /// Products of unsigned and signed bytes, zeros.
    tdpbusd, "tdpbusd"
}
