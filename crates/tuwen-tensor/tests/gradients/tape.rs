//! The tape: tensors used more than once, parts off the tape, and what may not be done twice.

use tuwen_kernels::reference;
use tuwen_tensor::{
    Activation, AttentionMask, AttentionShape, ConvShape, Dropout, Param, Precision, Targets, Tensor,
    checkpoint, checkpoint_of, no_grad, ops,
};

use super::matrix::product;
use super::support::{check, input, inputs};

fn linear(x: &Tensor, weight: &Tensor) -> Tensor {
    ops::linear(x, weight, None, Activation::Identity, None)
}

#[test]
fn a_tensor_used_twice_gets_the_sum() {
    let x = inputs(&[&[3, 5]]);
    check("x + x", &x, |t| ops::add(&t[0], &t[0]), |v| v[0].iter().map(|x| 2.0 * x).collect());
    check("x * x", &x, |t| ops::mul(&t[0], &t[0]), |v| v[0].iter().map(|x| x * x).collect());
    let doubled = |v: &[Vec<f64>]| [&v[0][..], &v[0][..]].concat();
    check("x and x", &x, |t| ops::concat(&[&t[0], &t[0]], 0), doubled);
    // The same gradient flows to both sides of the first sum, and one side goes on to be added to.
    let op = |t: &[Tensor]| {
        let y = ops::add(&t[0], &ops::scale(&t[0], 3.0));
        ops::add(&ops::mul(&y, &t[0]), &y)
    };
    check("4x² + 4x", &x, op, |v| v[0].iter().map(|x| 4.0 * x * x + 4.0 * x).collect());
    let op = |t: &[Tensor]| ops::mul(&t[0].reshape(&[5, 3]), &ops::scale(&t[0], -1.0).reshape(&[5, 3]));
    check("two views", &x, op, |v| v[0].iter().map(|x| -x * x).collect());
}

#[test]
fn a_weight_used_twice_gets_the_sum() {
    // Once as it is and once transposed; x is also the residual.
    let op = |t: &[Tensor]| {
        let hidden = linear(&t[0], &t[1]);
        ops::linear(&hidden, &ops::permute(&t[1], &[1, 0]), None, Activation::Silu, Some(&t[0]))
    };
    let definition = |v: &[Vec<f64>]| {
        let hidden = product(&v[0], &v[1], 4);
        let back = product(&hidden, &reference::permute(&v[1], &[3, 4], &[1, 0]), 3);
        back.iter().zip(&v[0]).map(|(&y, x)| reference::activate(Activation::Silu, y) + x).collect()
    };
    check("there and back", &inputs(&[&[5, 4], &[3, 4]]), op, definition);

    // An embedding tied to the output, as in a language model.
    let ids = [2, 0, 2, 3];
    let op = |t: &[Tensor]| linear(&ops::gather_rows(&t[0], &ids), &t[0]);
    let definition = |v: &[Vec<f64>]| {
        let rows: Vec<f64> = ids.iter().flat_map(|&id| v[0][id as usize * 3..][..3].to_vec()).collect();
        product(&rows, &v[0], 3)
    };
    check("tied embedding", &inputs(&[&[4, 3]]), op, definition);
}

/// One weight at two sizes and strides: what is remembered of its packed form may not depend on the image.
#[test]
fn a_convolution_weight_used_twice_gets_the_sum() {
    let shape = |height, width, stride, padding| ConvShape {
        batch: 1,
        height,
        width,
        in_channels: 2,
        out_channels: 2,
        kernel: 3,
        stride,
        padding,
    };
    let (first, second) = (shape(7, 5, 1, 1), shape(7, 5, 2, 0));
    let op = |t: &[Tensor]| {
        let hidden = ops::conv2d(&t[0], &t[1], 1, 1, None, None, false);
        ops::conv2d(&hidden, &t[1], 2, 0, None, None, false)
    };
    let definition =
        |v: &[Vec<f64>]| reference::conv2d(&reference::conv2d(&v[0], &v[1], &first), &v[1], &second);
    check("twice", &inputs(&[&[1, 7, 5, 2], &[2, 2, 3, 3]]), op, definition);
}

/// A transformer block with a tied projection and a loss at its end: everything in a row.
#[test]
fn a_block_of_operations() {
    let (batch, length, width, heads) = (2, 4, 6, 2);
    let keys = [true, true, true, false, true, true, true, true];
    let ids: Vec<u32> = (0..8).map(|i| i * 5 % 6).collect();
    let dropout = Dropout { rate: 0.25, seed: 8 };
    let mask = AttentionMask { causal: true, keys: Some(&keys), dropout };
    let op = |t: &[Tensor]| {
        let normed = ops::layer_norm(&t[0], &t[1], &t[2], 1e-5);
        let (q, v) = (linear(&normed, &t[3]), linear(&normed, &t[3]));
        let attended = ops::attention(&q, &normed, &v, heads, mask, Precision::F32);
        let x = ops::linear(&attended, &t[4], Some(&t[2]), Activation::QuickGelu, Some(&t[0]));
        let rows = ops::l2_normalize(&x).reshape(&[batch * length, width]);
        ops::cross_entropy(&linear(&rows, &t[4]), Targets::Classes(&ids))
    };
    let sizes = AttentionShape {
        batch,
        heads,
        head_dim: width / heads,
        query_len: length,
        key_len: length,
        scale: 3_f32.sqrt().recip(),
        causal: true,
        precision: Precision::F32,
        dropout,
    };
    let definition = |v: &[Vec<f64>]| {
        let normed = reference::layer_norm(&v[0], &v[1], &v[2], f64::from(1e-5_f32)).0;
        let q = product(&normed, &v[3], width);
        let attended = reference::attention(&q, &normed, &q, mask.keys, &sizes);
        let x = product(&attended, &v[4], width);
        let x: Vec<f64> = (0..x.len())
            .map(|i| reference::activate(Activation::QuickGelu, x[i] + v[2][i % width]) + v[0][i])
            .collect();
        let logits = product(&reference::l2_normalize(&x, width, 1e-12), &v[4], width);
        let target = |i: usize| f64::from(u8::from(ids[i / width] as usize == i % width));
        let targets: Vec<f64> = (0..logits.len()).map(target).collect();
        let losses = reference::cross_entropy(&logits, &targets, width);
        vec![losses.iter().sum::<f64>() / losses.len() as f64]
    };
    let square: &[usize] = &[width, width];
    check("block", &inputs(&[&[batch, length, width], &[width], &[width], square, square]), op, definition);
}

#[test]
fn what_is_computed_again_of_several_inputs_has_the_gradients_of_what_is_kept() {
    let inside = Param::new(input(&[6, 6], 1).tensor(), true);
    let gradients = |wanted: [bool; 2], recompute: bool| {
        let inside = inside.clone();
        let [x, z] = [3, 4].map(|seed| input(&[3, 6], seed).tensor());
        let [x, z] = [(x, wanted[0]), (z, wanted[1])].map(|(x, wanted)| if wanted { x.leaf() } else { x });
        let leaf = inside.value();
        let f = move |t: &[Tensor]| ops::mul(&linear(&t[0], &inside.value()), &ops::exp(&t[1]));
        let shared = ops::scale(&z, 0.5);
        let y = match recompute {
            true => checkpoint_of(&[&x, &shared], f),
            false => f(&[x.clone(), shared.clone()]),
        };
        let gradients = ops::sum(&ops::mul(&y, &shared)).backward();
        [&x, &z, &leaf].map(|leaf| gradients.get(leaf).map(Tensor::to_vec))
    };
    for wanted in [[true, true], [true, false], [false, true], [false, false]] {
        let kept = gradients(wanted, false);
        assert_eq!([kept[0].is_some(), kept[1].is_some()], wanted);
        assert_eq!(gradients(wanted, true), kept, "inputs on the tape: {wanted:?}");
    }
}

/// Recomputed or kept, the gradients are the same: of the input, of a parameter inside, of one used on both sides.
#[test]
fn what_is_computed_again_has_the_gradients_of_what_is_kept() {
    let param = |shape: &[usize], seed| Param::new(input(shape, seed).tensor(), true);
    let (inside, shared) = (param(&[6, 6], 1), param(&[6, 6], 2));
    let block = |inside: Param, shared: Param| {
        move |x: &Tensor| ops::exp(&linear(&linear(x, &inside.value()), &shared.value()))
    };
    let gradients = |wanted: bool, recompute: bool| {
        let x = input(&[3, 6], 3).tensor();
        let x = if wanted { x.leaf() } else { x };
        let f = block(inside.clone(), shared.clone());
        let y = if recompute {
            // Nested: the outer one runs the inner one again.
            checkpoint(&x, move |x| {
                let f = f.clone();
                ops::scale(&checkpoint(&ops::scale(x, 0.5), f), 3.0)
            })
        } else {
            ops::scale(&f(&ops::scale(&x, 0.5)), 3.0)
        };
        let gradients = ops::sum(&linear(&y, &shared.value())).backward();
        [&x, &inside.value(), &shared.value()].map(|leaf| gradients.get(leaf).map(Tensor::to_vec))
    };
    for wanted in [true, false] {
        let kept = gradients(wanted, false);
        assert_eq!((kept[0].is_some(), kept[1].is_some()), (wanted, true));
        assert_eq!(gradients(wanted, true), kept, "input on the tape: {wanted}");
    }

    let x = input(&[3, 6], 3).tensor();
    let frozen = Param::new(input(&[6, 6], 1).tensor(), false);
    let y = checkpoint(&x, block(frozen.clone(), frozen));
    assert!(!y.requires_grad(), "nothing inside needs a gradient");
    assert!(!no_grad(|| checkpoint(&x.leaf(), block(inside.clone(), shared.clone()))).requires_grad());
}

#[test]
fn gradients_add_up() {
    let x = input(&[2, 3], 1).tensor().leaf();
    let other = x.leaf();
    let mut total = ops::sum(&ops::mul(&x, &x)).backward();
    total.accumulate(ops::sum(&ops::add(&x, &other)).backward());
    total.scale(0.5);
    let expected: Vec<f32> = x.to_vec().iter().map(|x| 0.5 * (2.0 * x + 1.0)).collect();
    assert_eq!(total.get(&x).expect("on the tape").to_vec(), expected);
    assert_eq!(total.get(&other).expect("on the tape").to_vec(), [0.5; 6]);
}

#[test]
fn what_is_off_the_tape_gets_nothing() {
    let x = input(&[2, 3], 1).tensor().leaf();
    assert!(!no_grad(|| ops::exp(&x)).requires_grad(), "no_grad");
    assert!(ops::exp(&x).requires_grad(), "recording again");
    assert!(!ops::exp(&x.detach()).requires_grad(), "detached");

    // One factor detached: the gradient of x · const(x) is const(x).
    let mut gradients = ops::sum(&ops::mul(&x, &x.detach())).backward();
    assert_eq!(gradients.take(&x).expect("on the tape").to_vec(), x.to_vec());
    assert!(gradients.take(&x).is_none(), "taken");
    let other = x.leaf();
    let gradients = ops::sum(&x).backward();
    assert_eq!(gradients.get(&x).expect("on the tape").to_vec(), [1.0; 6]);
    assert!(gradients.get(&other).is_none() && gradients.get(&x.detach()).is_none(), "not asked");
    assert_eq!(
        x.clone().backward_from(Tensor::full(2.0, &[2, 3])).get(&x).expect("itself").to_vec(),
        [2.0; 6]
    );
}

#[test]
#[should_panic(expected = "already run backwards")]
fn a_tape_runs_once() {
    let y = ops::exp(&Tensor::full(1.0, &[]).leaf());
    let (first, second) = (ops::scale(&y, 2.0), ops::scale(&y, 3.0));
    first.backward();
    second.backward();
}

#[test]
#[should_panic(expected = "starts at a scalar")]
fn backward_needs_a_scalar() {
    ops::exp(&Tensor::full(1.0, &[2]).leaf()).backward();
}

/// What was derived from a parameter (its packed form, its leaf) ends with its value; a tape keeps the old value.
#[test]
fn a_parameter_changes() {
    let x = Tensor::new(&[1.0, 2.0], &[1, 2]).leaf();
    let param = Param::new(Tensor::new(&[3.0, 4.0], &[1, 2]), true);
    let other_name = param.clone();
    let before = linear(&x, &param.value());
    let (old, version) = (param.value(), param.version());
    param.update(|buffer| {
        let device = old.device();
        device.add_assign(buffer, &device.upload(&[10.0, 20.0]));
    });
    assert_ne!(param.version(), version);
    assert_eq!((before.item(), linear(&x, &other_name.value()).item()), (11.0, 61.0));
    let gradients = before.backward();
    assert_eq!(gradients.get(&x).expect("on the tape").to_vec(), [3.0, 4.0]);
    assert_eq!(gradients.get(&old).expect("on the tape").to_vec(), [1.0, 2.0]);
    assert!(gradients.get(&param.value()).is_none(), "a new leaf");
    param.set_trainable(false);
    assert!(!other_name.is_trainable());
    param.assign(&Tensor::full(0.5, &[1, 2]));
    assert!(!param.value().requires_grad());
    assert_eq!(linear(&x, &param.value()).item(), 1.5);
}

/// What a norm adds to the gradient of its input comes on top of what other operations gave.
#[test]
fn an_operation_adds_to_the_gradient_so_far() {
    let ones = |len: usize| Tensor::full(1.0, &[len]);
    let (gamma, beta) = (ones(4), ones(4));
    let norm = |x: &Tensor| ops::layer_norm(x, &gamma, &beta, 1e-5);
    let x = Tensor::new(&[0.5, -1.0, 2.0, 0.25, 3.0, 1.0, -0.5, 0.125], &[2, 4]).leaf();
    let seed = Tensor::new(&[1.0, 2.0, -1.0, 0.5, 0.25, -2.0, 1.5, 3.0], &[2, 4]);
    let gradient = |y: Tensor| y.backward_from(seed.clone()).take(&x).expect("a gradient").to_vec();
    let normed = gradient(norm(&x));
    let residual = gradient(ops::add(&x, &norm(&x)));
    let twice = gradient(ops::add(&norm(&x), &norm(&x)));
    for (i, seed) in seed.to_vec().into_iter().enumerate() {
        assert_eq!((residual[i], twice[i]), (seed + normed[i], normed[i] + normed[i]));
    }
}
