//! What the tests share: numbers, comparisons, every instruction set in turn.

#![allow(dead_code)] // each test program uses a part

use std::sync::{Mutex, PoisonError};

use tuwen_kernels::{Isa, available, force_isa, isa};

/// Awkward sizes: nothing, one, odd, around a power of two.
pub const SIZES: [usize; 7] = [0, 1, 3, 63, 64, 65, 257];

/// Runs the test once with each instruction set of this CPU. Tests that force one take turns.
pub fn for_each_isa(mut test: impl FnMut(Isa)) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = isa();
    for isa in available() {
        force_isa(isa).expect("it is available");
        test(isa);
    }
    force_isa(before).expect("it was in use");
}

/// Numbers between -1 and 1, the same for the same seed.
pub fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

pub fn to_f64(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// Every element within `tolerance`, absolute and relative to numbers above 1.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(g) - e).abs() / e.abs().max(1.0);
        assert!(error <= tolerance, "{what}: element {i} is {g}, expected {e}, error {error:e}");
    }
}

/// Checks `gradient` of `Σ weight · f(x)` with respect to x by central differences, at some of the elements.
#[track_caller]
pub fn assert_gradient(
    what: &str,
    x: &[f32],
    weight: &[f32],
    gradient: &[f32],
    tolerance: f64,
    f: impl Fn(&[f64]) -> Vec<f64>,
) {
    const STEP: f64 = 1e-6; // small, so that hardly ever an element crosses the corner of a ReLU
    assert_eq!(x.len(), gradient.len(), "{what}: length");
    let loss = |x: &[f64]| -> f64 {
        let y = f(x);
        assert_eq!(y.len(), weight.len(), "{what}: output length");
        y.iter().zip(weight).map(|(y, &w)| y * f64::from(w)).sum()
    };
    let mut point = to_f64(x);
    for i in (0..x.len()).step_by((x.len() / 40).max(1)) {
        let mut at = |offset: f64| {
            point[i] = f64::from(x[i]) + offset;
            let value = loss(&point);
            point[i] = f64::from(x[i]);
            value
        };
        let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
        let error = (f64::from(gradient[i]) - expected).abs() / expected.abs().max(1.0);
        assert!(
            error <= tolerance,
            "{what}: element {i} is {}, expected {expected}, error {error:e}",
            gradient[i]
        );
    }
}
