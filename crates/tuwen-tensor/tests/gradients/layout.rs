//! Operations that move values: joining, cutting, reordering, repeating and looking up.

use tuwen_kernels::reference;
use tuwen_tensor::{Tensor, ops};

use super::support::{check, inputs};

/// The part `start .. start + length` of an axis, element by element.
fn narrowed(x: &[f64], shape: &[usize], axis: usize, start: usize, length: usize) -> Vec<f64> {
    let inner: usize = shape[axis + 1..].iter().product();
    let place = |i: usize| i / inner % shape[axis];
    (0..x.len()).filter(|&i| (start..start + length).contains(&place(i))).map(|i| x[i]).collect()
}

#[test]
fn narrow() {
    for (shape, axis, start, length) in [
        (&[7][..], 0, 2, 3),
        (&[3, 7, 5], 0, 1, 2),
        (&[3, 7, 5], 1, 0, 7),
        (&[3, 7, 5], 1, 6, 1),
        (&[3, 7, 5], 2, 2, 2),
    ] {
        let what = format!("{start} + {length} of axis {axis} of {shape:?}");
        let op = |t: &[Tensor]| ops::narrow(&t[0], axis, start, length);
        check(&what, &inputs(&[shape]), op, |v| narrowed(&v[0], shape, axis, start, length));
    }
    let none = ops::narrow(&Tensor::full(1.0, &[3, 7]), 1, 7, 0);
    assert_eq!((none.shape(), none.to_vec()), (&[3, 0][..], vec![]));
}

#[test]
fn concat() {
    let cases: [(&[&[usize]], usize); 5] = [
        (&[&[3]], 0),
        (&[&[2, 5], &[4, 5]], 0),
        (&[&[3, 1, 5], &[3, 4, 5], &[3, 2, 5]], 1),
        (&[&[2, 3, 1], &[2, 3, 6]], 2),
        (&[&[2, 0, 3], &[2, 4, 3]], 1),
    ];
    for (shapes, axis) in cases {
        let what = format!("{shapes:?} joined along axis {axis}");
        let op = |t: &[Tensor]| ops::concat(&t.iter().collect::<Vec<_>>(), axis);
        let definition = |v: &[Vec<f64>]| {
            let blocks: usize = shapes[0][..axis].iter().product();
            let block = |v: &Vec<f64>, i: usize| v[i * v.len() / blocks..(i + 1) * v.len() / blocks].to_vec();
            (0..blocks).flat_map(|i| v.iter().flat_map(move |v| block(v, i))).collect()
        };
        check(&what, &inputs(shapes), op, definition);
    }
}

#[test]
fn permute() {
    for (shape, axes) in [
        (&[3, 5][..], &[1, 0][..]),
        (&[2, 3, 5], &[1, 2, 0]),
        (&[2, 3, 5], &[2, 0, 1]),
        (&[2, 7, 3, 5], &[0, 2, 1, 3]),
        (&[2, 7, 3, 5], &[0, 3, 1, 2]),
    ] {
        let op = |t: &[Tensor]| {
            let y = ops::permute(&t[0], axes);
            assert_eq!(y.shape(), axes.iter().map(|&axis| shape[axis]).collect::<Vec<_>>());
            y
        };
        let definition = |v: &[Vec<f64>]| reference::permute(&v[0], shape, axes);
        check(&format!("{shape:?} in the order {axes:?}"), &inputs(&[shape]), op, definition);
    }
}

#[test]
fn reshape() {
    for (shape, to) in [(&[2, 6][..], &[3, 4][..]), (&[1], &[]), (&[], &[1, 1]), (&[2, 3, 5], &[30])] {
        let what = format!("{shape:?} as {to:?}");
        check(&what, &inputs(&[shape]), |t| ops::reshape(&t[0], to), |v| v[0].clone());
    }
}

#[test]
fn repeat_axis() {
    for (shape, len) in [(&[][..], 3), (&[5], 1), (&[2, 3], 4)] {
        let what = format!("{shape:?} {len} times");
        check(&what, &inputs(&[shape]), |t| ops::repeat_axis(&t[0], len), |v| v[0].repeat(len));
    }
}

#[test]
fn gather_rows() {
    for (shape, ids) in [
        (&[1, 1][..], &[0, 0, 0][..]),
        (&[5, 3], &[4, 0, 4, 4, 1]),
        (&[3, 17], &[2]),
        (&[4, 7], &[0, 1, 2, 3, 3, 2, 1, 0, 3]),
    ] {
        let op = |t: &[Tensor]| ops::gather_rows(&t[0], ids);
        let cols = shape[1];
        let row = |v: &[f64], id: u32| v[id as usize * cols..(id as usize + 1) * cols].to_vec();
        let definition = |v: &[Vec<f64>]| ids.iter().flat_map(|&id| row(&v[0], id)).collect();
        check(&format!("rows {ids:?} of {shape:?}"), &inputs(&[shape]), op, definition);
    }
}

#[test]
#[should_panic(expected = "row 5 of a table of 5 rows")]
fn a_row_outside_the_table_is_refused() {
    ops::gather_rows(&Tensor::full(0.0, &[5, 3]), &[0, 5]);
}
