//! Buffers of feature maps in bf16 on the CPU (`tuwen_kernels::MapShape`), and the operations that take them.

use tuwen_kernels as kernels;
use tuwen_kernels::{Activation, ConvShape, MapEpilogue, MapShape, PackedConv};

use crate::device::{Buffer, Epilogue, Packed};
use crate::pool::HostMemory;

/// Maps, as a buffer holds them.
pub(crate) struct Maps {
    memory: HostMemory,
    shape: MapShape,
}

impl Maps {
    fn filled(shape: MapShape, fill: impl FnOnce(&mut [f32])) -> Buffer {
        let mut memory = HostMemory::take(shape.stored());
        fill(memory.as_mut_slice());
        Buffer::new(Self { memory, shape }, shape.len())
    }

    /// The maps of a buffer, if that is what it holds.
    pub(crate) fn of(buffer: &Buffer) -> Option<&Self> {
        buffer.try_storage()
    }

    /// As [`crate::Device::conv2d_to_maps`].
    pub(crate) fn of_images(
        x: &[f32],
        [weight, bias]: [&[f32]; 2],
        shape: &ConvShape,
        relu: bool,
        exact: bool,
    ) -> Option<Buffer> {
        let to = MapShape::of_convolution(shape, exact);
        let convolve = |y: &mut [f32]| kernels::conv_to_maps(x, weight, bias, shape, relu, exact, y);
        to.is_supported().then(|| Self::filled(to, convolve))
    }

    /// Writes the numbers, `[batch, height, width, channels]`.
    pub(crate) fn write(&self, x: &mut [f32]) {
        kernels::numbers_of(self.memory.as_slice(), &self.shape, x);
    }

    /// As [`crate::Device::conv2d`].
    pub(crate) fn convolve(
        &self,
        weight: &Packed,
        shape: &ConvShape,
        epilogue: Epilogue,
        bias: Option<&[f32]>,
    ) -> Buffer {
        let residual = epilogue.residual.map(|residual| residual.storage::<Self>().memory.as_slice());
        let relu = epilogue.activation == Some(Activation::Relu);
        let epilogue = MapEpilogue { bias, residual, relu };
        let to = MapShape { channels: shape.out_channels, ..self.shape };
        Self::filled(to, |y| {
            let (x, weight) = (self.memory.as_slice(), weight.get::<PackedConv>());
            kernels::conv_maps(x, weight, shape, self.shape.exact, &epilogue, y);
        })
    }

    /// Means of two by two pixels.
    pub(crate) fn pool(&self) -> Buffer {
        Self::filled(self.shape.halved(), |y| kernels::pool_maps(self.memory.as_slice(), &self.shape, y))
    }
}
