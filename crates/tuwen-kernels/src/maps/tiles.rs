//! The kernels of feature maps, on AMX: blocks of 32 pixels and 32 channels as two tiles by two.

use std::arch::asm;
use std::arch::x86_64::*;
use std::ops::Range;

use super::{MapEpilogue, MapShape, STEP};
use crate::amx::{TILE_ROWS, TileConfig};
use crate::gemm::{Panels, ReducedPanels, bf16_of};
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
    /// Where what the rows of the weight meet begins, from a pixel of the input on, and for how many steps.
    taps: Vec<(isize, usize)>,
}

/// The first pixel of the first image.
fn first(maps: *const f32, shape: &MapShape) -> SendPtr<u16> {
    SendPtr(maps.cast::<u16>().cast_mut().wrapping_add(shape.lead() * shape.depth()))
}

/// Sets what lies ahead of the images to zero, and the last row with what is left of it.
fn clear_ends(maps: &mut [f32], shape: &MapShape) {
    let lead = shape.lead() * shape.depth() / 2;
    maps[..lead].fill(0.0);
    maps[shape.pixels() * shape.depth() / 2..][..lead].fill(0.0);
}

pub(super) fn convolve(
    x: &[f32],
    weight: ReducedPanels,
    [from, to]: [MapShape; 2],
    epilogue: &MapEpilogue,
    y: &mut [f32],
) {
    clear_ends(y, &to);
    let (pitch, parts) = (from.pitch() as isize, if from.exact { 3 } else { 1 });
    let pixels = match weight.depth / (parts * from.channels) {
        1 => vec![0],
        _ => (0..9).map(|tap| (tap / 3 - 1) * pitch + tap % 3 - 1).collect(),
    };
    let mut taps = Vec::new();
    for at in pixels.into_iter().map(|pixel: isize| pixel * from.depth() as isize) {
        taps.push((at, from.depth() / STEP));
        if from.exact {
            taps.push((at, from.channels / STEP));
        }
    }
    let convolution = Convolution {
        x: first(x.as_ptr(), &from),
        y: first(y.as_ptr(), &to),
        residual: epilogue.residual.map(|residual| first(residual.as_ptr(), &to)),
        bias: epilogue.bias,
        relu: epilogue.relu,
        weight,
        from,
        to,
        taps,
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

#[repr(align(64))]
struct Sums([[f32; STEP]; STEP]);

impl Convolution<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn run(&self, rows: Range<usize>, panels: Range<usize>) {
        let blocks = rows.len().div_ceil(STEP);
        let inner: Vec<u32> = (0..blocks).map(|block| self.to.inner(rows.start + block * STEP)).collect();
        let mut sums = Sums([[0.0; STEP]; STEP]);
        // SAFETY: the CPU has tiles.
        let _guard = unsafe { TileConfig::new(TILE_ROWS).load() };
        let together = (GROUP / (4 * self.weight.panel(panels.start).len())).max(1);
        for start in panels.clone().step_by(together) {
            let group = start..panels.end.min(start + together);
            let next = self.weight.panel(group.end.min(panels.end - 1)).as_ptr();
            for (block, &inner) in inner.iter().enumerate() {
                let pixel = rows.start + block * STEP;
                let count = STEP.min(rows.end - pixel);
                for index in group.clone() {
                    let panel = self.weight.panel(index);
                    let ahead = next.wrapping_add(block * panel.len() / blocks);
                    // SAFETY: these pixels lie within the maps, with what the taps and the last block reach beyond.
                    unsafe {
                        self.fetch(pixel, count, index);
                        self.multiply(pixel, panel, ahead, &mut sums);
                        self.finish(pixel, count, inner, index, &sums);
                    }
                }
            }
        }
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

    /// The sums of 32 pixels and the 32 channels of a panel.
    #[inline(always)]
    unsafe fn multiply(&self, pixel: usize, panel: &[u32], mut ahead: *const u32, sums: &mut Sums) {
        let depth = self.from.depth();
        let line = 2 * depth;
        let mut panel = panel.as_ptr();
        // SAFETY: tiles are set up; the maps hold the pixels that the taps reach; `ahead` is only a hint.
        unsafe {
            asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack));
            for &(at, steps) in &self.taps {
                let a = self.x.get().wrapping_add(pixel * depth).wrapping_offset(at);
                let lower = a.wrapping_add(TILE_ROWS * depth);
                asm!(
                    "2:",
                    "tileloadd tmm4, [{a} + {line}]",
                    "tileloadd tmm6, [{b} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{b} + {row} + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{lower} + {line}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "prefetcht1 [{ahead}]", "prefetcht1 [{ahead} + 64]",
                    "prefetcht1 [{ahead} + 128]", "prefetcht1 [{ahead} + 192]",
                    "add {a}, 64", "add {lower}, 64", "add {b}, 2048", "add {ahead}, 256",
                    "dec {steps}",
                    "jnz 2b",
                    a = inout(reg) a => _, lower = inout(reg) lower => _, b = inout(reg) panel,
                    ahead = inout(reg) ahead, steps = inout(reg) steps => _,
                    line = in(reg) line, row = in(reg) 128usize,
                    options(nostack, readonly)
                );
            }
            let upper = sums.0.as_mut_ptr();
            asm!(
                "tilestored [{upper} + {row}], tmm0", "tilestored [{upper} + {row} + 64], tmm1",
                "tilestored [{lower} + {row}], tmm2", "tilestored [{lower} + {row} + 64], tmm3",
                upper = in(reg) upper, lower = in(reg) upper.wrapping_add(TILE_ROWS), row = in(reg) 128usize,
                options(nostack)
            );
        }
    }

    /// Adds bias and residual, rounds, and stores; what is border becomes zero.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn finish(&self, pixel: usize, count: usize, inner: u32, panel: usize, sums: &Sums) {
        let zero = _mm512_setzero_ps();
        let bias = self.bias.map_or([zero; 2], |bias| {
            let (halves, _) = bias[panel * STEP..].as_chunks::<16>();
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
                let mut low = _mm512_add_ps(_mm512_load_ps(sums.as_ptr()), bias[0]);
                let mut high = _mm512_add_ps(_mm512_load_ps(sums.as_ptr().add(16)), bias[1]);
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
    /// How far behind a rounded number lies what rounding left of it; 0 where that is not stored.
    #[inline]
    fn rest(&self) -> usize {
        if self.exact { self.channels } else { 0 }
    }
}

/// 32 numbers of a pixel, with their rest where there is one.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn read(from: *const u16, rest: usize) -> [__m512; 2] {
    // SAFETY: the caller's contract.
    let values = widened(unsafe { _mm512_loadu_si512(from.cast()) });
    if rest == 0 {
        return values;
    }
    // SAFETY: as above.
    let rest = widened(unsafe { _mm512_loadu_si512(from.add(rest).cast()) });
    [_mm512_add_ps(values[0], rest[0]), _mm512_add_ps(values[1], rest[1])]
}

#[inline]
#[target_feature(enable = "avx512f")]
fn widened(both: __m512i) -> [__m512; 2] {
    [_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both)]
        .map(|half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half))))
}

/// Rounds 32 numbers of a pixel, and their rest where that is stored.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn write(to: *mut u16, values: [__m512; 2], rest: usize) {
    let both = bf16_of(values[0], values[1]);
    // SAFETY: the caller's contract.
    unsafe { _mm512_storeu_si512(to.cast(), both) };
    if rest > 0 {
        let [low, high] = widened(both);
        let left = bf16_of(_mm512_sub_ps(values[0], low), _mm512_sub_ps(values[1], high));
        // SAFETY: as above.
        unsafe { _mm512_storeu_si512(to.add(rest).cast(), left) };
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

    /// Calls `f(line, memory)` on all threads for the lines of all images with their borders.
    fn for_each_line(&self, f: impl Fn(usize, usize) + Sync) {
        let lines = self.batch * (self.height + 1);
        let line_len = self.pitch() * self.depth();
        let per_task = ((64 << 10) / line_len).max(1);
        parallel_for(lines.div_ceil(per_task), |task| {
            (task * per_task..lines.min((task + 1) * per_task)).for_each(|line| f(line, line * line_len));
        });
    }
}

/// Sets `len` numbers to zero.
unsafe fn clear(to: *mut u16, len: usize) {
    // SAFETY: the caller's contract.
    unsafe { to.write_bytes(0, len) };
}

pub(super) fn store(x: &[f32], shape: &MapShape, maps: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn round(x: &[f32], shape: &MapShape, to: *mut u16) {
        for (pixel, x) in x.chunks_exact(shape.channels).enumerate() {
            let to = to.wrapping_add(pixel * shape.depth());
            for (i, values) in x.as_chunks::<STEP>().0.iter().enumerate() {
                // SAFETY: the caller's contract.
                unsafe {
                    let halves = [_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16))];
                    write(to.add(i * STEP), halves, shape.rest());
                }
            }
        }
    }
    clear_ends(maps, shape);
    let (to, row_len) = (first(maps.as_ptr(), shape), shape.width * shape.channels);
    shape.for_each_line(|line, at| {
        let (image, row) = (line / (shape.height + 1), line % (shape.height + 1));
        let to = to.get().wrapping_add(at);
        // SAFETY: a line of the maps, which is this task's.
        unsafe {
            if row == shape.height {
                return clear(to, shape.pitch() * shape.depth());
            }
            round(&x[(image * shape.height + row) * row_len..][..row_len], shape, to);
            clear(to.add(shape.width * shape.depth()), shape.depth());
        }
    });
}

pub(super) fn load(maps: &[f32], shape: &MapShape, x: &mut [f32]) {
    #[target_feature(enable = "avx512f")]
    unsafe fn widen(from: *const u16, shape: &MapShape, x: &mut [f32]) {
        for (pixel, x) in x.chunks_exact_mut(shape.channels).enumerate() {
            let from = from.wrapping_add(pixel * shape.depth());
            for (i, values) in x.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
                // SAFETY: the caller's contract.
                unsafe {
                    let [low, high] = read(from.add(i * STEP), shape.rest());
                    _mm512_storeu_ps(values.as_mut_ptr(), low);
                    _mm512_storeu_ps(values.as_mut_ptr().add(16), high);
                }
            }
        }
    }
    let (from, row_len) = (first(maps.as_ptr(), shape), shape.width * shape.channels);
    let x = SendPtr(x.as_mut_ptr());
    shape.for_each_line(|line, at| {
        let (image, row) = (line / (shape.height + 1), line % (shape.height + 1));
        if row < shape.height {
            // SAFETY: a row of the numbers, which is this task's, and its line of the maps.
            unsafe {
                let x = x.slice((image * shape.height + row) * row_len, row_len);
                widen(from.get().wrapping_add(at), shape, x);
            }
        }
    });
}

pub(super) fn pool(x: &[f32], shape: &MapShape, pooled: &MapShape, y: &mut [f32]) {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn means(x: *const u16, shape: &MapShape, width: usize, y: *mut u16) {
        let (quarter, depth, line) = (_mm512_set1_ps(0.25), shape.depth(), shape.pitch() * shape.depth());
        for pixel in 0..width {
            for channel in (0..shape.channels).step_by(STEP) {
                let at = 2 * pixel * depth + channel;
                // SAFETY: the caller's contract.
                unsafe {
                    let four = [at, at + depth, at + line, at + line + depth];
                    let [a, b, c, d] = four.map(|at| read(x.add(at), shape.rest()));
                    let mean = [0, 1].map(|half: usize| {
                        let upper = _mm512_add_ps(a[half], b[half]);
                        let lower = _mm512_add_ps(c[half], d[half]);
                        _mm512_mul_ps(quarter, _mm512_add_ps(upper, lower))
                    });
                    write(y.add(pixel * shape.channels + channel), mean, 0);
                }
            }
        }
    }
    clear_ends(y, pooled);
    let (x, y, depth) = (first(x.as_ptr(), shape), first(y.as_ptr(), pooled), pooled.depth());
    let line_len = shape.pitch() * shape.depth();
    pooled.for_each_line(|line, at| {
        let (image, row) = (line / (pooled.height + 1), line % (pooled.height + 1));
        let y = y.get().wrapping_add(at);
        // SAFETY: a line of the output, which is this task's, and two lines of the input.
        unsafe {
            if row == pooled.height {
                return clear(y, pooled.pitch() * depth);
            }
            let x = x.get().wrapping_add((image * (shape.height + 1) + 2 * row) * line_len);
            means(x, shape, pooled.width, y);
            clear(y.add(pooled.width * depth), depth);
        }
    });
}
