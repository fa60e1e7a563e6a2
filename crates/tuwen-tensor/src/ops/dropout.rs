//! Dropout: a random part of the elements is left out, the others grow by as much.

use tuwen_kernels::parallel_chunks_mut;

use crate::tape::{needs_tape, record};
use crate::{Tensor, ops};

/// Distance of SplitMix64's states.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
/// Elements that a thread decides on at a time; four to a random number.
const CHUNK: usize = 64 << 10;

/// `x` with a part `rate` of its elements set to zero and the others divided by `1 - rate`; the seed decides which.
///
/// # Panics
/// If the rate is not at least 0 and below 1.
pub fn dropout(x: &Tensor, rate: f32, seed: u64) -> Tensor {
    assert!((0.0..1.0).contains(&rate), "a dropout of {rate}");
    let shape = x.shape().to_vec();
    // Made again in the backward pass: that is cheaper than to keep it.
    let masked =
        move |x: &Tensor| ops::mul(x, &Tensor::on(x.device(), &mask(x.elements(), rate, seed), &shape));
    let y = masked(&x.detach());
    if !needs_tape(&[x]) {
        return y;
    }
    record(y, &[x], move |dy| vec![Some(masked(&dy.detach()))])
}

/// Zeros, and `1 / (1 - rate)` elsewhere. SplitMix64, whose every number decides on four elements.
fn mask(len: usize, rate: f32, seed: u64) -> Vec<f32> {
    let threshold = (f64::from(rate) * 65536.0).round() as u64;
    // What is kept in fact, so that the mean stays.
    let kept = 65536.0 / (65536 - threshold) as f32;
    let mut mask = vec![0.0; len];
    parallel_chunks_mut(&mut mask, CHUNK, |chunk, mask| {
        let mut state = seed.wrapping_add(GAMMA.wrapping_mul((chunk * CHUNK / 4) as u64));
        for four in mask.chunks_mut(4) {
            state = state.wrapping_add(GAMMA);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
            for value in four {
                *value = if z & 0xffff >= threshold { kept } else { 0.0 };
                z >>= 16;
            }
        }
    });
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_left_out_and_the_mean_stays() {
        for rate in [0.0, 0.1, 0.5] {
            let y = dropout(&Tensor::full(1.0, &[100, 1001]), rate, 7).to_vec();
            let zeros = y.iter().filter(|&&value| value == 0.0).count() as f32 / y.len() as f32;
            let mean = y.iter().sum::<f32>() / y.len() as f32;
            assert!((zeros - rate).abs() < 0.005 && (mean - 1.0).abs() < 0.01, "{rate}: {zeros} {mean}");
        }
    }

    #[test]
    fn the_gradient_goes_where_the_values_went() {
        let x = Tensor::full(1.0, &[3, 5]).leaf();
        let y = dropout(&x, 0.4, 3);
        let gradient = ops::sum(&y).backward().take(&x).expect("x is a leaf");
        assert_eq!(gradient.to_vec(), y.to_vec());
        assert_ne!(dropout(&x, 0.4, 4).to_vec(), y.to_vec());
    }
}
