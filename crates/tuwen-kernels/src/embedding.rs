//! Rows of a table by number, and the gradient of that: copies and sums of whole runs, as fast as memory.

use crate::threads::{CHUNK, SendPtr, parallel_chunks_mut, parallel_for_work};

/// `out[i] = table[ids[i]]` for rows of `cols` elements.
pub fn gather_rows(table: &[f32], cols: usize, ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), ids.len() * cols, "gather_rows: out is not [{}, {cols}]", ids.len());
    if cols == 0 {
        return;
    }
    check_ids("gather_rows", ids, table.len() / cols);
    let rows_per_task = (CHUNK / cols).max(1);
    parallel_chunks_mut(out, rows_per_task * cols, |i, out| {
        for (row, &id) in out.chunks_exact_mut(cols).zip(&ids[i * rows_per_task..]) {
            row.copy_from_slice(&table[id as usize * cols..][..cols]);
        }
    });
}

/// `dtable[ids[i]] += dout[i]`, in the order of `ids`.
pub fn scatter_add_rows(dout: &[f32], cols: usize, ids: &[u32], dtable: &mut [f32]) {
    assert_eq!(dout.len(), ids.len() * cols, "scatter_add_rows: dout is not [{}, {cols}]", ids.len());
    if cols == 0 {
        return;
    }
    check_ids("scatter_add_rows", ids, dtable.len() / cols);
    // Tasks own columns, not rows: the order of additions is then that of `ids` whatever the ids are.
    const COLUMNS: usize = 64;
    let table = SendPtr(dtable.as_mut_ptr());
    parallel_for_work(cols.div_ceil(COLUMNS), dout.len(), CHUNK, |task| {
        let (from, to) = (task * COLUMNS, cols.min((task + 1) * COLUMNS));
        for (&id, row) in ids.iter().zip(dout.chunks_exact(cols)) {
            // SAFETY: ids were checked, and other tasks write other columns.
            let out = unsafe { table.slice(id as usize * cols + from, to - from) };
            out.iter_mut().zip(&row[from..to]).for_each(|(out, v)| *out += v);
        }
    });
}

fn check_ids(operation: &str, ids: &[u32], rows: usize) {
    if let Some(id) = ids.iter().find(|&&id| id as usize >= rows) {
        panic!("{operation}: id {id} in a table of {rows} rows");
    }
}
