//! Instruction sets: what this CPU offers, which one is in use, and a macro that compiles a function for each.

use std::fmt::{self, Display};
use std::str::FromStr;
use std::sync::atomic::{AtomicU8, Ordering};

/// An instruction set that kernels are compiled for, from slowest to fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Isa {
    /// Plain loops for the baseline of the target: SSE2 on x86-64, NEON on aarch64.
    Portable = 1,
    /// x86-64 with AVX2 and FMA.
    Avx2 = 2,
    /// x86-64 with AVX-512 F, BW, DQ and VL, and with BF16 and VNNI where the CPU has them.
    Avx512 = 3,
    /// The same with the matrix tiles of AMX.
    Amx = 4,
    /// aarch64, whose baseline it is: only matrix products differ from `Portable`.
    Neon = 5,
}

/// Every instruction set, slowest first.
const ALL: [Isa; 5] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx, Isa::Neon];

impl Isa {
    /// Its name on command lines and in reports: `portable`, `avx2`, `avx512`, `amx` or `neon`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Amx => "amx",
            Self::Neon => "neon",
        }
    }
}

impl Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Self, UnknownIsa> {
        ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

/// No instruction set has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no instruction set {0:?}; there are {all}", all = names(&ALL))]
pub struct UnknownIsa(pub String);

fn names(sets: &[Isa]) -> String {
    sets.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}

/// An instruction set was asked for that this CPU does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this CPU cannot run {0} kernels; it can run {found}", found = names(&available()))]
pub struct UnsupportedIsa(pub Isa);

/// The discriminant of the instruction set in use; 0 before the first question.
static IN_USE: AtomicU8 = AtomicU8::new(0);

/// The instruction set in use: the fastest available unless [`force_isa`] chose another.
#[inline]
pub fn isa() -> Isa {
    match IN_USE.load(Ordering::Relaxed) {
        1 => Isa::Portable,
        2 => Isa::Avx2,
        3 => Isa::Avx512,
        4 => Isa::Amx,
        5 => Isa::Neon,
        _ => {
            let best = available().into_iter().max().unwrap_or(Isa::Portable);
            // Another thread may have forced a choice in the meantime; that one stays.
            let _ = IN_USE.compare_exchange(0, best as u8, Ordering::Relaxed, Ordering::Relaxed);
            isa()
        }
    }
}

/// The instruction sets that this CPU has, slowest first.
pub fn available() -> Vec<Isa> {
    ALL.into_iter().filter(|&isa| is_available(isa)).collect()
}

#[cfg(target_arch = "x86_64")]
fn is_available(isa: Isa) -> bool {
    match isa {
        Isa::Portable => true,
        Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        Isa::Avx512 => {
            is_available(Isa::Avx2)
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
        }
        Isa::Amx => is_available(Isa::Avx512) && crate::amx::is_available(),
        Isa::Neon => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn is_available(isa: Isa) -> bool {
    isa == Isa::Portable || (isa == Isa::Neon && cfg!(target_arch = "aarch64"))
}

/// Makes every later kernel of the process use `isa`, for tests and comparisons.
///
/// # Errors
/// If this CPU does not have it; nothing changes then.
pub fn force_isa(isa: Isa) -> Result<(), UnsupportedIsa> {
    if !is_available(isa) {
        return Err(UnsupportedIsa(isa));
    }
    IN_USE.store(isa as u8, Ordering::Relaxed);
    Ok(())
}

/// Compiles each function once per instruction set, so that LLVM vectorises the one body for all of them, and
/// picks the version in use at each call. The bodies never ask for fused multiply-add, so that an element-wise
/// kernel gives the same bits on every instruction set. NEON needs no version: every aarch64 CPU has it, so LLVM
/// uses it in the portable one.
macro_rules! multiversion {
    ($(
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block
    )*) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    portable($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    portable($($arg),*)
                }
                match $crate::isa::isa() {
                    // SAFETY: `isa` only reports what this CPU has.
                    $crate::isa::Isa::Avx512 | $crate::isa::Isa::Amx => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::isa::Isa::Portable | $crate::isa::Isa::Neon => {}
                }
            }
            portable($($arg),*)
        }
    )*};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_there_and_an_available_set_can_be_forced() {
        let before = isa();
        assert_eq!(available()[0], Isa::Portable);
        assert!(available().contains(&before));
        assert_eq!(force_isa(before), Ok(()));
        assert_eq!(isa(), before);
    }

    #[test]
    fn a_missing_set_is_refused_by_name() {
        let message = UnsupportedIsa(Isa::Avx512).to_string();
        assert!(message.contains("avx512 kernels") && message.contains("can run portable"), "{message}");
        let before = isa();
        for isa in ALL {
            assert_eq!(force_isa(isa).is_ok(), available().contains(&isa));
        }
        assert_eq!(force_isa(before), Ok(()));
    }

    #[test]
    fn names_are_read_back() {
        for isa in ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        let message = "sse9".parse::<Isa>().expect_err("unknown").to_string();
        assert_eq!(message, "no instruction set \"sse9\"; there are portable, avx2, avx512, amx, neon");
    }
}
