//! Peaks where there is no code for a unit in particular: what the compiler makes of multiply-adds.

use std::hint::black_box;

use super::Unit;
use crate::Precision;

/// As many independent sums as hide the latency of a multiply-add.
const LANES: usize = 64;

/// The unit that multiplies numbers of this precision fastest: single precision for all.
pub(super) fn unit(_precision: Precision) -> Unit {
    Unit { name: "compiled f32", flops: 2 * LANES as u64, run: multiply_add }
}

fn multiply_add(rounds: u64) {
    let mut sums = [0.5_f32; LANES];
    let (x, y) = (black_box(0.999_f32), black_box(0.001_f32));
    for _ in 0..rounds {
        for sum in &mut sums {
            // Fused where the baseline of the target has it, as on aarch64; elsewhere it would be a call.
            *sum = if cfg!(target_arch = "aarch64") { sum.mul_add(x, y) } else { *sum * x + y };
        }
    }
    black_box(sums);
}
