//! Normalisations, softmax and cross entropy.

use tuwen_kernels::reference;
use tuwen_tensor::{Targets, Tensor, ops};

use super::support::{assert_close, check, input, inputs};

#[test]
fn layer_norm() {
    for (shape, eps) in
        [(&[3][..], 1e-5_f32), (&[5, 7], 1e-5), (&[2, 3, 17], 1e-12), (&[4, 2], 0.1), (&[0, 3], 1e-5)]
    {
        let cols = &shape[shape.len() - 1..];
        let op = |t: &[Tensor]| ops::layer_norm(&t[0], &t[1], &t[2], eps);
        let definition = |v: &[Vec<f64>]| reference::layer_norm(&v[0], &v[1], &v[2], f64::from(eps)).0;
        check(&format!("{shape:?}, eps {eps}"), &inputs(&[shape, cols, cols]), op, definition);
    }
}

#[test]
fn batch_norm() {
    for shape in [&[5, 3][..], &[2, 3, 4, 5], &[7, 1]] {
        let channels = &shape[shape.len() - 1..];
        for (relu, has_residual) in [(false, false), (true, false), (false, true), (true, true)] {
            let what = format!("{shape:?}, relu {relu}, residual {has_residual}");
            let mut shapes = vec![shape, channels, channels];
            shapes.extend(has_residual.then_some(shape));
            let inputs = inputs(&shapes);
            let op = |t: &[Tensor]| ops::batch_norm(&t[0], &t[1], &t[2], t.get(3), relu, 1e-5);
            let definition = |v: &[Vec<f64>]| {
                let eps = f64::from(1e-5_f32);
                reference::batch_norm_train(&v[0], &v[1], &v[2], eps, v.get(3).map(|r| &r[..]), relu)
            };
            check(&what, &inputs, |t| op(t).0, |v| definition(v).0);

            let leaves: Vec<Tensor> = inputs.iter().map(|input| input.tensor().leaf()).collect();
            let (_, mean, variance) =
                definition(&inputs.iter().map(|input| input.wide()).collect::<Vec<_>>());
            let (_, statistics) = op(&leaves);
            assert!(!statistics.mean.requires_grad() && !statistics.variance.requires_grad(), "{what}");
            assert_close(&what, &statistics.mean.to_vec(), &mean);
            assert_close(&what, &statistics.variance.to_vec(), &variance);
        }
    }
}

#[test]
fn l2_normalize() {
    for shape in [&[3][..], &[5, 7], &[2, 3, 2]] {
        let cols = shape[shape.len() - 1];
        let definition = |v: &[Vec<f64>]| reference::l2_normalize(&v[0], cols, 1e-12);
        check(&format!("{shape:?}"), &inputs(&[shape]), |t| ops::l2_normalize(&t[0]), definition);
    }
    let zero = Tensor::full(0.0, &[2, 3]).leaf();
    let y = ops::l2_normalize(&zero);
    assert_eq!(y.to_vec(), [0.0; 6]);
    let gradient = y.backward_from(Tensor::full(0.0, &[2, 3]));
    assert_eq!(gradient.get(&zero).expect("on the tape").to_vec(), [0.0; 6]);
}

#[test]
fn softmax() {
    for shape in [&[1][..], &[5, 7], &[2, 3, 17]] {
        let x = input(shape, 1);
        let y = ops::softmax(&x.tensor().leaf());
        assert!(!y.requires_grad() && y.shape() == shape, "{shape:?}");
        assert_close(
            &format!("{shape:?}"),
            &y.to_vec(),
            &reference::softmax(&x.wide(), shape[shape.len() - 1]),
        );
    }
}

/// An operation that compares rows of logits with targets, and its definition.
type Loss = fn(&Tensor, Targets) -> Tensor;
type Definition = fn(&[f64], &[f64], usize) -> Vec<f64>;

#[test]
fn cross_entropies() {
    let losses: [(Loss, Definition); 2] = [
        (ops::cross_entropy, reference::cross_entropy),
        (ops::binary_cross_entropy, reference::binary_cross_entropy),
    ];
    for (i, (loss, definition)) in losses.into_iter().enumerate() {
        for (rows, classes) in [(1, 1), (1, 5), (4, 3), (5, 17)] {
            let mut logits = input(&[rows, classes], 1);
            logits.values.iter_mut().for_each(|value| *value *= 8.0);
            let ids: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
            let hard: Vec<f64> = (0..rows * classes)
                .map(|i| f64::from(u8::from(ids[i / classes] as usize == i % classes)))
                .collect();
            // Soft targets need not sum to 1, nor be positive.
            let soft = input(&[rows, classes], 2);
            let mean = |v: &[f64], targets: &[f64]| {
                vec![definition(v, targets, classes).iter().sum::<f64>() / rows as f64]
            };
            let inputs = [logits];
            let op = |t: &[Tensor]| loss(&t[0], Targets::Classes(&ids));
            check(&format!("{i} [{rows}, {classes}], classes"), &inputs, op, |v| mean(&v[0], &hard));
            let op = |t: &[Tensor]| loss(&t[0], Targets::Soft(&soft.values));
            check(&format!("{i} [{rows}, {classes}], soft"), &inputs, op, |v| mean(&v[0], &soft.wide()));
        }
    }
}

#[test]
fn weighted_and_smoothed_cross_entropy() {
    for (rows, classes) in [(1, 1), (1, 5), (4, 3), (5, 17)] {
        let ids: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
        let smooth: Vec<f64> = (0..rows * classes)
            .map(|i| {
                0.8 * f64::from(u8::from(ids[i / classes] as usize == i % classes)) + 0.2 / classes as f64
            })
            .collect();
        let weights: Vec<f32> = (0..rows).map(|row| 0.3 * row as f32 - 0.1).collect();
        let op = |t: &[Tensor]| ops::weighted_cross_entropy(&t[0], Targets::Smoothed(&ids, 0.2), &weights);
        check(&format!("[{rows}, {classes}]"), &[input(&[rows, classes], 1)], op, |v| {
            let losses = reference::cross_entropy(&v[0], &smooth, classes);
            vec![losses.iter().zip(&weights).map(|(loss, &weight)| loss * f64::from(weight)).sum()]
        });
    }
}
