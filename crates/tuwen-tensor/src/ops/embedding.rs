//! Rows of a table: token embeddings, and one token of each sequence.

use crate::Tensor;
use crate::tape::{needs_tape, record};

/// Rows `ids` of a table `[rows, cols]`, as `[ids, cols]`.
///
/// # Panics
/// If an id is not below the number of rows.
pub fn gather_rows(table: &Tensor, ids: &[u32]) -> Tensor {
    let [rows, cols] = table.dims();
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        panic!("row {id} of a table of {rows} rows");
    }
    let device = table.device();
    let rows_of_ids = match table.source() {
        Some(source) => device.upload(&source.rows(cols, ids)),
        None => device.gather_rows(table.buffer(), cols, ids),
    };
    let y = Tensor::from_buffer(device, rows_of_ids, &[ids.len(), cols]);
    if !needs_tape(&[table]) {
        return y;
    }
    let ids = ids.to_vec();
    record(y, &[table], move |dy| {
        let dtable = device.scatter_add_rows(dy.buffer(), cols, &ids, rows);
        vec![Some(Tensor::from_buffer(device, dtable, &[rows, cols]))]
    })
}
