//! The recycling pool of host memory: a training step allocates the same sizes again and again, and fresh pages
//! cost more than the arithmetic of many operations.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tuwen_kernels::AlignedBuf;

/// Idle memory beyond this is given back to the system.
const MAX_IDLE_FLOATS: usize = 1 << 30;

struct Idle {
    by_size: BTreeMap<usize, Vec<AlignedBuf>>,
    floats: usize,
}

static IDLE: Mutex<Idle> = Mutex::new(Idle { by_size: BTreeMap::new(), floats: 0 });

/// Host memory that returns to the pool when dropped. Its contents are unspecified when it is taken.
pub(crate) struct HostMemory {
    memory: Option<AlignedBuf>,
    len: usize,
}

/// Sizes are rounded up so that nearly equal requests share blocks: powers of two when small, else an eighth of one.
fn size_class(len: usize) -> usize {
    match len {
        0..=4096 => len.max(16).next_power_of_two(),
        _ => len.next_multiple_of(len.next_power_of_two() / 16),
    }
}

impl HostMemory {
    pub(crate) fn take(len: usize) -> Self {
        let class = size_class(len);
        let mut idle = IDLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // A block that is a little too large serves as well: texts of another length come with every batch.
        let fits = |(_, blocks): (&usize, &mut Vec<AlignedBuf>)| blocks.pop();
        let recycled = idle.by_size.range_mut(class..=class + class / 4).find_map(fits);
        idle.floats -= recycled.as_ref().map_or(0, |block| block.len());
        drop(idle);
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
        let class = memory.len();
        let mut idle = IDLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if idle.floats + class <= MAX_IDLE_FLOATS {
            idle.floats += class;
            idle.by_size.entry(class).or_default().push(memory);
        }
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
