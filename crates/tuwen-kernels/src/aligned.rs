//! Aligned memory: cache-line aligned f32 buffers, on huge pages where they are large, and recycled scratch.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Buffers of at least this many bytes are aligned to it and ask for huge pages.
const HUGE_PAGE: usize = 2 << 20;
const CACHE_LINE: usize = 64;

/// A fixed-length f32 buffer aligned to 64 bytes.
pub struct AlignedBuf {
    start: NonNull<f32>,
    len: usize,
    /// What the allocator gave; a large buffer begins at the first huge page within.
    allocation: NonNull<u8>,
}

// SAFETY: the buffer owns its memory and hands it out only under the borrow rules of slices.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above.
unsafe impl Sync for AlignedBuf {}

fn is_large(bytes: usize) -> bool {
    bytes >= HUGE_PAGE
}

fn layout(len: usize) -> Layout {
    let bytes = len.max(1).checked_mul(size_of::<f32>()).expect("a buffer is smaller than the address space");
    // Memory of a strict alignment is zeroed by writing it, on this thread; without it, large memory comes as pages that
    // the system zeroes when they are first touched, by whichever thread.
    let layout = match is_large(bytes) {
        true => Layout::from_size_align(bytes + HUGE_PAGE, align_of::<u64>()),
        false => Layout::from_size_align(bytes, CACHE_LINE),
    };
    layout.expect("a buffer is smaller than the address space")
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(start: *mut u8, bytes: usize) {
    use std::ffi::{c_int, c_void};
    const MADV_HUGEPAGE: c_int = 14;
    unsafe extern "C" {
        fn madvise(start: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    // SAFETY: the range is our own fresh allocation, and this advice never changes contents. A refusal costs speed only.
    unsafe { madvise(start.cast(), bytes, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_start: *mut u8, _bytes: usize) {}

impl AlignedBuf {
    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Self {
        let layout = layout(len);
        // SAFETY: the layout has a size above zero.
        let allocation = unsafe { alloc_zeroed(layout) };
        let Some(allocation) = NonNull::new(allocation) else { handle_alloc_error(layout) };
        let mut start = allocation;
        if is_large(layout.size()) {
            let offset = allocation.as_ptr().align_offset(HUGE_PAGE);
            // SAFETY: the offset is below the size of a huge page, by which the allocation is longer than the buffer.
            start = unsafe { allocation.add(offset) };
            advise_huge_pages(start.as_ptr(), layout.size() - HUGE_PAGE);
        }
        // All-zero bits are the f32 zero.
        Self { start: start.cast(), len, allocation }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the layout of the same length.
        unsafe { dealloc(self.allocation.as_ptr(), layout(self.len)) };
    }
}

impl Deref for AlignedBuf {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised elements, borrowed with the buffer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as for `deref`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

/// The same memory as numbers of 32 bits, in which packed operands of less than single precision are stored.
macro_rules! as_bits {
    ($type:ty) => {
        impl $type {
            /// The bits of the elements.
            pub(crate) fn as_bits(&self) -> &[u32] {
                // SAFETY: f32 and u32 have one size and alignment, and every bit pattern is a number of both.
                unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len()) }
            }

            /// The bits of the elements, for writing.
            pub(crate) fn as_bits_mut(&mut self) -> &mut [u32] {
                // SAFETY: as above, and the borrow is unique.
                unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len()) }
            }
        }
    };
}
as_bits!(AlignedBuf);
as_bits!(Scratch);

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "AlignedBuf({} f32)", self.len)
    }
}

thread_local! {
    static IDLE: RefCell<Vec<AlignedBuf>> = const { RefCell::new(Vec::new()) };
}

/// Scratch of so many elements gets huge pages of its own: small pages that lie anywhere in memory compete for the same
/// lines of a second-level cache that they nearly fill.
const WHOLE_PAGES: usize = 1 << 16;

/// Idle scratch buffers kept per thread.
const MAX_IDLE: usize = 8;

/// Working memory of one kernel call: at least as long as asked for, contents unspecified, given back to its
/// thread when dropped.
pub(crate) struct Scratch {
    memory: Option<AlignedBuf>,
    len: usize,
}

impl Scratch {
    pub(crate) fn take(len: usize) -> Self {
        let recycled = IDLE.with_borrow_mut(|idle| {
            let fits = |i: &usize| idle[*i].len >= len;
            let smallest = (0..idle.len()).filter(fits).min_by_key(|&i| idle[i].len)?;
            Some(idle.swap_remove(smallest))
        });
        // A little more than asked for, so that nearly equal requests share a buffer.
        let step = match len {
            WHOLE_PAGES.. => HUGE_PAGE / size_of::<f32>(),
            _ => (len / 8).next_power_of_two().max(1024),
        };
        let generous = || len.next_multiple_of(step);
        let memory = recycled.unwrap_or_else(|| AlignedBuf::zeroed(generous()));
        Self { memory: Some(memory), len }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // When the thread is ending there is no list to go back to, and the buffer is simply freed.
        if let Some(memory) = self.memory.take() {
            let _ = IDLE.try_with(|idle| {
                let mut idle = idle.borrow_mut();
                idle.push(memory);
                if idle.len() > MAX_IDLE {
                    let smallest = (0..idle.len()).min_by_key(|&i| idle[i].len);
                    smallest.map(|i| idle.swap_remove(i));
                }
            });
        }
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory.as_ref().expect("held until drop")[..self.len]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory.as_mut().expect("held until drop")[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_zeroed_and_as_long_as_asked() {
        for len in [0, 1, 63, 1000, HUGE_PAGE / 4, HUGE_PAGE / 4 + 1] {
            let mut buffer = AlignedBuf::zeroed(len);
            assert_eq!(buffer.as_ptr() as usize % CACHE_LINE, 0);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&v| v == 0.0));
            buffer.fill(1.0);
        }
    }

    #[test]
    fn scratch_is_recycled_and_nested_scratch_is_distinct() {
        let outer = Scratch::take(5000);
        let address = outer.as_ptr();
        assert_ne!(Scratch::take(5000).as_ptr(), address);
        drop(outer);
        assert_eq!(Scratch::take(8192).len(), 8192);
        let held: Vec<_> = (0..20).map(|i| Scratch::take(i * 100)).collect();
        drop(held);
        assert!(IDLE.with_borrow(|idle| idle.len() <= MAX_IDLE));
    }
}
