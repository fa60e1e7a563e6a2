//! Permuting axes.

use crate::threads::{CHUNK, SendPtr, parallel_for};

/// `y` = `x` of `shape` with its axes in the order `axes`: `y.shape[i] = shape[axes[i]]`.
pub fn permute(x: &[f32], shape: &[usize], axes: &[usize], y: &mut [f32]) {
    let rank = shape.len();
    let len: usize = shape.iter().product();
    assert_eq!(x.len(), len, "permute: x is not {shape:?}");
    assert_eq!(y.len(), len, "permute: y is not a permutation of {shape:?}");
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..rank), "permute: {axes:?} are not the axes of {shape:?}");
    if len == 0 {
        return;
    }
    let axes = merge_axes(shape, axes);
    let Some((&inner, outer)) = axes.split_last() else {
        y[0] = x[0];
        return;
    };
    let out = SendPtr(y.as_mut_ptr());
    // A run is contiguous in both, or a transposed plane: its last output axis, and the output axis that is
    // contiguous in the input.
    let plane = outer.iter().position(|axis| axis.stride == 1 && inner.stride != 1);
    let Some(plane) = plane else {
        let rows = len / inner.len;
        let rows_per_task = (CHUNK / inner.len).max(1);
        return parallel_for(rows.div_ceil(rows_per_task), |task| {
            for row in task * rows_per_task..rows.min((task + 1) * rows_per_task) {
                // SAFETY: each row of the output is written by one task.
                let y = unsafe { out.slice(row * inner.len, inner.len) };
                copy_run(&x[offset(outer, row)..], inner, y);
            }
        });
    };
    let columns = outer[plane];
    let column_stride: usize = outer[plane + 1..].iter().map(|axis| axis.len).product::<usize>() * inner.len;
    let mut others = outer.to_vec();
    others.remove(plane);
    let planes = len / inner.len / columns.len;
    let inside: usize = others[plane..].iter().map(|axis| axis.len).product();
    let bands = columns.len.div_ceil(TILE);
    parallel_for(planes * bands, |task| {
        let (index, band) = (task / bands, task % bands);
        let from = offset(&others, index);
        let to = index / inside * inside * inner.len * columns.len + index % inside * inner.len;
        for i0 in (0..inner.len).step_by(TILE) {
            for j in band * TILE..columns.len.min((band + 1) * TILE) {
                let rows = TILE.min(inner.len - i0);
                // SAFETY: the pieces of the output of different tasks and steps do not overlap.
                let y = unsafe { out.slice(to + j * column_stride + i0, rows) };
                for (i, y) in y.iter_mut().enumerate() {
                    *y = x[from + j + (i0 + i) * inner.stride];
                }
            }
        }
    });
}

/// Side of the square tiles of a transposition: one cache line of f32.
const TILE: usize = 16;

/// An axis of the output: its length, and its stride in the input.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    len: usize,
    stride: usize,
}

/// The axes of the output, without axes of length 1 and with neighbours joined that lie together in the input.
fn merge_axes(shape: &[usize], axes: &[usize]) -> Vec<Axis> {
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let mut merged: Vec<Axis> = Vec::new();
    for axis in axes.iter().map(|&a| Axis { len: shape[a], stride: stride(a) }).filter(|axis| axis.len != 1) {
        match merged.last_mut() {
            Some(last) if last.stride == axis.stride * axis.len => {
                *last = Axis { len: last.len * axis.len, stride: axis.stride };
            }
            _ => merged.push(axis),
        }
    }
    merged
}

/// Where in the input the `index`-th combination of `axes` begins.
fn offset(axes: &[Axis], mut index: usize) -> usize {
    let mut offset = 0;
    for axis in axes.iter().rev() {
        offset += index % axis.len * axis.stride;
        index /= axis.len;
    }
    offset
}

fn copy_run(x: &[f32], axis: Axis, y: &mut [f32]) {
    if axis.stride == 1 {
        y.copy_from_slice(&x[..axis.len]);
    } else {
        y.iter_mut().zip(x.iter().step_by(axis.stride)).for_each(|(y, x)| *y = *x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_that_lie_together_are_merged() {
        let axis = |len, stride| Axis { len, stride };
        assert_eq!(merge_axes(&[2, 3, 4], &[0, 1, 2]), [axis(24, 1)]);
        assert_eq!(merge_axes(&[2, 3, 4], &[2, 0, 1]), [axis(4, 1), axis(6, 4)]);
        assert_eq!(merge_axes(&[2, 1, 4], &[2, 1, 0]), [axis(4, 1), axis(2, 4)]);
        assert_eq!(merge_axes(&[1, 1], &[1, 0]), []);
    }
}
