//! Buffers of keys and values in bf16 on the CPU, and the attention to them.

use tuwen_kernels as kernels;
use tuwen_kernels::AttentionShape;

use crate::device::Buffer;
use crate::pool::HostMemory;

/// Numbers in bf16, two of which share an element of memory.
pub(crate) struct Halves(HostMemory);

impl Halves {
    /// What a buffer holds, if it holds numbers in bf16.
    pub(crate) fn of(buffer: &Buffer) -> Option<&Self> {
        buffer.try_storage()
    }

    /// `x`, rounded.
    pub(crate) fn round(x: &[f32]) -> Buffer {
        let mut memory = HostMemory::take(kernels::bf16_len(x.len()));
        kernels::round_to_bf16(x, memory.as_mut_slice());
        Buffer::new(Self(memory), x.len())
    }

    /// Writes the numbers.
    pub(crate) fn write(&self, x: &mut [f32]) {
        kernels::widen_from_bf16(self.0.as_slice(), x);
    }

    /// As [`crate::Device::attention`] to these keys.
    pub(crate) fn attend(
        &self,
        q: &[f32],
        values: &Self,
        key_mask: Option<&[bool]>,
        shape: &AttentionShape,
        out: &mut [f32],
        lse: &mut [f32],
    ) {
        let kept = [self, values].map(|kept| kept.0.as_slice());
        kernels::attention_to_bf16(q, kept, key_mask, shape, out, Some(lse));
    }
}
