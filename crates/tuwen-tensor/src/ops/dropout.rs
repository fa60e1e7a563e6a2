//! Dropout: a random part of the elements is left out, the others grow by as much.

use tuwen_kernels::Dropout;

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// `x` with a part of its elements set to zero and the others divided by what is kept of one.
///
/// # Panics
/// If the rate is not at least 0 and below 1.
pub fn dropout(x: &Tensor, dropout: Dropout) -> Tensor {
    let (device, shape) = (x.device(), x.shape().to_vec());
    // The backward pass leaves out the same once more: that is cheaper than to keep what was left out.
    let left = move |x: &Tensor| Tensor::from_buffer(device, device.dropout(x.buffer(), dropout), &shape);
    let y = left(x);
    if !needs_tape(&[x]) {
        return y;
    }
    record(y, &[x], move |dy| vec![Some(left(&dy))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops;

    #[test]
    fn so_many_are_left_out_and_the_mean_stays() {
        for rate in [0.0, 0.1, 0.5] {
            let y = dropout(&Tensor::full(1.0, &[100, 1001]), Dropout { rate, seed: 7 }).to_vec();
            let zeros = y.iter().filter(|&&value| value == 0.0).count() as f32 / y.len() as f32;
            let mean = y.iter().sum::<f32>() / y.len() as f32;
            assert!((zeros - rate).abs() < 0.005 && (mean - 1.0).abs() < 0.01, "{rate}: {zeros} {mean}");
        }
    }

    #[test]
    fn the_gradient_goes_where_the_values_went() {
        let x = Tensor::full(1.0, &[3, 5]).leaf();
        let y = dropout(&x, Dropout { rate: 0.4, seed: 3 });
        let gradient = ops::sum(&y).backward().take(&x).expect("x is a leaf");
        assert_eq!(gradient.to_vec(), y.to_vec());
        assert_ne!(dropout(&x, Dropout { rate: 0.4, seed: 4 }).to_vec(), y.to_vec());
    }
}
