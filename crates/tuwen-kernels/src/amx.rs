//! The matrix tiles of x86-64 (AMX): whether they may be used, and their shapes.
//!
//! The intrinsics are not stable, so tile instructions are written in assembly.

/// Whether the CPU has tiles with bf16 and int8 products, and the system lets this process use them.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(crate) fn is_available() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    use std::sync::OnceLock;

    /// CPUID leaf 7, EDX: AMX-BF16, AMX-TILE, AMX-INT8.
    const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    /// CPUID leaf 1, ECX: the system has enabled XGETBV.
    const OSXSAVE: u32 = 1 << 27;
    /// Extended control register 0: the system saves the configuration and the data of tiles.
    const SAVED: u64 = 0b11 << 17;

    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: the caller has seen OSXSAVE.
        unsafe { _xgetbv(0) }
    }

    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let has_leaf = __cpuid(0).eax >= 7;
        has_leaf
            && __cpuid(1).ecx & OSXSAVE != 0
            && __cpuid_count(7, 0).edx & TILES == TILES
            // SAFETY: the system has enabled XGETBV.
            && unsafe { saved() } & SAVED == SAVED
            && request_permission()
    })
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(crate) fn is_available() -> bool {
    false
}

/// Asks Linux for the memory that the state of tiles takes, for all threads of the process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn request_permission() -> bool {
    use std::ffi::{c_int, c_long};
    const SYS_ARCH_PRCTL: c_long = 158;
    const ARCH_REQ_XCOMP_PERM: c_int = 0x1023;
    const XFEATURE_XTILEDATA: c_long = 18;
    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }
    // SAFETY: the call changes nothing but this permission.
    unsafe { syscall(SYS_ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// Shapes of the eight tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
pub(crate) struct TileConfig([u8; 64]);

/// Rows of a tile.
pub(crate) const TILE_ROWS: usize = 16;
/// Columns of a tile, in units of four bytes.
pub(crate) const TILE_UNITS: usize = 16;

impl TileConfig {
    /// Tiles 0 to 5, the sums and the left operand, of `rows` rows; tiles 6 and 7, the right operand, of 16.
    pub(crate) fn new(rows: usize) -> Self {
        debug_assert!((1..=TILE_ROWS).contains(&rows));
        let mut bytes = [0; 64];
        bytes[0] = 1; // the only palette
        for tile in 0..8 {
            bytes[16 + 2 * tile] = (4 * TILE_UNITS) as u8;
            bytes[48 + tile] = if tile < 6 { rows } else { TILE_ROWS } as u8;
        }
        Self(bytes)
    }

    /// Sets these tiles up, until the guard is dropped.
    ///
    /// # Safety
    /// [`is_available`] has said yes.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) unsafe fn load(&self) -> LoadedTiles {
        // SAFETY: the configuration is valid, and the CPU has tiles, says the caller.
        unsafe { std::arch::asm!("ldtilecfg [{}]", in(reg) self.0.as_ptr(), options(nostack, readonly)) };
        LoadedTiles(())
    }
}

/// Tiles in use. They are released when it is dropped, because what is in use is saved at every switch of threads.
#[cfg(target_arch = "x86_64")]
pub(crate) struct LoadedTiles(());

#[cfg(target_arch = "x86_64")]
impl Drop for LoadedTiles {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: only made where tiles are in use.
        unsafe { std::arch::asm!("tilerelease", options(nostack, nomem)) };
    }
}
