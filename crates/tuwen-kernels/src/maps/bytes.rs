//! Maps in bytes, for convolutions whose weight is in int8: `x = scale · q`, with q from 0 to 255.
//!
//! A task makes bytes of its part of maps in bf16 and uses them up while they are in the cache. Each number is then read by
//! all columns of the weight, in half of the steps. A convolution of single pixels has a scale for each pixel, its greatest number
//! over 255; one whose sums run over neighbours has one for each image.

use std::arch::x86_64::*;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::MapShape;
use crate::aligned::Scratch;

/// Numbers of a step.
const STEP: usize = 64;
/// More than the numbers of a pixel, so that pixels of a tile do not compete for the same lines of a cache.
const GAP: usize = 64;

/// Pixels in bytes.
pub(super) struct Bytes {
    numbers: Scratch,
    scales: Vec<f32>,
    /// The first pixel, and how many.
    first: isize,
    count: usize,
    line: usize,
}

/// What turns numbers up to `greatest` into bytes and back. Where that is no finite number, neither is the scale.
#[derive(Clone, Copy)]
struct Scale {
    scale: f32,
    factor: f32,
}

impl Scale {
    fn new(greatest: f32) -> Self {
        let scale = greatest / 255.0;
        Self { scale, factor: if greatest > 0.0 { scale.recip() } else { 0.0 } }
    }
}

impl Bytes {
    /// Pixels `rows` of maps whose pixel 0 is `x`, and `reach` more on both sides. `greatest` has one number for each image, or is
    /// empty where pixels have scales of their own.
    ///
    /// # Safety
    /// There are these pixels, in maps that are not exact.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) unsafe fn new(
        x: *const u16,
        shape: &MapShape,
        rows: Range<usize>,
        reach: usize,
        greatest: &[f32],
    ) -> Self {
        let (count, line) = (rows.len() + 2 * reach, shape.channels + GAP);
        let mut bytes = Self {
            numbers: Scratch::take(count * line / size_of::<f32>()),
            scales: vec![0.0; count],
            first: rows.start as isize - reach as isize,
            count,
            line,
        };
        // SAFETY: the caller's contract.
        unsafe {
            if greatest.is_empty() {
                bytes.with_scales_of_pixels(x, shape.channels);
            } else {
                bytes.with_scales_of_images(x, shape, greatest);
            }
        }
        bytes
    }

    /// Where pixel 0 would be, and the distance of pixels.
    pub(super) fn lines(&self) -> (*const u8, usize) {
        let start = self.numbers.as_ptr().cast::<u8>();
        (start.wrapping_offset(-self.first * self.line as isize), self.line)
    }

    /// The scales of pixels from this one on.
    pub(super) fn scales(&self, pixel: usize) -> &[f32] {
        &self.scales[(pixel as isize - self.first) as usize..]
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn with_scales_of_pixels(&mut self, x: *const u16, channels: usize) {
        for i in 0..self.count {
            let from = x.wrapping_offset((self.first + i as isize) * channels as isize);
            // SAFETY: this pixel exists, says the caller of `new`.
            unsafe {
                let scale = Scale::new(greatest_of(from, channels));
                self.convert(i, from, channels, scale);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn with_scales_of_images(&mut self, x: *const u16, shape: &MapShape, greatest: &[f32]) {
        let per_image = (shape.height + 1) * shape.pitch();
        let mut i = 0;
        while i < self.count {
            // The border of two images, and what is beyond the last, may have any scale.
            let pixel = self.first + i as isize;
            let image = (pixel.max(0) as usize / per_image).min(shape.batch - 1);
            let end = ((image + 1) * per_image) as isize - self.first;
            let end = if image + 1 == shape.batch { self.count } else { self.count.min(end as usize) };
            let scale = Scale::new(greatest[image]);
            while i < end {
                let from = x.wrapping_offset((self.first + i as isize) * shape.channels as isize);
                // SAFETY: as above.
                unsafe { self.convert(i, from, shape.channels, scale) };
                i += 1;
            }
        }
    }

    /// Converts pixel `i` of those that are here.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn convert(&mut self, i: usize, from: *const u16, channels: usize, scale: Scale) {
        let order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
        self.scales[i] = scale.scale;
        let to = self.numbers.as_mut_ptr().cast::<u8>().wrapping_add(i * self.line);
        for channel in (0..channels).step_by(STEP) {
            let from = from.wrapping_add(channel);
            // SAFETY: the pixel has whole steps, and the line holds them.
            unsafe {
                let halves = [integers(from, scale.factor), integers(from.add(STEP / 2), scale.factor)];
                let mixed = _mm512_packus_epi16(halves[0], halves[1]);
                _mm512_storeu_si512(to.add(channel).cast(), _mm512_permutexvar_epi64(order, mixed));
            }
        }
    }
}

/// 32 numbers in bf16, times a factor, as integers of 16 bits. They are added to 2^23, whose last bit is worth one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn integers(from: *const u16, factor: f32) -> __m512i {
    let (factor, whole) = (_mm512_set1_ps(factor), _mm512_set1_ps(8_388_608.0));
    // SAFETY: the caller's contract.
    let pairs = unsafe { _mm512_loadu_si512(from.cast()) };
    let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs));
    let odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32)));
    let even = _mm512_castps_si512(_mm512_fmadd_ps(even, factor, whole));
    let odd = _mm512_castps_si512(_mm512_fmadd_ps(odd, factor, whole));
    _mm512_mask_blend_epi16(0xaaaa_aaaa, even, _mm512_slli_epi32::<16>(odd))
}

/// The greatest of `len` numbers in bf16 and zero; not-a-numbers are the greatest. Numbers that are not negative are ordered as
/// their bits are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn greatest_of(from: *const u16, len: usize) -> f32 {
    let mut greatest = _mm512_setzero_si512();
    for at in (0..len).step_by(STEP / 2) {
        // SAFETY: the caller's contract.
        greatest = _mm512_max_epi16(greatest, unsafe { _mm512_loadu_si512(from.add(at).cast()) });
    }
    let half = _mm256_max_epi16(_mm512_castsi512_si256(greatest), _mm512_extracti64x4_epi64::<1>(greatest));
    let quarter = _mm_max_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    let inverted = _mm_minpos_epu16(_mm_sub_epi16(_mm_set1_epi16(i16::MAX), quarter));
    let bits = i16::MAX as u32 - _mm_extract_epi16::<0>(inverted) as u32;
    f32::from_bits(bits << 16)
}

/// The greatest number of each image of maps whose pixel 0 is `x`, and zero.
///
/// # Safety
/// The CPU has AVX-512; there are these maps, and they are not exact.
pub(super) unsafe fn greatest_of_images(x: *const u16, shape: &MapShape) -> Vec<f32> {
    let greatest: Vec<AtomicU32> = (0..shape.batch).map(|_| AtomicU32::new(0)).collect();
    let x = crate::threads::SendPtr(x.cast_mut());
    shape.for_each_line(|line, at| {
        // SAFETY: the caller's contract.
        let of_line = unsafe { greatest_of(x.get().wrapping_add(at), shape.width * shape.channels) };
        greatest[line / (shape.height + 1)].fetch_max(of_line.to_bits(), Ordering::Relaxed);
    });
    greatest.into_iter().map(|bits| f32::from_bits(bits.into_inner())).collect()
}
