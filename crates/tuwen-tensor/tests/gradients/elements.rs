//! Activations, element-wise arithmetic and reductions.

use tuwen_kernels::reference;
use tuwen_tensor::{Activation, ops};

use super::support::{check, inputs};

pub const ACTIVATIONS: [Activation; 5] =
    [Activation::Identity, Activation::Relu, Activation::Gelu, Activation::QuickGelu, Activation::Silu];

fn map(x: &[f64], f: impl Fn(f64) -> f64) -> Vec<f64> {
    x.iter().map(|&x| f(x)).collect()
}

#[test]
fn activate() {
    for activation in ACTIVATIONS {
        for shape in [&[][..], &[1], &[3, 7, 5]] {
            let mut inputs = inputs(&[shape]);
            inputs[0].values.iter_mut().for_each(|value| *value *= 5.0);
            let what = format!("{activation:?} of {shape:?}");
            let definition = |v: &[Vec<f64>]| map(&v[0], |x| reference::activate(activation, x));
            check(&what, &inputs, |t| ops::activate(activation, &t[0]), definition);
        }
    }
}

#[test]
fn add() {
    let shapes: [[&[usize]; 2]; 6] = [
        [&[5, 3], &[5, 3]],
        [&[5, 3], &[3]],
        [&[2, 5, 3], &[5, 3]],
        [&[4, 1], &[1]],
        [&[2, 3], &[]],
        [&[], &[]],
    ];
    for [a, b] in shapes {
        let definition = |v: &[Vec<f64>]| (0..v[0].len()).map(|i| v[0][i] + v[1][i % v[1].len()]).collect();
        check(&format!("{a:?} + {b:?}"), &inputs(&[a, b]), |t| ops::add(&t[0], &t[1]), definition);
    }
}

#[test]
fn mul() {
    let shapes: [[&[usize]; 2]; 6] = [
        [&[5, 3], &[5, 3]],
        [&[5, 3], &[]],
        [&[2, 5, 3], &[1]],
        [&[7], &[1, 1, 1]],
        [&[], &[]],
        [&[1, 1], &[1]],
    ];
    for [a, b] in shapes {
        let definition = |v: &[Vec<f64>]| (0..v[0].len()).map(|i| v[0][i] * v[1][i % v[1].len()]).collect();
        check(&format!("{a:?} * {b:?}"), &inputs(&[a, b]), |t| ops::mul(&t[0], &t[1]), definition);
    }
}

#[test]
fn scale_and_exp() {
    for shape in [&[][..], &[1], &[3, 7, 5]] {
        let inputs = inputs(&[shape]);
        for factor in [0.0, -2.5, 1.0] {
            let definition = |v: &[Vec<f64>]| map(&v[0], |x| x * f64::from(factor));
            check(&format!("{shape:?} times {factor}"), &inputs, |t| ops::scale(&t[0], factor), definition);
        }
        check(&format!("exp of {shape:?}"), &inputs, |t| ops::exp(&t[0]), |v| map(&v[0], f64::exp));
    }
}

#[test]
fn sum() {
    for shape in [&[][..], &[1], &[129], &[3, 7, 5]] {
        check(
            &format!("sum of {shape:?}"),
            &inputs(&[shape]),
            |t| ops::sum(&t[0]),
            |v| vec![v[0].iter().sum()],
        );
    }
}

#[test]
fn mean_axis() {
    for (shape, axis) in
        [(&[3][..], 0), (&[1, 1], 1), (&[3, 7, 5], 0), (&[3, 7, 5], 1), (&[3, 7, 5], 2), (&[2, 3, 4, 5], 2)]
    {
        let around = |range: std::ops::Range<usize>| shape[range].iter().product::<usize>();
        let (outer, inner) = (around(0..axis), around(axis + 1..shape.len()));
        let what = format!("mean of {shape:?} over axis {axis}");
        let op = |t: &[tuwen_tensor::Tensor]| {
            let y = ops::mean_axis(&t[0], axis);
            assert_eq!(y.shape(), [&shape[..axis], &shape[axis + 1..]].concat());
            y
        };
        check(&what, &inputs(&[shape]), op, |v| reference::mean_axis(&v[0], outer, shape[axis], inner));
    }
}
