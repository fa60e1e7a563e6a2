//! Peaks of the tile unit of x86-64 (AMX): products of a tile of 16 rows by one of 16 columns, 64 bytes deep.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::Unit;

/// Tile products of a round: four sums hide the latency of a product.
const SUMS: u64 = 4;

/// `ldtilecfg`'s palette 1: eight tiles of 16 rows of 64 bytes.
#[repr(C, align(64))]
struct TileConfig([u8; 64]);

impl TileConfig {
    const FULL: Self = {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let mut tile = 0;
        while tile < 8 {
            bytes[16 + 2 * tile] = 64;
            bytes[48 + tile] = 16;
            tile += 1;
        }
        Self(bytes)
    };
}

pub(super) fn bf16() -> Option<Unit> {
    // SAFETY: the tile unit is there, does bf16, and may be used.
    let run = |rounds| unsafe { tdpbf16ps(rounds) };
    available(22).then_some(Unit { name: "AMX-BF16", flops: 2 * SUMS * 16 * 16 * 32, run })
}

pub(super) fn int8() -> Option<Unit> {
    // SAFETY: the tile unit is there, does int8, and may be used.
    let run = |rounds| unsafe { tdpbusd(rounds) };
    available(25).then_some(Unit { name: "AMX-INT8", flops: 2 * SUMS * 16 * 16 * 64, run })
}

/// Whether leaf 7 of CPUID has this bit and that of tiles in EDX, and the system lets this process use them.
fn available(bit: u32) -> bool {
    const TILES: u32 = 24;
    let features = __cpuid_count(7, 0).edx;
    features >> TILES & 1 == 1 && features >> bit & 1 == 1 && may_use_tiles()
}

/// Asks Linux once for the state of the tiles, which a process does not have by default.
#[cfg(target_os = "linux")]
fn may_use_tiles() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILE_DATA: i64 = 18;
    *ALLOWED.get_or_init(|| {
        let mut result = ARCH_PRCTL;
        // SAFETY: the call changes no memory; the kernel changes rcx and r11.
        unsafe {
            asm!("syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILE_DATA,
                out("rcx") _, out("r11") _, options(nostack));
        }
        result == 0
    })
}

#[cfg(not(target_os = "linux"))]
fn may_use_tiles() -> bool {
    false
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
            // SAFETY: promised by the caller; the configuration lives as long as it is read, and no tile outlives this.
            unsafe {
                asm!(
                    "ldtilecfg [{config}]",
                    "2:",
                    concat!($product, " tmm0, tmm4, tmm6"),
                    concat!($product, " tmm1, tmm4, tmm7"),
                    concat!($product, " tmm2, tmm5, tmm6"),
                    concat!($product, " tmm3, tmm5, tmm7"),
                    "dec {rounds}",
                    "jnz 2b",
                    "tilerelease",
                    config = in(reg) &TileConfig::FULL,
                    rounds = inout(reg) rounds => _,
                    options(nostack),
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
