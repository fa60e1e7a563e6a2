//! Convolutions of feature maps on AMX: blocks of 32 pixels and 32 channels.

use std::arch::x86_64::*;
use std::ops::Range;

use super::bytes::{Bytes, greatest_of_images};
use super::multiply::{Lines, Sums, choose};
use super::numbers::{clear_ends, first, read, write};
use super::{MapEpilogue, MapShape, STEP};
use crate::amx::{TILE_ROWS, TileConfig};
use crate::gemm::{Panels, ReducedPanels, Reduction};
use crate::threads::{SendPtr, parallel_for, threads};

/// Bytes of the input that a task keeps in the second-level cache.
const BAND: usize = 512 << 10;
/// Bytes of the weight that meet a block of pixels before the next does: what a pixel becomes is then written side by side,
/// where single lines lie a pixel apart, and few channels make most of the traffic.
const GROUP: usize = 128 << 10;

/// A convolution; pointers are to bf16 numbers, from the first pixel of the first image on.
struct Convolution<'a> {
    x: SendPtr<u16>,
    y: SendPtr<u16>,
    residual: Option<SendPtr<u16>>,
    bias: Option<&'a [f32]>,
    relu: bool,
    weight: ReducedPanels<'a>,
    from: MapShape,
    to: MapShape,
    /// The pixels that the rows of the weight meet, from that of the result on.
    window: Vec<isize>,
    /// The greatest number of each image, where its pixels share a scale.
    greatest: Vec<f32>,
}

pub(super) fn convolve(
    x: &[f32],
    weight: ReducedPanels,
    [from, to]: [MapShape; 2],
    epilogue: &MapEpilogue,
    y: &mut [f32],
) {
    clear_ends(y, &to);
    let parts = if from.exact { 3 } else { 1 };
    let window = match weight.depth / (parts * from.channels) {
        1 => vec![0],
        _ => (0..9).map(|tap| (tap / 3 - 1) * from.pitch() as isize + tap % 3 - 1).collect(),
    };
    let has_shared_scales = weight.reduction == Reduction::Int8 && window.len() > 1;
    let greatest = if has_shared_scales {
        // SAFETY: maps are only supported where there is AVX-512 too.
        unsafe { greatest_of_images(first(x.as_ptr(), &from).get(), &from) }
    } else {
        Vec::new()
    };
    let convolution = Convolution {
        x: first(x.as_ptr(), &from),
        y: first(y.as_ptr(), &to),
        residual: epilogue.residual.map(|residual| first(residual.as_ptr(), &to)),
        bias: epilogue.bias,
        relu: epilogue.relu,
        weight,
        from,
        to,
        window,
        greatest,
    };
    // The last pixel of the last image is the last that is not border.
    let rows = from.pixels() - from.lead();
    let (blocks, panels) = (rows.div_ceil(STEP), Panels::count(to.channels));
    let bands = (rows * from.depth() * 2).div_ceil(BAND);
    // Where the weight is more to read than the maps are, each thread takes some of its columns.
    let (bands, groups) = match bands {
        1 if weight.units.len() * 4 > rows * from.depth() * 2 => (1, threads().min(panels)),
        _ => (bands.next_multiple_of(threads()).min(blocks), 1),
    };
    parallel_for(bands * groups, |task| {
        let part = |len: usize, index: usize, count: usize| len * index / count..len * (index + 1) / count;
        let blocks = part(blocks, task % bands, bands);
        let rows = blocks.start * STEP..rows.min(blocks.end * STEP);
        // SAFETY: maps are only supported where there are tiles, and each task has pixels and channels of its own.
        unsafe { convolution.run(rows, part(panels, task / bands, groups)) };
    });
}

impl Convolution<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        let blocks = rows.len().div_ceil(STEP);
        let inner: Vec<u32> = (0..blocks).map(|block| self.to.inner(rows.start + block * STEP)).collect();
        let mut sums = Sums([[0.0; STEP]; STEP]);
        let bytes = (self.weight.reduction == Reduction::Int8)
            // SAFETY: these pixels lie within the maps, with what the window and the last block reach beyond.
            .then(|| unsafe { self.bytes(rows.start..rows.start + blocks * STEP) });
        let lines = self.lines(bytes.as_ref());
        let multiply = choose(self.weight.reduction, blocks);
        // SAFETY: the CPU has tiles.
        let _guard = unsafe { TileConfig::new(TILE_ROWS).load() };
        let together = (GROUP / (4 * self.weight.panel(panels.start).len())).max(1);
        for start in panels.clone().step_by(together) {
            let group = start..panels.end.min(start + together);
            let next = self.weight.panel(group.end.min(panels.end - 1)).as_ptr();
            for (block, &inner) in inner.iter().enumerate() {
                let pixel = rows.start + block * STEP;
                let count = STEP.min(rows.end - pixel);
                let scales = bytes.as_ref().map(|bytes| bytes.scales(pixel));
                for index in group.clone() {
                    let panel = self.weight.panel(index);
                    let ahead = next.wrapping_add(block * panel.len() / blocks);
                    // SAFETY: as above.
                    unsafe {
                        self.fetch(pixel, count, index);
                        multiply(&lines, pixel, panel.as_ptr(), ahead, &mut sums);
                        self.finish(pixel, count, inner, index, &sums, scales);
                    }
                }
            }
        }
    }

    /// The input in bytes, at these pixels and at what the window reaches beyond.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn bytes(&self, rows: Range<usize>) -> Bytes {
        let reach = if self.window.len() > 1 { self.from.lead() } else { 0 };
        // SAFETY: the caller's contract.
        unsafe { Bytes::new(self.x.get(), &self.from, rows, reach, &self.greatest) }
    }

    /// The input as tiles read it: in bytes, or as it is.
    fn lines(&self, bytes: Option<&Bytes>) -> Lines {
        const LINE: usize = 64;
        let (start, line) = match bytes {
            Some(bytes) => bytes.lines(),
            None => (self.x.get().cast_const().cast(), 2 * self.from.depth()),
        };
        let steps = if bytes.is_some() { self.from.channels } else { line } / LINE;
        let mut taps = Vec::new();
        for at in self.window.iter().map(|pixel| pixel * line as isize) {
            taps.push((at, steps));
            if self.from.exact {
                taps.push((at, steps / 2));
            }
        }
        Lines { start, line, taps }
    }

    /// Asks for the lines that [`Self::finish`] will use.
    #[inline(always)]
    unsafe fn fetch(&self, pixel: usize, count: usize, panel: usize) {
        for row in 0..count {
            let at = (pixel + row) * self.to.depth() + panel * STEP;
            // SAFETY: hints.
            unsafe {
                _mm_prefetch::<_MM_HINT_ET0>(self.y.get().wrapping_add(at).cast());
                if let Some(residual) = &self.residual {
                    _mm_prefetch::<_MM_HINT_T0>(residual.get().wrapping_add(at).cast());
                }
            }
        }
    }

    /// Adds bias and residual, rounds, and stores; what is border becomes zero. With `scales`, sums are of bytes of pixels that have
    /// these.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn finish(
        &self,
        pixel: usize,
        count: usize,
        inner: u32,
        panel: usize,
        sums: &Sums,
        scales: Option<&[f32]>,
    ) {
        let zero = _mm512_setzero_ps();
        let bias = self.bias.map_or([zero; 2], |bias| {
            let (halves, _) = bias[panel * STEP..].as_chunks::<16>();
            // SAFETY: sixteen numbers each.
            [0, 1].map(|half: usize| unsafe { _mm512_loadu_ps(halves[half].as_ptr()) })
        });
        let columns = scales.map_or([zero; 2], |_| {
            let (halves, _) = self.weight.scales(panel).as_chunks::<16>();
            // SAFETY: sixteen numbers each.
            [0, 1].map(|half: usize| unsafe { _mm512_loadu_ps(halves[half].as_ptr()) })
        });
        for (row, sums) in sums.0[..count].iter().enumerate() {
            let at = (pixel + row) * self.to.depth() + panel * STEP;
            // SAFETY: 32 channels of a pixel of the maps.
            unsafe {
                let y = self.y.get().wrapping_add(at);
                if inner >> row & 1 == 0 {
                    self.write(y, [zero; 2]);
                    continue;
                }
                let (low, high) = (sums.as_ptr(), sums.as_ptr().add(16));
                let (mut low, mut high) = match scales {
                    None => {
                        let sums = (_mm512_load_ps(low), _mm512_load_ps(high));
                        (_mm512_add_ps(sums.0, bias[0]), _mm512_add_ps(sums.1, bias[1]))
                    }
                    Some(scales) => {
                        let scale = _mm512_set1_ps(scales[row]);
                        let low = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(low.cast())), scale);
                        let high = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_load_si512(high.cast())), scale);
                        let [first, second] = columns;
                        (_mm512_fmadd_ps(low, first, bias[0]), _mm512_fmadd_ps(high, second, bias[1]))
                    }
                };
                if let Some(residual) = &self.residual {
                    let [a, b] = read(residual.get().wrapping_add(at), self.to.rest());
                    (low, high) = (_mm512_add_ps(low, a), _mm512_add_ps(high, b));
                }
                if self.relu {
                    (low, high) = (_mm512_max_ps(low, zero), _mm512_max_ps(high, zero));
                }
                self.write(y, [low, high]);
            }
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn write(&self, to: *mut u16, values: [__m512; 2]) {
        // SAFETY: the caller's contract.
        unsafe { write(to, values, self.to.rest()) };
    }
}

impl MapShape {
    /// Which of 32 pixels from `first` on are no border, as bits.
    fn inner(&self, first: usize) -> u32 {
        let (mut line, mut column) = (first / self.pitch(), first % self.pitch());
        let mut bits = 0;
        for bit in 0..STEP {
            let is_inner = column < self.width && line % (self.height + 1) < self.height;
            bits |= u32::from(is_inner) << bit;
            column += 1;
            if column == self.pitch() {
                (line, column) = (line + 1, 0);
            }
        }
        bits
    }
}
