//! The two products of a transformer's MLP and the activation between them, for training.
//!
//! Rows are worked on in bands whose inner numbers stay in the second-level cache: those are four times as many as the
//! inputs, and a pass over them through memory costs as much time as a good part of a product. What the backward pass
//! keeps is the input of the activation alone, in bf16 where that is what the weights are multiplied in; the output comes
//! back together with the gradient, from one sigmoid or error function.

use std::ops::Range;

use crate::activation::{Activation, activate_band, activate_band_backward};
use crate::aligned::Scratch;
use crate::bf16;
use crate::gemm::{Epilogue, MatRef, PackedB, gemm};
use crate::precision::Precision;
use crate::threads::{SendPtr, parallel_for};

/// Inner numbers of a band: 1 MiB.
const BAND: usize = 1 << 18;

/// `activation(x · fc1 + bias1) · fc2 + bias2`.
#[derive(Debug, Clone, Copy)]
pub struct Mlp<'a> {
    /// `[in, inner]`.
    pub fc1: &'a PackedB,
    /// One number per inner column.
    pub bias1: Option<&'a [f32]>,
    /// Between the products.
    pub activation: Activation,
    /// `[inner, out]`.
    pub fc2: &'a PackedB,
    /// One number per column of the result.
    pub bias2: Option<&'a [f32]>,
}

/// How many elements hold what an MLP with weights of this precision keeps of `inner` inputs of the activation for its
/// backward pass: as many, or half as many where two numbers in bf16 share an element.
pub fn mlp_kept_len(precision: Precision, inner: usize) -> usize {
    match precision {
        Precision::F32 => inner,
        Precision::Bf16 | Precision::Int8 => inner.div_ceil(2),
    }
}

/// Bands of rows; the sizes alone decide them.
struct Bands {
    rows: usize,
    height: usize,
}

impl Bands {
    fn new(rows: usize, inner: usize) -> Self {
        // Multiples of the tiles of every instruction set, nearly.
        Self { rows, height: (BAND / inner.max(1)).next_multiple_of(32).clamp(32, 1024) }
    }

    fn count(&self) -> usize {
        self.rows.div_ceil(self.height)
    }

    fn get(&self, band: usize) -> Range<usize> {
        band * self.height..self.rows.min((band + 1) * self.height)
    }
}

/// Rows of a row-major matrix.
fn rows_of<'a>(data: &'a [f32], rows: &Range<usize>, cols: usize) -> MatRef<'a> {
    MatRef::new(&data[rows.start * cols..rows.end * cols], rows.len(), cols)
}

/// `y [rows, out]` of `x [rows, in]`, plus the residual `[rows, out]`; `kept`, of [`mlp_kept_len`] elements, receives what
/// the activation is applied to.
pub fn mlp(x: &[f32], rows: usize, mlp: &Mlp, residual: Option<&[f32]>, kept: &mut [f32], y: &mut [f32]) {
    let (width, inner, out) = (mlp.fc1.k(), mlp.fc1.n(), mlp.fc2.n());
    assert_eq!(mlp.fc2.k(), inner, "mlp: fc2 takes what fc1 gives");
    let fits = x.len() == rows * width && kept.len() == mlp_kept_len(mlp.fc1.precision(), rows * inner);
    assert!(fits, "mlp: x or what is kept has other than {rows} rows");
    let fits = residual.is_none_or(|residual| residual.len() == rows * out);
    assert!(y.len() == rows * out && fits, "mlp: y or the residual is not [{rows}, {out}]");
    let (whole, bands) = (mlp.fc1.precision() == Precision::F32, Bands::new(rows, inner));
    let (halves, kept) = (SendPtr(bf16::halves_mut(kept).as_mut_ptr()), SendPtr(kept.as_mut_ptr()));
    let y = SendPtr(y.as_mut_ptr());
    parallel_for(bands.count(), |band| {
        let rows = bands.get(band);
        let (start, len) = (rows.start * inner, rows.len() * inner);
        // SAFETY: each band has its own rows of both, whose lengths were checked.
        let y = unsafe { y.slice(rows.start * out, rows.len() * out) };
        let mut activated = Scratch::take(len);
        let x = rows_of(x, &rows, width);
        let epilogue = Epilogue { bias: mlp.bias1, ..Epilogue::default() };
        if whole {
            // SAFETY: as above.
            let z = unsafe { kept.slice(start, len) };
            gemm(x, mlp.fc1, z, &epilogue);
            activated.copy_from_slice(z);
        } else {
            gemm(x, mlp.fc1, &mut activated, &epilogue);
            // SAFETY: as above.
            bf16::round(&activated, unsafe { halves.slice(start, len) });
        }
        activate_band(mlp.activation, &mut activated);
        let residual = residual.map(|residual| &residual[rows.start * out..rows.end * out]);
        let epilogue = Epilogue { bias: mlp.bias2, residual, ..Epilogue::default() };
        gemm(MatRef::new(&activated, rows.len(), inner), mlp.fc2, y, &epilogue);
    });
}

/// What the backward pass of an [`Mlp`] multiplies with: gradients of outputs become those of inputs.
#[derive(Debug, Clone, Copy)]
pub struct MlpBackward<'a> {
    /// `[out, inner]`.
    pub fc2: &'a PackedB,
    /// Between the products.
    pub activation: Activation,
    /// `[inner, in]`.
    pub fc1: &'a PackedB,
}

/// From `dy [rows, out]` to `dx [rows, in]`, `dz [rows, inner]` and the gradient of the first bias, which are overwritten.
/// `activated [rows, inner]` becomes the output of the activation; what [`mlp`] kept is in `kept`, or where that is none,
/// in `activated` itself.
pub fn mlp_backward(
    dy: &[f32],
    rows: usize,
    mlp: &MlpBackward,
    kept: Option<&[f32]>,
    activated: &mut [f32],
    dz: &mut [f32],
    dbias1: &mut [f32],
    dx: &mut [f32],
) {
    let (out, inner, width) = (mlp.fc2.k(), mlp.fc2.n(), mlp.fc1.n());
    assert_eq!(mlp.fc1.k(), inner, "mlp_backward: fc1 takes what fc2 gives");
    assert!(
        dy.len() == rows * out && dx.len() == rows * width,
        "mlp_backward: dy or dx has other than {rows} rows"
    );
    let fits = activated.len() == rows * inner && dz.len() == rows * inner && dbias1.len() == inner;
    let fits = fits && kept.is_none_or(|kept| kept.len() == (rows * inner).div_ceil(2));
    assert!(fits, "mlp_backward: what was kept, activated, dz or the bias is not of {inner} columns");
    dbias1.fill(0.0);
    let bands = Bands::new(rows, inner);
    let mut sums = Scratch::take(bands.count() * inner);
    let [z, dz, dx, partials] = [activated, dz, dx, &mut *sums].map(|data| SendPtr(data.as_mut_ptr()));
    parallel_for(bands.count(), |band| {
        let rows = bands.get(band);
        let (start, len) = (rows.start * inner, rows.len() * inner);
        // SAFETY: each band has its own rows and its own sums; the lengths were checked.
        let (z, dz, sums, dx) = unsafe {
            (
                z.slice(start, len),
                dz.slice(start, len),
                partials.slice(band * inner, inner),
                dx.slice(rows.start * width, rows.len() * width),
            )
        };
        gemm(rows_of(dy, &rows, out), mlp.fc2, dz, &Epilogue::default());
        if let Some(kept) = kept {
            bf16::widen(&bf16::halves(kept)[start..][..len], z);
        }
        sums.fill(0.0);
        activate_band_backward(mlp.activation, z, dz, sums);
        gemm(MatRef::new(dz, rows.len(), inner), mlp.fc1, dx, &Epilogue::default());
    });
    if inner > 0 {
        for partial in sums.chunks_exact(inner) {
            dbias1.iter_mut().zip(partial).for_each(|(sum, partial)| *sum += partial);
        }
    }
}
