//! The recycling pool of host memory: a training step allocates the same sizes again and again, and fresh pages
//! cost more than the arithmetic of many operations.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tuwen_kernels::AlignedBuf;

/// Idle memory beyond this is given back to the system.
const MAX_IDLE_FLOATS: usize = 1 << 30;

/// Idle blocks by their length in floats. The meter keeps one of blocks without memory, so as to know what the real
/// one would hold.
pub(crate) struct Idle<B> {
    by_size: BTreeMap<usize, Vec<B>>,
    floats: usize,
}

impl<B> Idle<B> {
    pub(crate) const fn new() -> Self {
        Self { by_size: BTreeMap::new(), floats: 0 }
    }

    /// Floats in all idle blocks.
    pub(crate) fn floats(&self) -> usize {
        self.floats
    }

    /// A block for a size class, and its length.
    pub(crate) fn take(&mut self, class: usize) -> Option<(usize, B)> {
        // A block that is a little too large serves as well: texts of another length come with every batch.
        let fits = |(&len, blocks): (&usize, &mut Vec<B>)| Some((len, blocks.pop()?));
        let found = self.by_size.range_mut(class..=class + class / 4).find_map(fits);
        self.floats -= found.as_ref().map_or(0, |(len, _)| *len);
        found
    }

    /// Keeps a block, unless that would be too much; then it is dropped.
    pub(crate) fn give(&mut self, len: usize, block: B) {
        if self.floats + len <= MAX_IDLE_FLOATS {
            self.floats += len;
            self.by_size.entry(len).or_default().push(block);
        }
    }
}

static IDLE: Mutex<Idle<AlignedBuf>> = Mutex::new(Idle::new());

/// Host memory that returns to the pool when dropped. Its contents are unspecified when it is taken.
pub(crate) struct HostMemory {
    memory: Option<AlignedBuf>,
    len: usize,
}

/// Sizes are rounded up so that nearly equal requests share blocks: powers of two when small, else an eighth of one.
pub(crate) fn size_class(len: usize) -> usize {
    match len {
        0..=4096 => len.max(16).next_power_of_two(),
        _ => len.next_multiple_of(len.next_power_of_two() / 16),
    }
}

impl HostMemory {
    pub(crate) fn take(len: usize) -> Self {
        let class = size_class(len);
        let recycled = IDLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(class);
        let recycled = recycled.map(|(_, block)| block);
        Self { memory: Some(recycled.unwrap_or_else(|| AlignedBuf::zeroed(class))), len }
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        &self.memory.as_ref().expect("held until drop")[..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [f32] {
        &mut self.memory.as_mut().expect("held until drop")[..self.len]
    }
}

impl Drop for HostMemory {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        IDLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).give(memory.len(), memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_block_serves_the_next_request_of_its_class() {
        let len = 123_457;
        let mut first = HostMemory::take(len);
        first.as_mut_slice().fill(7.0);
        let address = first.as_slice().as_ptr();
        drop(first);
        let second = HostMemory::take(len - 3);
        assert_eq!(second.as_slice().as_ptr(), address);
        assert_eq!(second.as_slice().len(), len - 3);
    }
}
