//! Values that stay where they are, in a file say, until somebody asks for them.

use std::fmt;
use std::sync::OnceLock;

use crate::device::{Buffer, Device, Weight};

/// Where the values of a tensor are before it holds them.
pub trait Deferred: Send + Sync {
    /// Calls `read` once with all values, row-major.
    fn with_values(&self, read: &mut dyn FnMut(&[f32]));

    /// Rows `ids` of a table of `cols` columns, one after the other; the ids were checked.
    fn rows(&self, cols: usize, ids: &[u32]) -> Vec<f32> {
        let mut rows = Vec::with_capacity(ids.len() * cols);
        self.with_values(&mut |table| {
            rows.clear();
            rows.extend(ids.iter().flat_map(|&id| &table[id as usize * cols..][..cols]));
        });
        rows
    }
}

/// The values of a tensor: a buffer, or where it comes from once it is needed.
///
/// What can do without the buffer (packing a weight, rows of a table) takes the values from their source each time, so
/// that a loaded network holds its weights in one form only.
pub(crate) struct Values {
    len: usize,
    buffer: OnceLock<Buffer>,
    source: Option<Box<dyn Deferred>>,
}

impl Values {
    pub(crate) fn held(buffer: Buffer) -> Self {
        Self { len: buffer.len(), buffer: OnceLock::from(buffer), source: None }
    }

    pub(crate) fn deferred(len: usize, source: impl Deferred + 'static) -> Self {
        Self { len, buffer: OnceLock::new(), source: Some(Box::new(source)) }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The source, as long as nobody has asked for the buffer.
    pub(crate) fn source(&self) -> Option<&dyn Deferred> {
        self.source.as_deref().filter(|_| self.buffer.get().is_none())
    }

    pub(crate) fn buffer(&self, device: &dyn Device) -> &Buffer {
        self.buffer.get_or_init(|| self.made(device))
    }

    pub(crate) fn into_buffer(self, device: &dyn Device) -> Buffer {
        let made = self.buffer.get().is_none().then(|| self.made(device));
        made.or(self.buffer.into_inner()).expect("made where it was not held")
    }

    /// Calls `read` with the values in the form in which they are.
    pub(crate) fn with_weight<T>(&self, device: &dyn Device, read: impl FnOnce(Weight) -> T) -> T {
        match self.source() {
            None => read(Weight::Buffer(self.buffer(device))),
            Some(source) => called_once(source, |values| read(Weight::Host(values))),
        }
    }

    fn made(&self, device: &dyn Device) -> Buffer {
        let source = self.source.as_deref().expect("values are held or come from a source");
        called_once(source, |values| {
            assert_eq!(values.len(), self.len, "a source gives as many values as its tensor has");
            device.upload(values)
        })
    }
}

fn called_once<T>(source: &dyn Deferred, read: impl FnOnce(&[f32]) -> T) -> T {
    let (mut read, mut result) = (Some(read), None);
    source.with_values(&mut |values| result = read.take().map(|read| read(values)));
    result.expect("a source calls once")
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values, {}", self.len, if self.source().is_some() { "deferred" } else { "held" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Activation, Param, Tensor, ops};

    struct Counted(Arc<AtomicUsize>);

    impl Deferred for Counted {
        fn with_values(&self, read: &mut dyn FnMut(&[f32])) {
            self.0.fetch_add(1, Ordering::Relaxed);
            read(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        }
    }

    fn deferred() -> (Tensor, Arc<AtomicUsize>) {
        let reads = Arc::new(AtomicUsize::new(0));
        (Tensor::deferred(&[3, 2], Counted(reads.clone())), reads)
    }

    #[test]
    fn a_weight_is_packed_from_its_source_and_read_once() {
        let (weight, reads) = deferred();
        let x = Tensor::new(&[1.0, 10.0], &[1, 2]);
        for _ in 0..2 {
            let y = ops::linear(&x, &weight, None, Activation::Identity, None);
            assert_eq!(y.to_vec(), [21.0, 43.0, 65.0]);
        }
        assert_eq!((reads.load(Ordering::Relaxed), weight.is_deferred()), (1, true));
    }

    #[test]
    fn rows_are_taken_from_the_source() {
        let (table, _) = deferred();
        assert_eq!(ops::gather_rows(&table, &[2, 0]).to_vec(), [5.0, 6.0, 1.0, 2.0]);
        assert!(table.is_deferred());
    }

    #[test]
    fn other_uses_keep_the_values() {
        let (x, reads) = deferred();
        let shared = x.detach();
        assert_eq!(ops::scale(&x, 2.0).to_vec(), [2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
        assert_eq!(shared.to_vec(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!((reads.load(Ordering::Relaxed), shared.is_deferred()), (1, false));
    }

    #[test]
    fn a_deferred_parameter_learns() {
        let (value, _) = deferred();
        let param = Param::new(value, false);
        param.set_trainable(true);
        let gradients = ops::sum(&ops::linear(
            &Tensor::new(&[1.0, 10.0], &[1, 2]).leaf(),
            &param.value(),
            None,
            Activation::Identity,
            None,
        ))
        .backward();
        assert_eq!(gradients.get(&param.value()).map(Tensor::to_vec), Some([1.0, 10.0].repeat(3)));
        param.update(|buffer| assert_eq!(buffer.len(), 6));
        assert_eq!(param.value().to_vec(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
