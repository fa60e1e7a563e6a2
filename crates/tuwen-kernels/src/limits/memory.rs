//! How fast memory is read.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::threads::SendPtr;
use crate::{parallel_for, threads};

/// More than caches hold that are not shared with others, and little enough to be had.
const LARGEST: usize = 256 << 20;
const SMALLEST: usize = 1 << 20;

/// Places from which a thread reads at once: more than one keeps more requests under way.
const STREAMS: usize = 4;
/// Words that are added up side by side.
const LANES: usize = 64;

/// Time of all passes, and how many there are at least.
const ALL_PASSES: Duration = Duration::from_millis(40);
const PASSES: usize = 3;

/// Bytes a second that all [`threads`] together read from a working set of `bytes`, over and over: from memory if no
/// cache holds it. Sizes are brought between 1 and 256 MiB.
pub fn read_bandwidth(bytes: usize) -> f64 {
    let block = STREAMS * LANES;
    let words = bytes.clamp(SMALLEST, LARGEST) / size_of::<u64>();
    let per_thread = (words / threads()).next_multiple_of(block).max(block);
    let mut memory = vec![0_u64; per_thread * threads()];
    touch(&mut memory, per_thread);
    let (mut best, mut passes, begin) = (0.0_f64, 0, Instant::now());
    while passes < PASSES || begin.elapsed() < ALL_PASSES {
        let pass = Instant::now();
        parallel_for(threads(), |i| {
            black_box(sum(&memory[i * per_thread..][..per_thread]));
        });
        best = best.max(size_of_val(&memory[..]) as f64 / pass.elapsed().as_secs_f64());
        passes += 1;
    }
    best
}

/// Writes to each page, in the thread that will read it: zeros that nobody wrote are one page only.
fn touch(memory: &mut [u64], per_thread: usize) {
    let start = SendPtr(memory.as_mut_ptr());
    parallel_for(threads(), |i| {
        // SAFETY: the parts of different threads do not overlap, and all lie in `memory`.
        unsafe { start.slice(i * per_thread, per_thread) }.fill(1);
    });
}

multiversion! {
    fn sum(words: &[u64]) -> u64 {
        let mut sums = [0_u64; LANES];
        let quarter = words.len() / STREAMS;
        let [a, b, c, d] = std::array::from_fn(|i| words[i * quarter..][..quarter].chunks_exact(LANES));
        for (((a, b), c), d) in a.zip(b).zip(c).zip(d) {
            for lane in 0..LANES {
                sums[lane] = sums[lane].wrapping_add(a[lane]) ^ b[lane].wrapping_add(c[lane]) ^ d[lane];
            }
        }
        sums.iter().fold(0, |total, &sum| total.wrapping_add(sum))
    }
}
