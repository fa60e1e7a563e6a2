//! The two products of a transformer's MLP and the activation between them, for training.
//!
//! Rows are worked on in bands whose inner numbers stay in the second-level cache: those are four times as many as the
//! inputs, and a pass over them through memory costs as much time as a good part of a product. What the backward pass
//! keeps is the input of the activation alone; the output comes back together with the gradient, from one sigmoid or
//! error function.

use std::ops::Range;

use crate::activation::{Activation, activate_band, activate_band_backward};
use crate::aligned::Scratch;
use crate::gemm::{Epilogue, MatRef, PackedB, gemm};
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

/// `y [rows, out]` of `x [rows, in]`, plus the residual `[rows, out]`; `z [rows, inner]` receives what the activation is
/// applied to.
pub fn mlp(x: &[f32], rows: usize, mlp: &Mlp, residual: Option<&[f32]>, z: &mut [f32], y: &mut [f32]) {
    let (width, inner, out) = (mlp.fc1.k(), mlp.fc1.n(), mlp.fc2.n());
    assert_eq!(mlp.fc2.k(), inner, "mlp: fc2 takes what fc1 gives");
    assert!(x.len() == rows * width && z.len() == rows * inner, "mlp: x or z has other than {rows} rows");
    let fits = residual.is_none_or(|residual| residual.len() == rows * out);
    assert!(y.len() == rows * out && fits, "mlp: y or the residual is not [{rows}, {out}]");
    let bands = Bands::new(rows, inner);
    let (z, y) = (SendPtr(z.as_mut_ptr()), SendPtr(y.as_mut_ptr()));
    parallel_for(bands.count(), |band| {
        let rows = bands.get(band);
        // SAFETY: each band has its own rows of both, whose lengths were checked.
        let (z, y) = unsafe {
            (z.slice(rows.start * inner, rows.len() * inner), y.slice(rows.start * out, rows.len() * out))
        };
        gemm(rows_of(x, &rows, width), mlp.fc1, z, &Epilogue { bias: mlp.bias1, ..Epilogue::default() });
        let mut activated = Scratch::take(z.len());
        activate_band(mlp.activation, z, &mut activated);
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

/// From `dy [rows, out]` to `dx [rows, in]`, `dz [rows, inner]` and the gradient of the first bias, which are overwritten;
/// `z [rows, inner]`, the input of the activation, becomes its output.
pub fn mlp_backward(
    dy: &[f32],
    rows: usize,
    mlp: &MlpBackward,
    z: &mut [f32],
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
    let fits = z.len() == rows * inner && dz.len() == rows * inner && dbias1.len() == inner;
    assert!(fits, "mlp_backward: z, dz or the bias is not of {inner} columns");
    dbias1.fill(0.0);
    let bands = Bands::new(rows, inner);
    let mut sums = Scratch::take(bands.count() * inner);
    let [z, dz, dx, partials] = [z, dz, dx, &mut *sums].map(|data| SendPtr(data.as_mut_ptr()));
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
