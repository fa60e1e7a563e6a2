//! Matrix products with a fused epilogue.

use crate::activation::{Activation, activate_in_place};

/// A matrix of any strides.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a> {
    /// The elements; element (i, j) is `data[i * row_stride + j * col_stride]`.
    pub data: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of vertical neighbours.
    pub row_stride: usize,
    /// Distance of horizontal neighbours.
    pub col_stride: usize,
}

impl<'a> MatRef<'a> {
    /// A row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "MatRef: {} elements are not [{rows}, {cols}]", data.len());
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The transpose, of the same elements.
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// A right operand `[k, n]`, laid out for the kernels.
#[derive(Debug)]
pub struct PackedB {
    data: Vec<f32>,
    k: usize,
    n: usize,
}

impl PackedB {
    /// Packs `b [k, n]`.
    pub fn pack(b: MatRef) -> Self {
        let data = (0..b.rows * b.cols)
            .map(|i| b.data[i / b.cols * b.row_stride + i % b.cols * b.col_stride])
            .collect();
        Self { data, k: b.rows, n: b.cols }
    }

    /// Number of rows: the length of the sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of columns of the product.
    pub fn n(&self) -> usize {
        self.n
    }
}

/// What happens to each element of a product before it is stored: `v = product (+ c if accumulate) + bias`, then
/// `act(v + residual)` if `residual_first`, else `act(v) + residual`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// One number per column.
    pub bias: Option<&'a [f32]>,
    /// Applied to each element.
    pub activation: Activation,
    /// Shaped as the product.
    pub residual: Option<&'a [f32]>,
    /// Whether the residual comes before the activation.
    pub residual_first: bool,
    /// Whether the product is added to what `c` holds.
    pub accumulate: bool,
}

/// `c [m, n] = a [m, k] · b [k, n]`, then the epilogue.
pub fn gemm(a: MatRef, b: &PackedB, c: &mut [f32], epilogue: &Epilogue) {
    assert_eq!(a.cols, b.k, "gemm: a is [{}, {}], b is [{}, {}]", a.rows, a.cols, b.k, b.n);
    assert_eq!(c.len(), a.rows * b.n, "gemm: c is not [{}, {}]", a.rows, b.n);
    for i in 0..a.rows {
        for j in 0..b.n {
            let mut v = (0..b.k)
                .map(|l| a.data[i * a.row_stride + l * a.col_stride] * b.data[l * b.n + j])
                .sum::<f32>();
            let at = i * b.n + j;
            if epilogue.accumulate {
                v += c[at];
            }
            v += epilogue.bias.map_or(0.0, |bias| bias[j]);
            let residual = epilogue.residual.map_or(0.0, |residual| residual[at]);
            if epilogue.residual_first {
                v += residual;
            }
            let mut v = [v];
            activate_in_place(epilogue.activation, &mut v);
            c[at] = if epilogue.residual_first { v[0] } else { v[0] + residual };
        }
    }
}

/// [`gemm`] of two matrices that are used once.
pub fn matmul(a: MatRef, b: MatRef, c: &mut [f32], epilogue: &Epilogue) {
    gemm(a, &PackedB::pack(b), c, epilogue);
}
