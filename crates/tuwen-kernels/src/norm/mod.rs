//! Normalisation: of rows (layer norm, RMS norm, l2) and of channels over a batch (batch norm), forward and backward.

mod batch;
mod l2;
mod layer;
mod rms;

pub use batch::{batch_norm_backward, batch_norm_train};
pub use l2::{l2_normalize, l2_normalize_backward};
pub use layer::{layer_norm, layer_norm_backward};
pub use rms::{rms_norm, rms_norm_backward};

/// The number of rows of `cols` elements in `len`.
fn row_count(operation: &str, len: usize, cols: usize) -> usize {
    if len == 0 {
        return 0;
    }
    assert!(cols > 0 && len.is_multiple_of(cols), "{operation}: {len} elements are not rows of {cols}");
    len / cols
}
