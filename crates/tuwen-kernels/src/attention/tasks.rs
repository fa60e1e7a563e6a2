//! What is computed for one head.

use super::head::Head;
use crate::aligned::Scratch;
use crate::bf16::{round_each, widen_each};
use crate::gemm::{Kernel, MatRef, OwnProduct, OwnTask, Target};
use crate::math::sum_of;
use crate::threads::SendPtr;

/// Queries that are worked on together: their scores stay in the cache.
const QUERIES: usize = 112;

/// Some rows of a matrix.
fn rows_of(m: MatRef, from: usize, len: usize) -> MatRef {
    MatRef { data: &m.data[from * m.row_stride..], rows: len, ..m }
}

/// The rows of a matrix that are contiguous.
fn rows<'a>(m: MatRef<'a>) -> impl Iterator<Item = &'a [f32]> {
    (0..m.rows).map(move |row| &m.data[row * m.row_stride..][..m.cols])
}

fn whole(data: &mut [f32], stride: usize) -> Target {
    Target { start: SendPtr(data.as_mut_ptr()), stride }
}

/// The output of a head.
pub(super) struct Forward<'a> {
    pub(super) q: MatRef<'a>,
    pub(super) k: MatRef<'a>,
    pub(super) v: MatRef<'a>,
    pub(super) out: Target,
    pub(super) lse: Option<&'a mut [f32]>,
    /// Receives queries, keys and values.
    pub(super) kept: Option<&'a mut [u16]>,
    pub(super) head: Head<'a>,
}

impl OwnTask for Forward<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(mut self) {
        let (queries, stride) = (self.q.rows, self.head.padded());
        if let Some(kept) = self.kept {
            let rows = [self.q, self.k, self.v].into_iter().flat_map(rows);
            rows.zip(kept.chunks_exact_mut(self.q.cols.max(1))).for_each(|(row, kept)| round_each(row, kept));
        }
        let mut scores = Scratch::take(queries.min(QUERIES) * stride);
        // SAFETY: the products have the shapes of their targets, and this head of `out` is this task's.
        unsafe {
            let (k, v) = (P::pack::<K>(&self.k.t()), P::pack::<K>(&self.v));
            for first in (0..queries).step_by(QUERIES) {
                let len = QUERIES.min(queries - first);
                let scores = &mut scores[..len * stride];
                P::multiply::<K>(&rows_of(self.q, first, len), &k, whole(scores, stride));
                let mut factors = [0.0; QUERIES];
                for (i, factor) in factors[..len].iter_mut().enumerate() {
                    let row = &mut scores[i * stride..][..stride];
                    let (f, lse) = self.head.exponentials::<P>(first + i, row);
                    self.head.leave_out(first + i, row);
                    *factor = f;
                    if let Some(out) = &mut self.lse {
                        out[first + i] = lse;
                    }
                }
                let start = SendPtr(self.out.start.get().wrapping_add(first * self.out.stride));
                let scores =
                    MatRef { data: scores, rows: len, cols: self.k.rows, row_stride: stride, col_stride: 1 };
                P::multiply::<K>(&scores, &v, Target { start, ..self.out });
                for (i, factor) in factors[..len].iter().enumerate() {
                    for value in start.slice(i * self.out.stride, self.v.cols) {
                        *value *= factor;
                    }
                }
            }
        }
    }
}

/// The probabilities of a head.
pub(super) struct Weights<'a> {
    pub(super) q: MatRef<'a>,
    pub(super) k: MatRef<'a>,
    pub(super) weights: &'a mut [f32],
    pub(super) head: Head<'a>,
}

impl OwnTask for Weights<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let keys = self.k.rows;
        // SAFETY: the weights are [queries, keys].
        unsafe {
            let k = P::pack::<K>(&self.k.t());
            P::multiply::<K>(&self.q, &k, whole(self.weights, keys));
        }
        for (i, row) in self.weights.chunks_exact_mut(keys.max(1)).enumerate() {
            self.head.softmax(i, row);
        }
    }
}

/// Queries, keys and values of a head.
pub(super) enum Inputs<'a> {
    /// As they were.
    Whole([MatRef<'a>; 3]),
    /// As [`Forward`] kept them.
    Kept(&'a [u16]),
}

/// The gradients of a head.
pub(super) struct Backward<'a> {
    pub(super) inputs: Inputs<'a>,
    pub(super) out: MatRef<'a>,
    pub(super) dout: MatRef<'a>,
    pub(super) lse: &'a [f32],
    pub(super) dq: Target,
    pub(super) dk: Target,
    pub(super) dv: Target,
    pub(super) head: Head<'a>,
}

impl OwnTask for Backward<'_> {
    #[inline(always)]
    unsafe fn run<K: Kernel, P: OwnProduct>(self) {
        let mut wide = Scratch::take(if let Inputs::Kept(kept) = self.inputs { kept.len() } else { 0 });
        let [q, k, v] = match self.inputs {
            Inputs::Whole(inputs) => inputs,
            Inputs::Kept(kept) => {
                widen_each(kept, &mut wide);
                self.head.beside(&wide)
            }
        };
        let (queries, stride) = (q.rows, self.head.padded());
        let (mut p, mut ds) = (Scratch::take(queries * stride), Scratch::take(queries * stride));
        // SAFETY: the products have the shapes of their targets, and this head of the gradients is this task's.
        unsafe {
            P::multiply::<K>(&q, &P::pack::<K>(&k.t()), whole(&mut p, stride));
            P::multiply::<K>(&self.dout, &P::pack::<K>(&v.t()), whole(&mut ds, stride));
        }
        for i in 0..queries {
            let (p, ds) = (&mut p[i * stride..][..stride], &mut ds[i * stride..][..stride]);
            self.head.softmax_again(i, self.lse[i], p);
            let row = |m: &MatRef| i * m.row_stride..i * m.row_stride + m.cols;
            let (out, dout) = (&self.out.data[row(&self.out)], &self.dout.data[row(&self.dout)]);
            // The sum of p · dp over the row, as it comes out of the forward pass.
            let along = sum_of([out, dout], |[out, dout]| out * dout);
            let scale = self.head.shape.scale;
            self.head.leave_out(i, ds);
            for (ds, p) in ds.iter_mut().zip(p.iter()) {
                *ds = *p * (*ds - along) * scale;
            }
            self.head.leave_out(i, p);
        }
        // SAFETY: as above.
        unsafe {
            let matrix =
                |data| MatRef { data, rows: queries, cols: k.rows, row_stride: stride, col_stride: 1 };
            let (p, ds) = (matrix(&p), matrix(&ds));
            P::multiply::<K>(&ds, &P::pack::<K>(&k), self.dq);
            P::multiply::<K>(&ds.t(), &P::pack::<K>(&q), self.dk);
            P::multiply::<K>(&p.t(), &P::pack::<K>(&self.dout), self.dv);
        }
    }
}
