//! Permuting axes.
//!
//! Axes that lie together are merged first, so that few kinds are left: runs are copied, and planes are transposed in
//! blocks of 16 in registers, where both sides touch whole cache lines. Memory is the limit.

use crate::gemm::{Kernel, NARROW, Task, dispatch};
use crate::threads::{CHUNK, SendPtr, parallel_for, parallel_for_work};

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
    let bands = columns.len.div_ceil(BAND);
    parallel_for_work(planes * bands, len, CHUNK, |task| {
        let (index, band) = (task / bands, task % bands);
        let to = index / inside * inside * inner.len * columns.len + index % inside * inner.len;
        let first = band * BAND;
        let x = &x[offset(&others, index) + first..];
        dispatch(Transpose {
            x,
            rows: inner.len,
            columns: BAND.min(columns.len - first),
            stride: inner.stride,
            // SAFETY: this column of the plane lies within the output.
            out: unsafe { out.get().add(to + first * column_stride) },
            out_stride: column_stride,
        });
    });
}

/// Columns that a task transposes.
const BAND: usize = 64;

/// The transposition of `x [rows, columns]`; the strides are those of rows.
struct Transpose<'a> {
    x: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
    out: *mut f32,
    out_stride: usize,
}

impl Task for Transpose<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel>(self) {
        for first in (0..self.rows).step_by(NARROW) {
            let rows = NARROW.min(self.rows - first);
            let mut sources = [std::ptr::null(); NARROW];
            for (i, source) in sources[..rows].iter_mut().enumerate() {
                *source = self.x[(first + i) * self.stride..][..self.columns].as_ptr();
            }
            // SAFETY: the sources have that many columns, and these elements of the output are this task's.
            unsafe {
                K::interleave(&sources[..rows], self.columns, self.out.add(first), self.out_stride, rows);
            }
        }
    }
}

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
