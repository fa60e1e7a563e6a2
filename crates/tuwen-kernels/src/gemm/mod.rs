//! Matrix products with a fused epilogue.
//!
//! Why they are fast: `kernel::Kernel::tile` keeps a block of the product in registers over the whole depth, so that each
//! number it loads serves 4 to 32 multiply-adds, and the multiply-add units are the limit (two vectors in each cycle).
//! `pack` lays both operands out in the order in which the tile reads them: one address moves forward, no cache line is
//! read in part, no page is left early. `product` cuts the work so that a panel of the right operand and the rows of a
//! task stay in the second-level cache, and applies the epilogue to a tile while it is in the first-level one: bias,
//! activation and residual cost no pass over memory. Weights are packed once, and read by products of any height.
//!
//! With few rows each packed number is used few times only, and the limit is the memory that the weights come from.
//!
//! Each element is a sum in the order of the depth whatever the tile and the task it is in, so that a row of a product
//! has the same bits in every batch. Only long sums (`product_of_long_sums`) are cut by the number of threads.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod halves;
mod kernel;
mod long_sums;
#[cfg(target_arch = "aarch64")]
mod neon;
mod own;
mod pack;
mod portable;
mod product;
mod reduced;

pub(crate) use kernel::{Kernel, MAX_ROWS, NARROW, PANEL, Task, dispatch};
pub(crate) use long_sums::product_of_long_sums;
pub(crate) use own::OwnProduct;
pub(crate) use pack::{Left, Panels, Right, RowBlocks};
pub(crate) use product::{Stage, Target, multiply};
#[cfg(target_arch = "x86_64")]
pub(crate) use reduced::bf16_of;
pub use reduced::has_fast;
pub(crate) use reduced::{OwnTask, ReducedPanels, Reduction, dispatch_in};

use crate::activation::Activation;
use crate::aligned::{AlignedBuf, Scratch};
use crate::precision::Precision;
use product::{pack_all, product};
use reduced::ReducedBuf;

/// A matrix of any strides.
#[derive(Debug, Clone, Copy)]
pub struct MatRef<'a, T = f32> {
    /// The elements; element (i, j) is `data[i * row_stride + j * col_stride]`.
    pub data: &'a [T],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Distance of vertical neighbours.
    pub row_stride: usize,
    /// Distance of horizontal neighbours.
    pub col_stride: usize,
}

impl<'a, T> MatRef<'a, T> {
    /// A row-major matrix.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
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

    fn check(&self) {
        let last = |len: usize, stride: usize| (len.max(1) - 1) * stride;
        assert!(
            self.rows == 0
                || self.cols == 0
                || last(self.rows, self.row_stride) + last(self.cols, self.col_stride) < self.data.len(),
            "MatRef: [{}, {}] with strides {} and {} does not fit in {} elements",
            self.rows,
            self.cols,
            self.row_stride,
            self.col_stride,
            self.data.len()
        );
    }
}

/// A right operand `[k, n]`, laid out for the kernels.
#[derive(Debug)]
pub struct PackedB {
    data: Stored,
    k: usize,
    n: usize,
}

#[derive(Debug)]
enum Stored {
    F32(AlignedBuf),
    Reduced(ReducedBuf),
}

impl PackedB {
    /// Packs `b [k, n]` for products of this precision.
    pub fn pack_as(b: MatRef, precision: Precision) -> Self {
        b.check();
        match Reduction::of(precision) {
            None => Self::pack(b),
            Some(reduction) => {
                let size = [b.rows, b.cols];
                Self { data: Stored::Reduced(ReducedBuf::pack(&b, reduction, size)), k: b.rows, n: b.cols }
            }
        }
    }

    /// Packs `b [k, n]` in single precision.
    pub fn pack(b: MatRef) -> Self {
        b.check();
        let mut data = AlignedBuf::zeroed(stored_len(&b));
        pack_all(&b, b.rows, b.cols, &mut data);
        Self { data: Stored::F32(data), k: b.rows, n: b.cols }
    }

    /// What it is multiplied in.
    pub fn precision(&self) -> Precision {
        match &self.data {
            Stored::F32(_) => Precision::F32,
            Stored::Reduced(data) => data.precision(),
        }
    }

    /// Number of rows: the length of the sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of columns of the product.
    pub fn n(&self) -> usize {
        self.n
    }

    /// The operand `[k, n]` row by row, if it is in single precision.
    pub(crate) fn rows(&self) -> Option<Vec<f32>> {
        let Stored::F32(data) = &self.data else { return None };
        let column = |row: usize, column: usize| {
            let (index, width) = (column / PANEL, Panels::width(self.n, column / PANEL));
            data[index * PANEL * self.k + row * width + column % PANEL]
        };
        Some(
            (0..self.k)
                .flat_map(|row| (0..self.n).map(move |c| (row, c)))
                .map(|(r, c)| column(r, c))
                .collect(),
        )
    }

    /// The panels, if they are in single precision.
    pub(crate) fn panels(&self) -> Option<Panels<'_>> {
        match &self.data {
            Stored::F32(data) => Some(Panels { data, depth: self.k, columns: self.n }),
            Stored::Reduced(_) => None,
        }
    }

    /// The panels, if they are in units.
    pub(crate) fn reduced(&self) -> Option<ReducedPanels<'_>> {
        match &self.data {
            Stored::F32(_) => None,
            Stored::Reduced(data) => Some(data.panels(self.k, self.n)),
        }
    }

    /// `c [rows, n] = a · self`, then the epilogue, on all threads. Lengths have been checked.
    pub(crate) fn multiply(&self, a: &impl Left, rows: usize, c: &mut [f32], epilogue: &Epilogue) {
        match &self.data {
            Stored::F32(data) => {
                product(a, rows, Panels { data, depth: self.k, columns: self.n }, c, epilogue);
            }
            Stored::Reduced(data) => reduced::product(a, rows, data.panels(self.k, self.n), c, epilogue),
        }
    }
}

fn stored_len(b: &MatRef) -> usize {
    Panels::stored(b.cols, 0..Panels::count(b.cols)) * b.rows
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

impl Epilogue<'_> {
    /// Whether nothing happens.
    fn is_plain(&self) -> bool {
        let Self { bias, activation, residual, accumulate, .. } = self;
        bias.is_none() && residual.is_none() && !accumulate && *activation == Activation::Identity
    }

    pub(crate) fn check(&self, rows: usize, columns: usize) {
        assert!(
            self.bias.is_none_or(|bias| bias.len() == columns),
            "epilogue: the bias has one number per column"
        );
        assert!(
            self.residual.is_none_or(|residual| residual.len() == rows * columns),
            "epilogue: the residual is not [{rows}, {columns}]"
        );
    }
}

/// `c [m, n] = a [m, k] · b [k, n]`, then the epilogue.
pub fn gemm(a: MatRef, b: &PackedB, c: &mut [f32], epilogue: &Epilogue) {
    check(&a, b.k, b.n, c, epilogue);
    b.multiply(&a, a.rows, c, epilogue);
}

/// [`gemm`] of two matrices that are used once.
pub fn matmul(a: MatRef, b: MatRef, c: &mut [f32], epilogue: &Epilogue) {
    check(&a, b.rows, b.cols, c, epilogue);
    b.check();
    if is_long(&b, epilogue) {
        return product_of_long_sums(Precision::F32, &a, &b, b.cols, c);
    }
    let mut packed = Scratch::take(stored_len(&b));
    pack_all(&b, b.rows, b.cols, &mut packed);
    product(&a, a.rows, Panels { data: &packed, depth: b.rows, columns: b.cols }, c, epilogue);
}

/// [`matmul`] of this precision; of [`Precision::Int8`] there is none, and [`Precision::Bf16`] is used.
pub fn matmul_as(precision: Precision, a: MatRef, b: MatRef, c: &mut [f32], epilogue: &Epilogue) {
    let precision = precision.of_activations();
    let Some(reduction) = Reduction::of(precision).filter(|_| has_fast(precision)) else {
        return matmul(a, b, c, epilogue);
    };
    check(&a, b.rows, b.cols, c, epilogue);
    b.check();
    if is_long(&b, epilogue) {
        return product_of_long_sums(precision, &a, &b, b.cols, c);
    }
    let [len, _] = ReducedPanels::stored(reduction, b.rows, b.cols);
    let mut units = Scratch::take(len);
    reduced::pack_all(&b, reduction, [b.rows, b.cols], units.as_bits_mut(), &mut []);
    let b = ReducedPanels { reduction, units: units.as_bits(), scales: &[], depth: b.rows, columns: b.cols };
    reduced::product(&a, a.rows, b, c, epilogue);
}

/// Whether the sums are too long to pack the whole of an operand that is used once.
fn is_long(b: &MatRef, epilogue: &Epilogue) -> bool {
    b.rows >= LONG_SUM.max(b.cols) && epilogue.is_plain()
}

const LONG_SUM: usize = 2048;

fn check(a: &MatRef, k: usize, n: usize, c: &[f32], epilogue: &Epilogue) {
    a.check();
    assert_eq!(a.cols, k, "gemm: a is [{}, {}], b is [{k}, {n}]", a.rows, a.cols);
    assert_eq!(c.len(), a.rows * n, "gemm: c is not [{}, {n}]", a.rows);
    epilogue.check(a.rows, n);
}
